"""The unit: pointed at the release, started, and believed only once it streamed tokens."""

from __future__ import annotations

from typing import Any

from pyinfra.api import deploy

from deploy.step import Command, changes, local, machine, on_host, perform, target, tell, workspace
from heavylift.errors import FleetError
from heavylift.fleet.question import ask

__all__ = ["activate", "gate", "start"]


@deploy("Service")
def activate() -> None:
    """Write settings, key and unit, and point the link at the release; not while another release serves."""
    needed, wanted = changes(), target()
    commands: list[Command] = []
    if needed.activates:
        moves = []
        if needed.key:
            commands.append(local(_send_key, f"{wanted.key_path}.new"))
            moves = [[f"{wanted.key_path}.new", wanted.key_path]]
        files = [{"path": file.path, "text": file.text, "mode": file.mode} for file in needed.settings]
        links = {wanted.link: f"releases/{wanted.release.id}"} if needed.link else {}
        commands.append(on_host("place", files=files, moves=moves, links=links))
    perform(name="Activate the release", commands=commands, reason=needed.waiting or "it is active")


@deploy("Service")
def start() -> None:
    """Start the unit where nothing serves, and wait until it is up."""
    mode, plan = changes().start, target().plan
    limit_s = plan.timeouts.start_s + 30 + (plan.timeouts.stop_s if mode == "restart" else 0)
    perform(
        name="Start the engine",
        commands=[on_host("start", unit=plan.unit, mode=mode, timeout_s=limit_s)] if mode else [],
        reason="it serves",
        _timeout=limit_s + 60,
    )


@deploy("Service")
def gate() -> None:
    """Let the replica prove itself: stream tokens, and move its counter by them."""
    wanted = target()
    plan = wanted.plan
    query = {
        "address": wanted.address,
        "port": plan.deployment.access.port,
        "model": plan.deployment.served_name,
        "timeout_s": 60,
        "record": f"/run/heavylift/{plan.deployment.name}/gate.json",
    }
    if plan.deployment.access.key is not None:
        query["key_file"] = wanted.key_path
    perform(name="Gate", commands=[on_host("gate", **query)], reason="", _timeout=240)


def _send_key(state: Any, host: Any, path: str) -> bool:
    """Write the key over standard input; pyinfra's upload leaves it world-readable for a moment where sudo is used."""
    try:
        ask(machine(host.name), workspace().known_hosts, "secret", {"path": path}, input=workspace().key())
    except FleetError as error:
        tell(host, error)
        return False
    return True
