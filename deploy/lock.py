"""One lock a host, held over the run's own SSH connection: it ends with the run, however that ends.

The lock's other end echoes every beat. A host that is frozen still acknowledges packets, so only a missing echo tells
that it hangs; its connection is then closed, which ends the step that waits for it, and the other hosts go on.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import time
from typing import Any

import gevent
from pyinfra import host, logger
from pyinfra.api import deploy
from pyinfra.api.command import StringCommand

from deploy.step import perform, target
from heavylift.fleet.onhost import first_call

__all__ = ["take"]

BEAT_S = 5.0
SILENCE_S = 30.0
TAKING_S = 60.0
_HELD: dict[str, Any] = {}


@deploy("Lock")
def take() -> None:
    """Take the current host's lock before anything looks at it, or fail with who holds it."""
    process = os.environ.get("HEAVYLIFT_PID") or os.getpid()  # what the user can see and end
    query = {
        "path": f"/run/lock/heavylift-{target().plan.deployment.name}.lock",
        "owner": f"{getpass.getuser()}@{socket.gethostname()} (process {process})",
    }
    refused = _take(query)
    failure = [StringCommand(f"echo {shlex.quote(refused)} >&2; exit 1")] if refused else []
    perform(name="Take the host's lock", commands=failure, reason="it is ours")


def _take(query: dict[str, Any]) -> str:
    """Return why the lock could not be taken; empty when it is held."""
    client = getattr(host.connector, "client", None)
    if client is None or host.name in _HELD:
        return ""
    channel = client.get_transport().open_session()
    channel.settimeout(TAKING_S)
    command = first_call("lock", query)
    channel.exec_command(f"sudo -n sh -c '{_escaped(command)}'" if host.data.get("_sudo") else command)
    if _receive(channel).startswith(b"held"):
        _HELD[host.name] = (channel, gevent.spawn(_beat, channel, client, host.print_prefix))
        return ""
    return (
        _said(channel)
        or f"heavylift: its lock could not be taken within {TAKING_S:g} s: the host hangs or is overloaded"
    )


def _said(channel: Any) -> str:
    """Return what the other end said when it ended; empty while it has not."""
    channel.settimeout(1.0)
    try:
        text: str = channel.makefile_stderr("r").read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return text


def _receive(channel: Any) -> bytes:
    try:
        received: bytes = channel.recv(64)
    except OSError:
        return b""
    return received


def _beat(channel: Any, client: Any, prefix: str) -> None:
    """Ask the other end for a sign of life for as long as the connection stands."""
    heard = time.monotonic()
    channel.settimeout(BEAT_S)
    while time.monotonic() - heard < SILENCE_S:
        try:
            channel.sendall(b"\n")
        except OSError:
            return
        if _receive(channel):
            heard = time.monotonic()
            gevent.sleep(BEAT_S)
        elif channel.closed:
            return
    logger.error(f"{prefix}heavylift: no answer for {SILENCE_S:g} s: the host hangs, or the way to it is cut")
    client.close()


def _escaped(command: str) -> str:
    return command.replace("'", "'\\''")
