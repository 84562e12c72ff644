"""Bringing hosts up: the way out first, then all hosts at once, then waiting until each one's sshd greets."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from heavylift.errors import LabError
from heavylift.lab import registries
from heavylift.lab.cgroup import Cgroup
from heavylift.lab.host import Disk, LabHost
from heavylift.lab.network import PROXY_PORT, Network
from heavylift.lab.registries import Registries
from heavylift.lab.state import write_whole
from heavylift.run import start

__all__ = ["boot", "raise_proxy", "wait"]

AT_ONCE = 8
BOOT_TIMEOUT_S = 90.0
PROXY_TIMEOUT_S = 10.0
POLL_S = 0.03


def raise_proxy(network: Network, folder: Path, cache: Path) -> Registries:
    """Start the proxy unless it runs, and say what it lets through."""
    cgroup = Cgroup(f"heavylift-{network.tag}/proxy")
    file = folder / "registries.json"
    if cgroup.is_populated and file.is_file():
        return Registries(**{key: tuple(value) for key, value in json.loads(file.read_text("utf-8")).items()})
    found = registries.discover()
    write_whole(file, json.dumps(asdict(found), indent=2) + "\n")
    cgroup.make()
    argv = [sys.executable, "-m", "heavylift.lab.proxy", "--listen", f"{network.gateway}:{PROXY_PORT}"]
    argv += ["--cache", str(cache / "apt"), *(f"--allow={entry}" for entry in found.allowed)]
    # An own log: a child that held our stderr would keep whoever captures it waiting for ever.
    start(cgroup.enter(["setsid", "--fork", *argv]), log=folder / "proxy.log", cwd=Path("/")).wait()
    _wait_for_proxy(network, cgroup, folder / "proxy.log")
    return found


def boot(hosts: Sequence[LabHost], disk: Disk) -> None:
    """Make and start all hosts, some at a time; they boot on while the next are made."""

    def make(host: LabHost) -> None:
        host.make(disk)
        host.start(disk.engines)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            list(pool.map(make, hosts))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def wait(hosts: Sequence[LabHost], on_line: Callable[[str], None]) -> None:
    """Return when the sshd of every host greets; raise for the first that does not in time."""
    until = time.monotonic() + BOOT_TIMEOUT_S
    left = list(hosts)
    while left:
        for host in tuple(left):
            if host.answers():
                left.remove(host)
                on_line(f"{host.name}  {host.address}  answers")
        if left and time.monotonic() > until:
            names = ", ".join(host.name for host in left)
            raise LabError(f"{names}: no sshd after {BOOT_TIMEOUT_S:g} s; {left[0].name} says: {left[0].last_line()}")
        if left:
            time.sleep(POLL_S)


def _wait_for_proxy(network: Network, cgroup: Cgroup, log: Path) -> None:
    until = time.monotonic() + PROXY_TIMEOUT_S
    while time.monotonic() < until:
        try:
            socket.create_connection((network.gateway, PROXY_PORT), 1.0).close()
        except OSError:
            time.sleep(POLL_S)
            continue
        if cgroup.is_populated:
            return
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise LabError(f"the lab's proxy does not start: {lines[-1] if lines else 'no output'}")
