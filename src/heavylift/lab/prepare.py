"""What `heavylift up` does for a deployment on the lab: hosts, and the engine that they all see."""

from __future__ import annotations

import os
from collections.abc import Callable

from heavylift.lab import Lab
from heavylift.render import install_script
from heavylift.workspace import Workspace

__all__ = ["prepare"]

VARIABLE = "HEAVYLIFT_LAB"  # names another lab than the default one


def prepare(workspace: Workspace, report: Callable[[str], None]) -> None:
    """Make the lab's hosts and build the engine environment, where they are not there yet."""
    lab = Lab(os.environ.get(VARIABLE) or "lab")
    hosts = workspace.deployment.hosts
    inventory = lab.up(hosts.count if hosts.source == "lab" else 1, on_line=lambda line: report(f"lab: {line}"))
    inventory.save(workspace.folder / "inventory.json")
    environment = workspace.plan.environment
    if environment is not None:
        lab.build_engine(environment.name, install_script(environment), on_line=lambda line: report(f"engine: {line}"))
