"""The lab that these tests share, and a picture of the machine to compare before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heavylift.lab import Lab, machine
from heavylift.lab.cgroup import hierarchies
from heavylift.lab.network import Network
from heavylift.run import run

RUN = ("*", "systemd/*", "systemd/nspawn/*/*")
SHARED = ("/run/heavylift-lab", "/run/netns", "/run/systemd", "/run/mount")
OURS = ("systemd-nspawn", "heavylift.lab.proxy", "setsid --fork", "heavylift-lab")


@pytest.fixture(scope="package")
def lab(ready: None) -> Iterator[Lab]:
    """Two hosts, h1 and h2."""
    lab = Lab("test")
    lab.up(2)
    yield lab
    lab.down()


@pytest.fixture
def picture() -> Callable[[Path], dict[str, list[str]]]:
    """Take a picture of what a lab could leave on this machine."""
    return _picture


def _picture(own: Path) -> dict[str, list[str]]:
    """List everything by kind; what belongs to other labs of this machine (all but `own`) is left out."""
    others = {lab: Network(number) for lab, number in machine.taken_numbers().items() if lab != str(own)}
    words = [word for lab, network in others.items() for word in (lab, network.tag, network.gateway)]
    words += SHARED if others else ()
    found = {
        "mounts": [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()],
        "links": [link["ifname"] for link in json.loads(run(["ip", "-json", "link"]).stdout)],
        "namespaces": _names(Path("/run/netns")),
        "cgroups": [str(path) for mount in hierarchies() for path in mount.iterdir() if path.is_dir()],
        "loops": [str(path) for path in Path("/sys/block").glob("loop*/loop")],
        "processes": _processes(),
        "sysctls": _sysctls(own),
        "shared memory": _names(Path("/dev/shm")),
        "run": [
            str(path) for pattern in ("*", "systemd/*", "systemd/nspawn/*/*") for path in Path("/run").glob(pattern)
        ],
        "labs": [str(path) for path in own.parent.glob(f"{own.name}*")],
    }
    return {
        kind: sorted(name for name in names if not any(word in name for word in words)) for kind, names in found.items()
    }


def _sysctls(own: Path) -> list[str]:
    """Show each limit less what other labs need of it."""
    claims = machine._read()
    hosts = sum(count for lab, (_, count) in claims.labs.items() if lab != str(own))
    lines = []
    for key, (base, each) in machine.LIMITS.items():
        value = int((machine.SYSCTLS / key).read_text())
        needed = max(claims.sysctls[key], base + each * hosts) if claims.labs else claims.sysctls[key]
        lines.append(f"{key}={value - needed + claims.sysctls[key]}")
    return lines


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _processes() -> list[str]:
    """List command lines that a lab may have started; a zombie has none and is no more than its parent's memory."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        except OSError:
            continue  # it ended meanwhile
    return [line for line in lines if any(word in line for word in OURS)]
