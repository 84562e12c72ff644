"""The journals of all replicas, as they are written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection

from heavylift.errors import FleetError, HeavyliftError
from heavylift.fleet import ssh
from heavylift.fleet.inventory import Host
from heavylift.run import stream
from heavylift.workspace import Workspace

__all__ = ["read"]


def read(
    workspace: Workspace, only: Collection[str], *, lines: int, follow: bool, on_line: Callable[[str, str], None]
) -> None:
    """Hand each journal line to `on_line(host, line)`; raise for hosts that could not be read, after the others."""
    hosts = [host for host in workspace.inventory.hosts if not only or host.name in only]
    unknown = sorted(set(only) - {host.name for host in hosts})
    if unknown:
        known = ", ".join(host.name for host in workspace.inventory.hosts)
        raise FleetError(f"no host {unknown[0]!r}; the inventory has {known}")

    def journal(host: Host) -> int:
        command = f"journalctl -u {shlex.quote(workspace.plan.unit)} -o short-iso --no-hostname -q -n {lines}"
        command += " -f" if follow else ""
        sudo = "" if host.user == "root" else "sudo -n "
        argv = [*ssh.words(host, workspace.known_hosts), host.address, sudo + command]
        status = stream(argv, on_line=lambda line: on_line(host.name, line), timeout_s=None if follow else 60)
        if status == 255:
            raise FleetError(f"{host.name}: cannot be reached", hint="`heavylift status` says why")
        return status

    failures = [result for result in ssh.each(hosts, journal).values() if isinstance(result, HeavyliftError)]
    if failures:
        raise failures[0]
