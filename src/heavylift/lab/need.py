"""What a machine must have to carry the lab, and what this one lacks, in one line."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from heavylift.lab.cgroup import hierarchies
from heavylift.lab.mounts import filesystem_of

__all__ = ["COMMANDS", "Machine", "look", "why_not"]

# Command, and the Debian or Ubuntu package that has it.
COMMANDS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mount": "mount",
    "setsid": "util-linux",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
NO_UPPER = {"overlay", "overlayfs", "aufs", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "vfat", "exfat"}
FREE_MIB = 1500  # the base image, its packages and a few hosts
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/@+-]*")


@dataclass(frozen=True, slots=True)
class Machine:
    """What was seen of a machine."""

    system: str
    uid: int = 0
    lacking_packages: tuple[str, ...] = ()
    capabilities: int = 0
    is_user_namespace: bool = False
    has_overlay: bool = False
    has_cgroup2: bool = False
    folder: str = "/"
    filesystem: str = ""
    free_mib: int = 0


def why_not(machine: Machine) -> str | None:
    """Say the first thing that keeps the lab from running, and what to do about it; None if nothing does."""
    return next(_lacks(machine), None)


def look(folder: Path) -> Machine:
    """Look at this machine; `folder` is where labs are to lie."""
    if sys.platform != "linux":
        return Machine(system=sys.platform)
    lacking = [package for command, package in COMMANDS.items() if shutil.which(command) is None]
    lacking += [] if KEYRING.is_file() else ["debian-archive-keyring"]
    present = next(path for path in (folder, *folder.parents) if path.exists())
    return Machine(
        system=sys.platform,
        uid=os.geteuid(),
        lacking_packages=tuple(dict.fromkeys(lacking)),
        capabilities=_capabilities(),
        is_user_namespace=Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"],
        has_overlay=_has_overlay(),
        has_cgroup2=_has_cgroup2(),
        folder=str(folder),
        filesystem=filesystem_of(present.resolve()),
        free_mib=shutil.disk_usage(present).free >> 20,
    )


def _lacks(machine: Machine) -> Iterator[str]:
    if machine.system != "linux":
        yield f"the lab runs on Linux only, this is {machine.system}"
    if machine.uid != 0:
        yield "the lab needs root: run the command with sudo"
    lacking = [name for name, bit in CAPABILITIES.items() if not machine.capabilities >> bit & 1]
    if machine.is_user_namespace or lacking:
        what = "has root in a user namespace only" if machine.is_user_namespace else f"lacks {', '.join(lacking)}"
        yield f"this container {what}: run it privileged, or use a virtual machine"
    if machine.lacking_packages:
        yield f"packages are missing: apt-get install -y {' '.join(machine.lacking_packages)}"
    if not machine.has_overlay:
        yield "the kernel has no overlay file system: modprobe overlay"
    if not machine.has_cgroup2:
        yield "no writable cgroup v2 hierarchy is mounted: boot with systemd, or run the container privileged"
    if not PLAIN_PATH.fullmatch(machine.folder):
        yield f"{machine.folder}: overlayfs cannot take this path: set HEAVYLIFT_LAB_DIR to one of plain characters"
    if machine.filesystem in NO_UPPER or machine.filesystem.startswith("fuse"):
        where = f"{machine.folder} lies on {machine.filesystem}, which cannot hold a host's disk"
        yield f"{where}: set HEAVYLIFT_LAB_DIR to a folder on ext4 or xfs"
    if machine.free_mib < FREE_MIB:
        where = f"{machine.folder} has {machine.free_mib} MiB free, {FREE_MIB} are needed"
        yield f"{where}: make room, or set HEAVYLIFT_LAB_DIR"


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))


def _has_overlay() -> bool:
    """Whether overlay is there, or would be loaded by the first mount of one."""
    if "overlay" in Path("/proc/filesystems").read_text(encoding="ascii").split():
        return True
    return any(Path("/lib/modules", os.uname().release).glob("kernel/fs/overlayfs/overlay.ko*"))


def _has_cgroup2() -> bool:
    found = hierarchies()
    return bool(found) and (found[0] / "cgroup.procs").exists() and os.access(found[0], os.W_OK)
