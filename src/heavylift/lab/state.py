"""What a lab knows about itself, in `lab.json`, and the file locks that keep two commands apart."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heavylift.errors import LabError

__all__ = ["HostRecord", "LabRecord", "boot_id", "locked", "write_whole"]

SCHEMA = "heavylift/lab"
VERSION = 1


@dataclass(frozen=True, slots=True)
class HostRecord:
    """One host as it was asked for; enough to start it again."""

    name: str
    number: int
    host_key: str
    share_engines: bool = True
    bind: tuple[str, ...] = ()
    disk: str | None = None
    memory: str | None = None


@dataclass(frozen=True, slots=True)
class LabRecord:
    """One lab: its subnet number, the boot it was made in, the base it stands on, its hosts and firewall rules."""

    name: str
    number: int
    boot: str
    base: str
    hosts: tuple[HostRecord, ...] = ()
    rules: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def load(cls, path: Path) -> LabRecord | None:
        """Read the file; None where there is no lab."""
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            fields = {key: value for key, value in document.items() if key not in {"schema", "version"}}
            hosts = tuple(HostRecord(**{**host, "bind": tuple(host["bind"])}) for host in fields.pop("hosts"))
            rules = tuple(tuple(rule) for rule in fields.pop("rules"))
            return cls(hosts=hosts, rules=rules, **fields)
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError) as error:
            raise LabError(f"{path}: damaged ({error})", hint="`heavylift lab down` clears the lab") from None

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_whole(path, json.dumps({"schema": SCHEMA, "version": VERSION, **asdict(self)}, indent=2) + "\n")


def boot_id() -> str:
    """Tell one run of this kernel from the next: what a lab made is gone after a reboot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path` and yield True; without `wait`, yield False where somebody else holds it.

    The file is deleted on the way out, and whoever waited on the deleted one tries again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _take(lock, wait=wait):
                yield False
                return
            if not _is_same_file(lock, path):
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(lock)


def _take(lock: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
