"""A cgroup of its own for each host, in every hierarchy that matters: one on pure v2, several on a hybrid machine.

Without it all nspawn containers of one shell share `/payload`, and their systemds kill each other's services.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from heavylift.errors import LabError

__all__ = ["Cgroup", "hierarchies"]

V1_NEEDED = ("name=systemd", "memory", "pids", "freezer")
CONTROLLERS = ("cpu", "memory", "pids")
CONTROL_FILES = ("cgroup.controllers", "cgroup.subtree_control")
END_WAIT_S = 10.0
ENTER = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'


def hierarchies(mounts: str | None = None) -> tuple[Path, ...]:
    """List where the hierarchies are mounted: v2 first, then the v1 ones that a host needs."""
    text = mounts if mounts is not None else Path("/proc/self/mounts").read_text(encoding="utf-8")
    found: dict[str, Path] = {}
    for line in text.splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.setdefault("", Path(point))
        elif kind == "cgroup" and (names := [name for name in V1_NEEDED if name in options.split(",")]):
            found.setdefault(names[0], Path(point))
    return tuple(dict.fromkeys(found[key] for key in ("", *V1_NEEDED) if key in found))


@dataclass(frozen=True)
class Cgroup:
    """One named cgroup, present in every hierarchy; `/` in the name nests."""

    name: str

    @cached_property
    def folders(self) -> tuple[Path, ...]:
        """Its folder in each hierarchy, v2 first."""
        return tuple(mount / self.name for mount in hierarchies())

    def make(self) -> None:
        """Create it everywhere; on v2 its parents hand their controllers down to it."""
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
        mount = hierarchies()[0]
        for parent in reversed(self.folders[0].relative_to(mount).parents):
            _hand_down(mount / parent)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Wrap a command so that it moves itself in here before it starts."""
        return ["sh", "-c", ENTER, "enter", *map(str, self.folders), "--", *argv]

    def limit_memory(self, size: str) -> None:
        """Cap its memory at `size` (`1G`): the kernel kills inside it beyond that."""
        for folder in self.folders:
            for file in (folder / "memory.max", folder / "memory.limit_in_bytes"):
                if file.exists():
                    file.write_text(size, encoding="ascii")
                    return
        raise LabError(f"{self.name}: this machine has no memory controller, so memory {size} cannot be set")

    def freeze(self, frozen: bool) -> None:
        """Stop all its processes in their tracks, or let them go on."""
        self._v2("cgroup.freeze").write_text("1" if frozen else "0", encoding="ascii")

    @property
    def is_frozen(self) -> bool:
        """Whether it was frozen."""
        file = self._v2("cgroup.freeze")
        return file.exists() and file.read_text(encoding="ascii").strip() == "1"

    @property
    def is_populated(self) -> bool:
        """Whether a process lives in it or below."""
        file = self._v2("cgroup.events")
        return file.exists() and "populated 1" in file.read_text(encoding="ascii")

    def kill(self) -> None:
        """End every process in it and below, frozen or not, and wait until they are gone."""
        until = time.monotonic() + END_WAIT_S
        while self.is_populated:
            if time.monotonic() > until:
                raise LabError(f"cgroup {self.name}: its processes do not end", hint="see them: cat */cgroup.procs")
            _kill_all(self.folders[0])
            time.sleep(0.02)

    def remove(self) -> None:
        """Kill what is in it and delete it everywhere, the deepest first."""
        self.kill()
        for folder in self.folders:
            _remove(folder)

    def _v2(self, file: str) -> Path:
        return self.folders[0] / file


def _hand_down(folder: Path) -> None:
    """Enable for a cgroup's children what it has itself; what the machine refuses is simply not there."""
    has, hands = ((folder / file).read_text(encoding="ascii").split() for file in CONTROL_FILES)
    for controller in (name for name in CONTROLLERS if name in has and name not in hands):
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
        except OSError:
            continue


def _kill_all(folder: Path) -> None:
    if (folder / "cgroup.kill").exists():
        (folder / "cgroup.kill").write_text("1", encoding="ascii")
        return
    (folder / "cgroup.freeze").write_text("0", encoding="ascii")  # kernels before 5.14 lack cgroup.kill
    for procs in folder.rglob("cgroup.procs"):
        for pid in procs.read_text(encoding="ascii").split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue


def _remove(folder: Path) -> None:
    """Delete a cgroup and its children; zombies that PID 1 reaps late keep one busy for a moment."""
    until = time.monotonic() + END_WAIT_S
    while folder.exists():
        try:
            for child in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                child.rmdir()
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if time.monotonic() > until:
                raise LabError(f"{folder}: cannot be removed ({error.strerror})") from None
            time.sleep(0.02)
