"""`heavylift lab`: what is printed where, and the inventory file."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from heavylift.cli import lab as cli
from heavylift.fleet.inventory import Host, Inventory

ONE = Host("h1", "10.77.0.11", "10.77.0.11", host_key="ssh-ed25519 AAAA", key="/labs/lab/key")


class FakeLab:
    """A lab that only remembers what it was told."""

    key = Path("/labs/lab/key")
    ssh_config = Path("/labs/lab/ssh_config")

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.hosts: tuple[Host, ...] = ()

    def up(self, count: int, *, on_line: Any, **options: object) -> Inventory:
        """Remember, and say one line."""
        self.told.append(("up", count, options))
        on_line("h1  10.77.0.11  answers")
        self.hosts = (ONE,)
        return self.inventory()

    def down(self, names: object = None) -> None:
        """Remember."""
        self.told.append(("down", names))
        self.hosts = ()

    def purge(self) -> None:
        """Remember."""
        self.told.append(("purge",))

    def inventory(self) -> Inventory:
        """Give what there is."""
        return Inventory("lab", self.hosts)

    def status(self) -> tuple[SimpleNamespace, ...]:
        """Give every host as on."""
        return tuple(SimpleNamespace(name=host.name, address=host.address, state="on") for host in self.hosts)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLab:
    """Put a fake in the place of the lab, in an empty current directory."""
    fake = FakeLab()
    monkeypatch.setattr(cli, "_lab", lambda _name: fake)
    monkeypatch.chdir(tmp_path)
    return fake


def test_up_writes_the_inventory(fake: FakeLab, tmp_path: Path) -> None:
    """Progress goes to stderr, nothing to stdout, and the file is what `Inventory.load` reads."""
    result = CliRunner().invoke(cli.lab, ["up", "--hosts", "1", "--memory", "1G"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "h1  10.77.0.11  answers\n.heavylift/inventory.json: 1 hosts; log in: ssh -F /labs/lab/ssh_config h1\n"
    )
    assert fake.told == [("up", 1, {"share_engines": True, "bind": (), "disk": None, "memory": "1G"})]
    assert Inventory.load(tmp_path / ".heavylift" / "inventory.json") == Inventory("lab", (ONE,))


def test_up_json_is_the_inventory(fake: FakeLab, tmp_path: Path) -> None:
    """Data on stdout is the file's own content."""
    result = CliRunner().invoke(cli.lab, ["up", "--json", "--directory", str(tmp_path / "x")])
    assert result.stdout == (tmp_path / "x" / ".heavylift" / "inventory.json").read_text()


def test_down_takes_the_labs_inventory_away(fake: FakeLab, tmp_path: Path) -> None:
    """The file goes with the lab that wrote it."""
    CliRunner().invoke(cli.lab, ["up"])
    result = CliRunner().invoke(cli.lab, ["down"])
    assert (result.exit_code, result.stderr) == (0, "lab 'lab': gone\n")
    assert fake.told[-1] == ("down", None)
    assert not (tmp_path / ".heavylift" / "inventory.json").exists()


@pytest.mark.parametrize("other", [Inventory("owned", (ONE,)), Inventory("lab", (Host("h1", "a", "a", key="/k"),))])
def test_down_leaves_other_inventories(fake: FakeLab, tmp_path: Path, other: Inventory) -> None:
    """Owned hosts, and those of another lab, stay listed."""
    file = tmp_path / ".heavylift" / "inventory.json"
    other.save(file)
    CliRunner().invoke(cli.lab, ["down"])
    assert Inventory.load(file) == other


def test_down_of_one_host(fake: FakeLab) -> None:
    """Host names are handed on; with --purge they are a usage error."""
    result = CliRunner().invoke(cli.lab, ["down", "h2", "h3"])
    assert (result.stderr, fake.told) == ("lab 'lab': h2, h3 gone\n", [("down", ("h2", "h3"))])
    refused = CliRunner().invoke(cli.lab, ["down", "--purge", "h2"])
    assert refused.exit_code == 2
    assert "--purge takes the whole lab away, so it cannot be used with host names" in refused.stderr


def test_status(fake: FakeLab) -> None:
    """A table for people, a versioned document for programs."""
    assert CliRunner().invoke(cli.lab, ["status"]).stdout == "lab 'lab' does not run\n"
    fake.hosts = (ONE,)
    assert CliRunner().invoke(cli.lab, ["status"]).stdout == "h1    10.77.0.11      on\n"
    document = json.loads(CliRunner().invoke(cli.lab, ["status", "--json"]).stdout)
    assert document == {
        "schema": "heavylift/lab-status",
        "version": 1,
        "name": "lab",
        "hosts": [{"name": "h1", "address": "10.77.0.11", "state": "on"}],
    }
