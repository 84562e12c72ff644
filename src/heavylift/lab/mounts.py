"""Mounts of the lab: overlays up and down, and a delete that never crosses a mount."""

from __future__ import annotations

import time
from pathlib import Path

from heavylift.errors import LabError
from heavylift.run import run

__all__ = ["filesystem_of", "mount_overlay", "mount_tmpfs", "mounts_below", "remove_tree", "unmount_below"]

UNMOUNT_WAIT_S = 5.0
MOUNTINFO = Path("/proc/self/mountinfo")


def mount_overlay(lower: Path, upper: Path, work: Path, target: Path) -> None:
    """Show `lower` at `target`, with every change kept in `upper`."""
    for folder in (upper, work, target):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", "-o", options, "overlay", str(target)])


def mount_tmpfs(target: Path, size: str) -> None:
    """Put a memory file system of at most `size` (`300M`) at `target`."""
    target.mkdir(parents=True, exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(target)])


def mounts_below(folder: Path) -> tuple[Path, ...]:
    """List the mount points at or below `folder`, the deepest and latest first."""
    points = [Path(_unescape(line.split()[4])) for line in MOUNTINFO.read_text(encoding="utf-8").splitlines()]
    return tuple(point for point in reversed(points) if point.is_relative_to(folder))


def filesystem_of(folder: Path, mountinfo: str | None = None) -> str:
    """Name the type of the file system that holds `folder` (which need not exist yet)."""
    lines = (mountinfo if mountinfo is not None else MOUNTINFO.read_text(encoding="utf-8")).splitlines()
    found, depth = "", -1
    for line in lines:
        fields = line.split()
        point = Path(_unescape(fields[4]))
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = fields[fields.index("-") + 1], len(point.parts)
    return found


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below `folder`: politely for some seconds, then lazily."""
    until = time.monotonic() + UNMOUNT_WAIT_S
    while points := mounts_below(folder):
        late = time.monotonic() > until
        for point in points:
            run(["umount", *(["--lazy"] if late else []), str(point)], check=False)
        if late and mounts_below(folder):
            raise LabError(f"{points[0]}: cannot be unmounted", hint=f"see who holds it: fuser -vm {points[0]}")
        if mounts_below(folder):
            time.sleep(0.05)


def remove_tree(folder: Path, *, within: Path) -> None:
    """Delete `folder`, which must lie inside `within`; refuse while anything is mounted below it."""
    inside = folder.parent.resolve() / folder.name
    if inside == within.resolve() or not inside.is_relative_to(within.resolve()):
        raise LabError(f"{folder}: not inside {within}, so it is not deleted")
    if points := mounts_below(inside):
        raise LabError(f"{points[0]}: still mounted, so {folder} is not deleted", hint=f"umount {points[0]}")
    run(["rm", "-rf", "--one-file-system", str(inside)])


def _unescape(field: str) -> str:
    return field.encode("ascii", "backslashreplace").decode("unicode_escape") if "\\" in field else field
