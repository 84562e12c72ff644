"""Weights: copied beside, verified against the manifest, then given their name."""

from __future__ import annotations

import functools
from typing import Any

from pyinfra import logger
from pyinfra.api import deploy

from deploy.step import Command, changes, local, machine, on_host, perform, target, tell, workspace
from heavylift.apply.fetch import Job, fetch
from heavylift.apply.weights import job
from heavylift.errors import FleetError, HeavyliftError
from heavylift.fleet import ssh

__all__ = ["place"]

SLOWEST_BYTES_PER_S = 20e6


@deploy("Weights")
def place() -> None:
    """Place the checkpoint where the host lacks it; check it where it was there already."""
    plan, needed = target().plan, changes().weights
    checkpoint = plan.checkpoint
    commands: list[Command] = []
    limit_s = 600 + int((checkpoint.manifest.size if checkpoint else 800e9) / SLOWEST_BYTES_PER_S)
    if needed == "place" and checkpoint is not None:
        staging = f"{plan.model_directory}.partial"
        files = [{"path": path, "size": size, "sha256": sha256} for path, size, sha256 in checkpoint.manifest.files]
        where = {"staging": staging, "directory": plan.model_directory}
        commands = [
            on_host("stage", **where, files=files, manifest=checkpoint.manifest.text),
            local(_copy, staging, limit_s),
            on_host("publish", **where),
        ]
    elif needed == "fetch":
        commands = [local(_fetch)]
    elif needed == "check":
        commands = [on_host("check", directory=plan.model_directory)]
    perform(
        name="Place and verify the checkpoint",
        commands=commands,
        reason=f"{plan.model_directory} is verified",
        _timeout=limit_s,
    )


def _copy(state: Any, host: Any, staging: str, limit_s: int) -> bool:
    work = workspace()
    checkpoint = work.plan.checkpoint
    assert checkpoint is not None
    names = [path for path, _, _ in checkpoint.manifest.files]
    try:
        ssh.rsync(machine(host.name), work.known_hosts, checkpoint.directory, names, staging, timeout_s=limit_s)
    except FleetError as error:
        tell(host, error)
        return False
    return True


def _fetch(state: Any, host: Any) -> bool:
    def report(line: str) -> None:
        logger.info(f"{host.print_prefix}weights: {line.removeprefix(f'{host.name}: ')}")

    try:
        fetch(machine(host.name), _job(), report)
    except HeavyliftError as error:
        tell(host, error)
        return False
    return True


@functools.cache
def _job() -> Job:
    """All hosts of a run share one, and with it the addresses that the hub signed."""
    return job(workspace(), logger.info)
