"""How pyinfra reaches the hosts of the inventory: strict keys, bounded waits, no Nagle. The one user of paramiko."""

from __future__ import annotations

import os
import socket
from typing import Any

import paramiko

from heavylift.fleet.inventory import Host
from heavylift.workspace import Workspace

__all__ = ["hosts"]

COMMAND_S = 120
# A command costs 4 ms instead of 48 ms without Nagle's algorithm; a cable cut in mid-command ends it after 30 s.
_OPTIONS = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
)


def hosts(source: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the inventory's hosts as pyinfra takes them; `source` must be the deployment's own."""
    workspace = Workspace.current()
    wanted = workspace.deployment.hosts.source
    if wanted != source:
        raise SystemExit(f"{workspace.path}: hosts come from `{wanted}`; use inventories/{wanted}.py")
    return [(host.name, _data(host, workspace)) for host in workspace.inventory.hosts]


def _data(host: Host, workspace: Workspace) -> dict[str, Any]:
    data: dict[str, Any] = {
        "ssh_hostname": host.address,
        "ssh_port": host.port,
        "ssh_user": host.user,
        "ssh_strict_host_key_checking": "yes",
        "ssh_paramiko_connect_kwargs": {
            "transport_factory": _transport,
            "channel_timeout": 15,
            "banner_timeout": 10,
            "auth_timeout": 20,
        },
        "_timeout": COMMAND_S,
    }
    if host.host_key:
        data["ssh_known_hosts_file"] = str(workspace.known_hosts)
    if host.key:
        data["ssh_key"] = os.path.expanduser(host.key)  # noqa: PTH111  pyinfra takes a string
    if host.user != "root":
        data["_sudo"] = True
    return data


def _transport(sock: socket.socket, **options: Any) -> paramiko.Transport:
    if getattr(sock, "family", None) in {socket.AF_INET, socket.AF_INET6}:
        for level, name, value in _OPTIONS:
            if hasattr(socket, name):
                sock.setsockopt(level, getattr(socket, name), value)
    return paramiko.Transport(sock, **options)
