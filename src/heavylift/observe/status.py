"""The state of every replica, asked from its host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heavylift.errors import HeavyliftError
from heavylift.fleet.inventory import Host
from heavylift.fleet.question import ask_each
from heavylift.render.hosts import listen_address
from heavylift.workspace import Workspace

__all__ = ["Replica", "document", "status"]


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as its host tells it; `seen` is empty where the host could not be asked (`error`)."""

    host: Host
    url: str
    seen: dict[str, Any]
    error: str | None = None

    @property
    def serves(self) -> bool:
        """Whether the unit is up, which it is only after it streamed tokens."""
        return self.seen.get("state") == "active"


def status(workspace: Workspace, *, seconds: float = 1.0) -> list[Replica]:
    """Ask all hosts at once; rates are over `seconds`."""
    plan = workspace.plan

    def query(host: Host) -> dict[str, Any]:
        return {
            "unit": plan.unit,
            "home": plan.home,
            "record": f"/run/heavylift/{plan.deployment.name}/gate.json",
            "address": listen_address(plan, host),
            "port": plan.deployment.access.port,
            "seconds": seconds,
        }

    answers = ask_each(workspace.inventory.hosts, workspace.known_hosts, "status", query, timeout_s=30 + seconds)
    return [_replica(workspace, host, answers[host.name]) for host in workspace.inventory.hosts]


def document(workspace: Workspace, replicas: list[Replica]) -> dict[str, Any]:
    """Return what `status --json` prints."""
    return {
        "schema": "heavylift/status",
        "version": 1,
        "deployment": workspace.deployment.name,
        "release": workspace.release.id,
        "replicas": [
            {
                "host": replica.host.name,
                "url": replica.url,
                **replica.seen,
                "error": replica.error or replica.seen.get("error"),
            }
            for replica in replicas
        ],
    }


def _replica(workspace: Workspace, host: Host, answer: dict[str, Any] | HeavyliftError) -> Replica:
    address = listen_address(workspace.plan, host)
    url = f"http://{f'[{address}]' if ':' in address else address}:{workspace.deployment.access.port}"
    if isinstance(answer, HeavyliftError):
        return Replica(host, url, {}, answer.message)
    return Replica(host, url, answer)
