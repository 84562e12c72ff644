"""Stop replicas, and take away what was placed for them."""

from __future__ import annotations

from typing import Any

from heavylift.errors import HeavyliftError
from heavylift.fleet.inventory import Host
from heavylift.fleet.question import ask
from heavylift.fleet.ssh import each
from heavylift.render.release import USER
from heavylift.workspace import Workspace

__all__ = ["down"]


def down(workspace: Workspace, *, purge: bool) -> dict[str, dict[str, Any] | HeavyliftError]:
    """Stop the unit on all hosts at once; `purge` also removes the deployment's files and the weights it placed."""
    plan = workspace.plan
    weights = plan.model_directory if plan.checkpoint else None
    cache = plan.deployment.paths.cache
    query = {"name": plan.deployment.name, "cache": cache, "weights": weights, "user": USER}

    def work(host: Host) -> dict[str, Any]:
        stop = {"unit": plan.unit, "disable": True}
        answer = ask(host, workspace.known_hosts, "stop", stop, timeout_s=plan.timeouts.stop_s + 60)
        return ask(host, workspace.known_hosts, "remove", query, timeout_s=600) if purge else answer

    return each(workspace.inventory.hosts, work)
