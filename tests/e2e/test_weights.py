"""Weights from a hub on real hosts: fetched by units of their own, which outlive the operator and every kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift.lab import Lab
from tests.weights.hub_server import COMMIT, REPO, HubServer, serve

from .support import Site, deployment, until

pytestmark = pytest.mark.lab

TOKEN = "hf_" + "onlyhere"
PLAIN = ("config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer_config.json")
DIRECTORY = f"/srv/models/org--tiny/{COMMIT}"
UNITS = "systemctl list-units --plain --no-legend --state=active 'heavylift-fetch-*'"


class Origin:
    """A hub that the hosts of a lab can reach, and the deployment that wants its model."""

    def __init__(self, server: HubServer, site: Site) -> None:
        self.server, self.site = server, site

    @property
    def total(self) -> int:
        """What one host takes from the store."""
        return sum(len(content) for path, content in self.server.files.items() if path not in PLAIN)

    def state(self, host: str) -> dict[str, object]:
        """Return what `weights status` says of a host."""
        done = self.site.heavylift("weights", "status", "--json")
        row: dict[str, object] = next(row for row in json.loads(done.stdout)["hosts"] if row["host"] == host)
        return row


@pytest.fixture
def origin(ready: None, stub: Path, model: Path, tmp_path: Path) -> Iterator[Origin]:
    """Make two fresh hosts, and a gated hub with the tiny model on the lab's own network."""
    lab = Lab("e2e-weights")
    lab.down()
    try:
        site = deployment(lab, tmp_path, model, 2)
        site.more(2)
        site.lay(stub)
        site.change(model={"path": None, "repo": REPO, "revision": COMMIT, "name": "tiny"})
        files = {path.name: path.read_bytes() for path in model.iterdir() if path.name != "manifest.json"}
        gateway = site.address("h1").rpartition(".")[0] + ".1"
        with serve(HubServer(files, plain=PLAIN, token=TOKEN), gateway) as server:
            site.environment.update(HF_ENDPOINT=server.url, HF_TOKEN=TOKEN)
            yield Origin(server, site)
    finally:
        lab.down()


def test_hosts_fetch_prove_and_serve(origin: Origin) -> None:
    """Fetched once, unchanged afterwards, verified to the last byte, and what `up` starts; the token stays here."""
    site, server = origin.site, origin.server
    site.change(model={"revision": "main"})
    refused = site.heavylift("weights", "fetch")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == f"hint: pin the commit: `revision: {COMMIT}` (main today)"
    site.change(model={"revision": COMMIT})
    done = site.heavylift("weights", "fetch", "--json")
    assert (done.returncode, done.stderr.count("fetched 0.01 GB")) == (0, 2), done.stderr
    assert [row["moved"] for row in json.loads(done.stdout)["hosts"]] == [origin.total, origin.total]
    assert server.sent == 2 * origin.total
    for host in ("h1", "h2"):
        assert site.on(host, f"grep -rl {TOKEN} /run /srv /var/lib /tmp /root /etc || true") == ""
        assert (
            site.on(host, "ls -A /srv/models/org--tiny; ls -A /run/heavylift/heavylift-fetch-*")
            == f"{COMMIT}\nprogram\nstate.json"
        )
    again = site.heavylift("weights", "fetch")
    assert again.stderr.splitlines()[-2:] == ["h1: unchanged", "h2: unchanged"]
    deep = site.heavylift("weights", "verify", "--deep")
    assert (deep.returncode, deep.stderr.count("as promised")) == (0, 2), deep.stderr
    assert origin.state("h1")["status"] == "verified"
    up = site.heavylift("up")
    assert up.returncode == 0, up.stderr
    assert server.sent == 2 * origin.total
    release = json.loads(site.on("h1", "cat /opt/heavylift/tiny/current/release.json"))
    assert release["model"]["manifest"] == json.loads(done.stdout)["manifest"]
    assert site.heavylift("apply").stderr.count("nothing to change") == 2
    site.on("h2", f"sed -i '$ s/./X/' {DIRECTORY}/model-00001-of-00003.safetensors")
    wrong = site.heavylift("weights", "verify", "--host", "h2")
    assert (wrong.returncode, "model-00001-of-00003.safetensors: not what the manifest says" in wrong.stderr) == (
        1,
        True,
    )
    assert site.heavylift("apply").returncode == 0
    assert server.sent == 2 * origin.total + len(server.files["model-00001-of-00003.safetensors"])
    assert site.heavylift("down", "--purge").returncode == 0
    assert site.on("h1", "ls -A /run/heavylift /srv/models 2>/dev/null || true") == ""


def test_killed_at_both_ends(origin: Origin) -> None:
    """Heavylift killed: the hosts go on. The host's unit killed: the next run continues inside the files."""
    site, server = origin.site, origin.server
    server.hold_at = origin.total  # half of what both take
    begun = site.begin("weights", "fetch")
    assert server.held.wait(60)
    begun.kill()
    begun.wait()
    assert site.on("h1", UNITS) != ""
    seen = origin.state("h1")
    assert (seen["status"], seen["fetch"]["state"]) == ("absent", "running")  # type: ignore[index]
    site.on("h1", "systemctl kill --signal=KILL 'heavylift-fetch-*'")
    server.hold_at = None
    server.go.set()
    until(lambda: site.on("h2", UNITS) == "")
    assert origin.state("h2")["status"] == "verified"
    assert origin.state("h1")["fetch"]["state"] == "stopped"  # type: ignore[index]
    done = site.heavylift("weights", "fetch")
    assert done.returncode == 0, done.stderr
    assert "h2: unchanged" in done.stderr
    assert 2 * origin.total <= server.sent <= 2 * origin.total * 1.01 + origin.total * 0.01
