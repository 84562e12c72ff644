"""One lock a host, held over the run's own SSH connection: it ends with the run, however that ends."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any

import gevent
from pyinfra import logger

from deploy.step import local, perform, target
from heavylift.fleet.onhost import first_call

__all__ = ["take"]

BEAT_S = 10
_HELD: dict[str, Any] = {}


def take() -> None:
    """Take the current host's lock, or fail with who holds it."""
    plan = target().plan
    query = {
        "path": f"/run/lock/heavylift-{plan.deployment.name}.lock",
        "owner": f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})",
    }
    perform(name="Lock | Take the host's lock", commands=[local(_take, query)], reason="")


def _take(state: Any, host: Any, query: dict[str, Any]) -> bool:
    client = getattr(host.connector, "client", None)
    if client is None or host.name in _HELD:
        return True
    channel = client.get_transport().open_session()
    channel.settimeout(30)
    command = first_call("lock", query)
    channel.exec_command(f"sudo -n sh -c '{_escaped(command)}'" if host.data.get("_sudo") else command)
    if channel.recv(64).startswith(b"held"):
        _HELD[host.name] = (channel, gevent.spawn(_beat, channel))
        return True
    for line in channel.makefile_stderr("r").read().decode("utf-8", "replace").splitlines():
        logger.error(f"{host.print_prefix}{line}")
    return False


def _beat(channel: Any) -> None:
    while not channel.closed:
        gevent.sleep(BEAT_S)
        channel.sendall(b"\n")


def _escaped(command: str) -> str:
    return command.replace("'", "'\\''")
