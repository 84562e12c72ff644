"""The golden cases: a deployment each, rendered as it would be for its hosts."""

from __future__ import annotations

from pathlib import Path

from heavylift.fleet.inventory import Host, Inventory
from heavylift.plan import plan
from heavylift.render import host_files, render, scrape_file
from heavylift.spec import load
from heavylift.weights import Checkpoint, Manifest

__all__ = ["CASES", "inventory", "load_case", "planned", "rendered"]

CASES = sorted(path.parent for path in Path(__file__).parent.glob("cases/*/deployment.yaml"))
WEIGHTS = Checkpoint(
    Path("model"), Manifest((("config.json", 2, "a" * 64), ("model.safetensors", 30_000_000, "b" * 64))), {}
)


def load_case(name):
    """Return one case's deployment."""
    return load(Path(__file__).parent / "cases" / name / "deployment.yaml")


def planned(deployment):
    """Plan it; a checkpoint of the operator's machine is a fixed one."""
    operator = deployment.model.path is not None and deployment.model.place == "operator"
    return plan(deployment, WEIGHTS if operator else None)


def inventory(deployment):
    """Return the hosts of the file, or two of a lab."""
    if deployment.hosts.source == "owned":
        hosts = [Host(h.name, h.address, h.private_address or h.address) for h in deployment.hosts.list]
    else:
        hosts = [Host(f"h{n}", f"10.86.1.{n + 10}", f"10.86.1.{n + 10}") for n in (1, 2)]
    return Inventory(deployment.hosts.source, tuple(hosts))


def rendered(deployment):
    """Return every rendered text by its place: the release, each host's own files, and the scrape configuration."""
    planned_ = planned(deployment)
    release = render(planned_)
    texts = {f"release/{file.path.rpartition('/')[2]}": file.text for file in release.files}
    for slot, host in enumerate(inventory(deployment).hosts):
        texts |= {f"{host.name}{file.path}": file.text for file in host_files(planned_, host, slot)}
    scrape = scrape_file(planned_, release, inventory(deployment))
    return {**texts, scrape.path: scrape.text}
