"""What the lab says to a machine that cannot carry it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heavylift.lab.cgroup import hierarchies
from heavylift.lab.mounts import filesystem_of, remove_tree
from heavylift.lab.need import Machine, why_not

GOOD = Machine(
    system="linux",
    uid=0,
    capabilities=(1 << 41) - 1,
    has_overlay=True,
    has_cgroup2=True,
    folder="/var/lib/heavylift-lab",
    filesystem="ext4",
    free_mib=50_000,
)

ELSEWHERE = "set HEAVYLIFT_LAB_DIR"


def test_a_good_machine_lacks_nothing() -> None:
    """Root, the packages, overlay, cgroup v2 and a real disk are enough."""
    assert why_not(GOOD) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"system": "darwin"}, "the lab runs on Linux only, this is darwin"),
        ({"uid": 1000, "capabilities": 0}, "the lab needs root: run the command with sudo"),
        (
            {"capabilities": 0xA80425FB},
            "this container lacks CAP_NET_ADMIN, CAP_SYS_ADMIN: run it privileged, or use a virtual machine",
        ),
        (
            {"is_user_namespace": True},
            "this container has root in a user namespace only: run it privileged, or use a virtual machine",
        ),
        (
            {"lacking_packages": ("systemd-container", "debootstrap")},
            "packages are missing: apt-get install -y systemd-container debootstrap",
        ),
        ({"has_overlay": False}, "the kernel has no overlay file system: modprobe overlay"),
        (
            {"has_cgroup2": False},
            "no writable cgroup v2 hierarchy is mounted: boot with systemd, or run the container privileged",
        ),
        (
            {"folder": "/my labs"},
            "/my labs: overlayfs cannot take this path: set HEAVYLIFT_LAB_DIR to one of plain characters",
        ),
        (
            {"filesystem": "overlay"},
            f"{GOOD.folder} lies on overlay, which cannot hold a host's disk: {ELSEWHERE} to a folder on ext4 or xfs",
        ),
        (
            {"free_mib": 300},
            "/var/lib/heavylift-lab has 300 MiB free, 1500 are needed: make room, or set HEAVYLIFT_LAB_DIR",
        ),
    ],
)
def test_one_line_says_what_lacks(change: dict[str, object], expected: str) -> None:
    """Each lack has its own line, with what to do."""
    assert why_not(replace(GOOD, **change)) == expected  # type: ignore[arg-type]


def test_the_first_lack_is_the_one_to_mend_first() -> None:
    """Without root nothing else can be judged, so it is said alone."""
    assert why_not(replace(GOOD, uid=1000, filesystem="overlay")) == "the lab needs root: run the command with sudo"


MOUNTINFO = """\
20 1 254:0 / / rw - ext4 /dev/vda rw
30 20 0:30 / /var/lib rw - overlay overlay rw,lowerdir=/a
31 30 0:31 / /var/lib/my\\040data rw shared:1 - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("/etc", "ext4"), ("/var/lib/heavylift-lab", "overlay"), ("/var/lib/my data/x", "xfs"), ("/var/library", "ext4")],
)
def test_filesystem_of(folder: str, expected: str) -> None:
    """The nearest mount above a folder counts, and spaces in mount points are understood."""
    assert filesystem_of(Path(folder), MOUNTINFO) == expected


def test_hierarchies_on_a_hybrid_machine() -> None:
    """v2 comes first, then the v1 hierarchies that a host needs, each once."""
    mounts = (
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
        "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
        "cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )
    assert hierarchies(mounts) == (
        Path("/sys/fs/cgroup/unified"),
        Path("/sys/fs/cgroup/systemd"),
        Path("/sys/fs/cgroup/memory"),
    )


def test_hierarchies_on_a_pure_machine() -> None:
    """Pure v2 has one."""
    assert hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n") == (Path("/sys/fs/cgroup"),)


def test_nothing_outside_the_lab_is_deleted(tmp_path: Path) -> None:
    """The folder itself, its parent, and a way out over `..` are refused."""
    from heavylift.errors import LabError

    within = tmp_path / "labs"
    outside = tmp_path / "outside"
    (within / "one").mkdir(parents=True)
    outside.mkdir()
    for folder in (within, tmp_path, outside, within / ".." / "outside", Path("/")):
        with pytest.raises(LabError, match="so it is not deleted"):
            remove_tree(folder, within=within)
    assert outside.is_dir()
    remove_tree(within / "one", within=within)
    assert not (within / "one").exists()


def test_a_link_in_the_lab_is_deleted_and_not_followed(tmp_path: Path) -> None:
    """A link named like a lab loses only itself."""
    within, outside = tmp_path / "labs", tmp_path / "outside"
    within.mkdir()
    (outside / "kept").mkdir(parents=True)
    (within / "one").symlink_to(outside)
    remove_tree(within / "one", within=within)
    assert (outside / "kept").is_dir()
    assert not (within / "one").is_symlink()
