"""SSH outside pyinfra: OpenSSH with a control master, so that ~/.ssh/config, the agent and jump hosts just work."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from heavylift.errors import CommandError, FleetError, HeavyliftError
from heavylift.fleet.inventory import Host
from heavylift.run import Completed, end_all
from heavylift.run import run as run_process

__all__ = ["each", "rsync", "run", "words"]

CONNECT_S = 10
# What OpenSSH or paramiko said, what it means, and what to do.
_REASONS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed|host key error",
        "its host key is not the expected one",
        "it was set up anew, or another machine answers there: find out which, then correct host_key or known_hosts",
    ),
    (
        r"Permission denied|Authentication (error|failed)",
        "it refuses our key",
        "check user and key: `ssh -p {port} {user}@{address}` must work without a question",
    ),
    (r"Connection refused", "nothing listens there", "is sshd running, and is the port right?"),
    (
        r"Unable to connect to port",
        "cannot be connected to",
        "is the host up, is sshd running, and are address and port right?",
    ),
    (
        r"protocol banner|banner exchange",
        "it hangs: it takes the connection, but sshd does not greet",
        "look at its console",
    ),
    (r"timed out|Timeout|not responding", "no answer", "is the host up, and is the address right?"),
    (r"No route to host|Network is unreachable", "no route to it", "is the host up, and is the address right?"),
    (r"Could not resolve hostname", "its name does not resolve", "correct hosts.list[].address"),
)
_LOST = {10, 12, 30, 35, 255}  # rsync's exit codes for a connection that ended or was silent
T = TypeVar("T")


def words(host: Host, known_hosts: Path) -> list[str]:
    """Return the ssh command up to, and without, the destination."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_S),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "StrictHostKeyChecking": "yes",
        "ControlMaster": "auto",
        "ControlPath": f"{_sockets()}/%C",
        "ControlPersist": "60",
        "LogLevel": "ERROR",
    }
    if host.host_key:
        options |= {"UserKnownHostsFile": f'"{known_hosts}"', "GlobalKnownHostsFile": "/dev/null"}
    line = ["ssh", "-p", str(host.port), "-l", host.user]
    line += [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    if host.jump:
        line += ["-J", host.jump]
    if host.key:
        line += ["-i", host.key, "-o", "IdentitiesOnly=yes"]
    return line


def run(host: Host, known_hosts: Path, command: str, *, timeout_s: float = 60.0, input: str | None = None) -> Completed:
    """Run a shell command on a host; raise `FleetError` where it cannot be reached. Its exit status is the caller's."""
    argv = [*words(host, known_hosts), host.address, command]
    try:
        done = run_process(argv, timeout_s=timeout_s, check=False, input=input)
    except CommandError:
        raise FleetError(
            f"{host.name}: no end within {timeout_s:g} s", hint="is the host hung? run the same command again"
        ) from None
    if done.returncode == 255:
        raise unreachable(host, done.stderr)
    return done


def rsync(host: Host, known_hosts: Path, source: Path, files: Iterable[str], target: str, *, timeout_s: float) -> None:
    """Copy `files` below `source` into a host's folder `target`; a copy that was cut off goes on inside its file."""
    shell = shlex.join(words(host, known_hosts))
    flags = [
        "-rt",
        "--copy-links",
        "--perms",
        "--chmod=D755,F644",
        "--partial-dir=.rsync-partial",
        "--files-from=-",
        "--timeout=60",
    ]
    flags += ["--rsync-path=sudo -n rsync"] if host.user != "root" else []
    argv = ["rsync", *flags, "-e", shell, f"{source}/", f"{_bracketed(host.address)}:{target}/"]
    try:
        run_process(argv, timeout_s=timeout_s, input="".join(f"{name}\n" for name in files))
    except CommandError as error:
        if error.returncode in _LOST:
            raise unreachable(
                host, error.output, otherwise="the connection was lost while weights were copied"
            ) from None
        raise FleetError(f"{host.name}: copying weights: {error.output.strip().splitlines()[-1]}") from None


def each(hosts: Iterable[Host], work: Callable[[Host], T]) -> dict[str, T | HeavyliftError]:
    """Do `work` for all hosts at the same time; a host's own failure is its result, the others go on."""

    def guarded(host: Host) -> Any:
        try:
            return work(host)
        except HeavyliftError as error:
            return error

    listed = list(hosts)
    with ThreadPoolExecutor(max(1, min(64, len(listed)))) as pool:
        try:
            return dict(zip((host.name for host in listed), pool.map(guarded, listed), strict=True))
        except BaseException:
            end_all()  # else the pool would wait for them
            raise


def unreachable(host: Host, said: str, *, otherwise: str = "") -> FleetError:
    """Return the error that explains why a host cannot be reached, from what ssh or pyinfra said."""
    where = f"{host.name} ({host.user}@{host.address}:{host.port})"
    for pattern, what, hint in _REASONS:
        if re.search(pattern, said, re.IGNORECASE):
            return FleetError(
                f"{where}: {what}", hint=hint.format(user=host.user, address=host.address, port=host.port)
            )
    lines = said.strip().splitlines()
    what = otherwise or (lines[-1] if lines else "the connection ended")
    return FleetError(
        f"{where}: {what}", hint="run the same command again: it goes on from there" if otherwise else None
    )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _sockets() -> str:
    """Return a folder for control sockets: short, since a socket's path has 108 bytes at most, and ours alone."""
    folder = Path(tempfile.gettempdir()) / f"heavylift-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise FleetError(f"{folder} belongs to somebody else", hint="remove it, or set TMPDIR")
    return str(folder)
