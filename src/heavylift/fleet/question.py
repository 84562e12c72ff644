"""Ask hosts through the program that runs there: a question in, one JSON document out, all hosts at the same time."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from heavylift.errors import FleetError, HeavyliftError
from heavylift.fleet import ssh
from heavylift.fleet.inventory import Host
from heavylift.fleet.onhost import first_call

__all__ = ["ask", "ask_each"]


def ask(
    host: Host,
    known_hosts: Path,
    command: str,
    query: dict[str, Any],
    *,
    timeout_s: float = 60.0,
    input: str | None = None,
) -> dict[str, Any]:
    """Run one of the host program's commands; raise `FleetError` with its own line where it fails."""
    line = first_call(command, query)
    if host.user != "root":
        line = f"sudo -n sh -c {shlex.quote(line)}"
    done = ssh.run(host, known_hosts, line, timeout_s=timeout_s, input=input)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"{command} ended with {done.returncode}"]
        raise FleetError(f"{host.name}: {said[-1].removeprefix('heavylift: ')}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def ask_each(
    hosts: Iterable[Host],
    known_hosts: Path,
    command: str,
    query: Callable[[Host], dict[str, Any]],
    *,
    timeout_s: float = 60.0,
) -> dict[str, dict[str, Any] | HeavyliftError]:
    """Ask all hosts at once; a host's own failure is its answer."""
    return ssh.each(hosts, lambda host: ask(host, known_hosts, command, query(host), timeout_s=timeout_s))
