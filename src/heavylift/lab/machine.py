"""What labs change on this machine outside their own folder: written down first, put back by the last `down`.

All labs of the machine, whatever their folder, share one file below /run, so that one lab's end never takes away
what another still needs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from heavylift.errors import LabError
from heavylift.lab.mounts import mounts_below, unmount_below
from heavylift.lab.state import boot_id, locked, write_whole

__all__ = ["HOSTS_AT_MOST", "Claims", "claim", "forget_containers", "release", "taken_numbers"]

FOLDER = Path("/run/heavylift-lab")
HOSTS_AT_MOST = 200
HOSTS_AT_DEFAULT_LIMITS = 16
SYSCTLS = Path("/proc/sys")
# systemd takes about 5 inotify instances a host: at the kernel's default of 128 boots stop at 21 hosts, silently.
LIMITS = {  # key: (for the machine itself, for each host)
    "fs/inotify/max_user_instances": (128, 16),
    "kernel/keys/maxkeys": (200, 20),
    "kernel/keys/maxbytes": (20000, 2000),
}
NSPAWN = Path("/run/systemd/nspawn")
# Folders that ip, nspawn and mount make when they first run; removed again, once empty, if they were not there before.
MADE_BY_TOOLS = (Path("/run/netns"), NSPAWN, Path("/run/systemd"), Path("/run/mount"))


@dataclass(frozen=True, slots=True)
class Claims:
    """The labs of this machine (subnet number and host count by folder), and what was there before the first."""

    boot: str
    labs: dict[str, tuple[int, int]] = field(default_factory=dict)
    sysctls: dict[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def claim(folder: Path, hosts: int, *, in_use: frozenset[int]) -> int:
    """Reserve a subnet number for the lab in `folder` (the same one again if it has one) and room for its hosts."""
    with _claims() as claims:
        number = claims.labs[str(folder)][0] if str(folder) in claims.labs else _free(folder, claims, in_use)
        claims.labs[str(folder)] = (number, hosts)
        _write(claims)
        _set_limits(claims)
    return number


def release(folder: Path) -> None:
    """Give the lab's claim back; the last one out restores the machine."""
    with _claims() as claims:
        claims.labs.pop(str(folder), None)
        if claims.labs:
            _write(claims)
            _set_limits(claims)
            return
        _restore(claims)
        _file().unlink(missing_ok=True)
    _remove_if_empty(FOLDER)


def forget_containers(prefix: str) -> None:
    """Delete the empty folders that nspawn leaves behind for every machine name."""
    for folder in NSPAWN.glob(f"*/{prefix}*"):
        _remove_if_empty(folder)


def taken_numbers() -> dict[str, int]:
    """Say which lab folder has which subnet number."""
    return {lab: number for lab, (number, _) in _read().labs.items()}


@contextmanager
def _claims() -> Iterator[Claims]:
    with locked(FOLDER / "lock"):
        yield _read()


def _file() -> Path:
    return FOLDER / "machine.json"


def _read() -> Claims:
    """Read the claims of this boot; the first lab after a boot finds none and looks at the machine."""
    try:
        document = json.loads(_file().read_text(encoding="utf-8"))
        labs = {lab: (int(pair[0]), int(pair[1])) for lab, pair in document["labs"].items()}
        claims = Claims(document["boot"], labs, document["sysctls"], tuple(document["missing"]))
    except FileNotFoundError:
        claims = None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise LabError(f"{_file()}: damaged ({error})", hint="delete it once no lab runs") from None
    if claims is not None and claims.boot == boot_id():
        return claims
    sysctls = {key: int((SYSCTLS / key).read_text(encoding="ascii")) for key in LIMITS}
    return Claims(boot_id(), sysctls=sysctls, missing=tuple(str(path) for path in MADE_BY_TOOLS if not path.exists()))


def _write(claims: Claims) -> None:
    write_whole(_file(), json.dumps(asdict(claims), indent=2) + "\n")


def _free(folder: Path, claims: Claims, in_use: frozenset[int]) -> int:
    """Choose a number from the folder's name, so that a lab mostly gets the same subnet again."""
    taken = in_use | {number for number, _ in claims.labs.values()}
    first = zlib.crc32(str(folder).encode())
    for step in range(256):
        if (number := (first + step) % 256) not in taken:
            return number
    raise LabError("no free subnet 10.77.x.0/24 for the lab: all 256 are in use on this machine")


def _set_limits(claims: Claims) -> None:
    """Raise each limit to what all labs need together, but never below what the machine had."""
    hosts = sum(count for _, count in claims.labs.values())
    for key, (own, each) in LIMITS.items():
        wanted = max(claims.sysctls[key], own + each * hosts)
        if not _set(key, wanted) and hosts > HOSTS_AT_DEFAULT_LIMITS:
            message = f"sysctl {key.replace('/', '.')} cannot be set to {wanted} here, which {hosts} hosts need"
            raise LabError(message, hint=f"ask for at most {HOSTS_AT_DEFAULT_LIMITS} hosts")


def _restore(claims: Claims) -> None:
    for key, value in claims.sysctls.items():
        _set(key, value)
    for path in map(Path, claims.missing):
        if path.name == "netns" and path.is_dir() and not any(path.iterdir()):
            unmount_below(path)
        if path == NSPAWN and path.is_dir():
            for child in path.iterdir():
                _remove_if_empty(child)
        if not mounts_below(path):
            _remove_if_empty(path)


def _set(key: str, value: int) -> bool:
    """Write a sysctl that differs; False where /proc/sys is read-only, as in many containers."""
    file = SYSCTLS / key
    if int(file.read_text(encoding="ascii")) != value:
        try:
            file.write_text(str(value), encoding="ascii")
        except OSError:
            return False
    return True


def _remove_if_empty(path: Path) -> None:
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
