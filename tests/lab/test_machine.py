"""What labs change on the machine, counted over all labs and put back by the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.errors import LabError
from heavylift.lab import machine
from heavylift.lab.network import Network
from heavylift.lab.state import HostRecord, LabRecord, locked


@pytest.fixture(autouse=True)
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a machine with the kernel's default limits, and a folder of its own for the claims."""
    for key, (value, _) in machine.LIMITS.items():
        (tmp_path / "sys" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / key).write_text(str(value))
    monkeypatch.setattr(machine, "SYSCTLS", tmp_path / "sys")
    monkeypatch.setattr(machine, "FOLDER", tmp_path / "run")
    monkeypatch.setattr(machine, "MADE_BY_TOOLS", ())
    return tmp_path / "sys"


def _limits(sysctls: Path) -> list[int]:
    return [int((sysctls / key).read_text()) for key in machine.LIMITS]


def test_limits_follow_the_hosts_of_all_labs(sysctls: Path) -> None:
    """Two labs add up; when one ends, what the other needs stays; the last one restores."""
    machine.claim(Path("/a"), 2, in_use=frozenset())
    assert _limits(sysctls) == [160, 240, 24000]
    machine.claim(Path("/b"), 16, in_use=frozenset())
    assert _limits(sysctls) == [416, 560, 56000]
    machine.release(Path("/b"))
    assert _limits(sysctls) == [160, 240, 24000]
    machine.release(Path("/a"))
    assert _limits(sysctls) == [128, 200, 20000]


def test_a_higher_limit_of_the_machine_is_never_lowered(sysctls: Path) -> None:
    """A machine that allows more keeps its value throughout."""
    (sysctls / "fs/inotify/max_user_instances").write_text("8192")
    machine.claim(Path("/a"), 2, in_use=frozenset())
    assert _limits(sysctls)[0] == 8192
    machine.release(Path("/a"))
    assert _limits(sysctls)[0] == 8192


def test_numbers_differ_and_are_kept() -> None:
    """A lab keeps its subnet number; another lab, and an address of the machine, never share it."""
    first = machine.claim(Path("/a"), 1, in_use=frozenset())
    assert machine.claim(Path("/a"), 5, in_use=frozenset({first})) == first
    everything_else = frozenset(range(256)) - {first, 7}
    assert machine.claim(Path("/b"), 1, in_use=everything_else) == 7
    with pytest.raises(LabError, match="no free subnet"):
        machine.claim(Path("/c"), 1, in_use=everything_else)
    assert machine.taken_numbers() == {"/a": first, "/b": 7}


def test_claims_of_an_earlier_boot_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reboot of the machine nothing is claimed."""
    machine.claim(Path("/a"), 1, in_use=frozenset())
    monkeypatch.setattr(machine, "boot_id", lambda: "the next boot")
    assert machine.taken_numbers() == {}


def test_nothing_is_left_when_the_last_lab_is_gone(tmp_path: Path) -> None:
    """The claims file, its lock and their folder go."""
    machine.claim(Path("/a"), 1, in_use=frozenset())
    machine.release(Path("/a"))
    assert not (tmp_path / "run").exists()


def test_names_and_addresses() -> None:
    """Everything of a lab follows from its number; interface names stay within 15 characters."""
    network = Network(77)
    assert (network.tag, network.bridge, network.link("h200")) == ("hv4d", "hv4d-br", "hv4d-h200")
    assert (network.gateway, network.subnet, network.address(1)) == ("10.77.77.1", "10.77.77.0/24", "10.77.77.11")


def test_record_survives_the_file(tmp_path: Path) -> None:
    """What is written is what is read; no file is no lab; a damaged one says what to do."""
    host = HostRecord("h1", 1, "ssh-ed25519 AAAA h1", bind=("/dev/loop0",), memory="1G")
    record = LabRecord("lab", 77, "boot", "/base", (host,), (("FORWARD", "-j", "ACCEPT"),))
    record.save(tmp_path / "lab.json")
    assert LabRecord.load(tmp_path / "lab.json") == record
    assert LabRecord.load(tmp_path / "absent.json") is None
    (tmp_path / "lab.json").write_text("{")
    with pytest.raises(LabError, match=r"lab\.json: damaged .*\n\nhint: `heavylift lab down` clears the lab"):
        LabRecord.load(tmp_path / "lab.json")


def test_lock_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    """Whoever does not want to wait is told; afterwards the file is gone."""
    path = tmp_path / "lock"
    with locked(path) as mine:
        assert mine
        with locked(path, wait=False) as second:
            assert not second
        assert path.exists()
    assert not path.exists()
