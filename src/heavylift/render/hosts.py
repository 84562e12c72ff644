"""What differs by host, and what a Prometheus needs to know of all of them."""

from __future__ import annotations

from heavylift.fleet.inventory import Host, Inventory
from heavylift.plan import Plan
from heavylift.render.release import Release
from heavylift.render.template import File, fill

__all__ = ["host_files", "listen_address", "scrape_file"]

_BINDING = "VLLM_CPU_OMP_THREADS_BIND"


def listen_address(plan: Plan, host: Host) -> str:
    """Return the address that a host's replica binds to."""
    return "127.0.0.1" if plan.deployment.access.bind == "loopback" else host.private_address


def host_files(plan: Plan, host: Host, slot: int) -> tuple[File, ...]:
    """Return a host's own files; `slot` is the CPU core that a lab host's engine gets for itself."""
    variables = {
        "HEAVYLIFT_ADDRESS": listen_address(plan, host),
        "HEAVYLIFT_PORT": str(plan.deployment.access.port),
        "VLLM_HOST_IP": host.private_address,
    }
    if plan.deployment.hosts.source == "lab" and _BINDING not in dict(plan.variables):
        # Lab hosts share one machine: by itself every engine would bind its threads to the same core 0.
        variables[_BINDING] = str(slot)
    context = {"host": host.name, "variables": sorted(variables.items())}
    return (File(f"{plan.secrets}/host.env", fill("engine/host.env.j2", context)),)


def scrape_file(plan: Plan, release: Release, inventory: Inventory) -> File:
    """Return a Prometheus scrape configuration for all replicas."""
    deployment = plan.deployment
    targets = [
        {
            "address": f"{_bracketed(listen_address(plan, host))}:{deployment.access.port}",
            "labels": [
                ("deployment", deployment.name),
                ("host", host.name),
                ("model", deployment.served_name),
                ("release", release.id),
                *sorted(deployment.monitoring.labels.items()),
            ],
        }
        for host in inventory.hosts
    ]
    context = {"name": deployment.name, "loopback": deployment.access.bind == "loopback", "targets": targets}
    return File("prometheus.yml", fill("metrics/prometheus.yml.j2", context))


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
