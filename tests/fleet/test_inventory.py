"""The inventory file: written whole, read strictly."""

from __future__ import annotations

import json

import pytest

from heavylift.errors import FleetError
from heavylift.fleet.inventory import Host, Inventory

HOSTS = (
    Host("g1", "192.0.2.1", "10.0.0.1"),
    Host("g2", "h.example", "10.0.0.2", 2222, "me", "bastion", "ssh-ed25519 AAAA", "/k"),
)


def test_what_is_written_is_read(tmp_path):
    """Every field comes back; the file has a schema and a version; no other file is left beside it."""
    path = tmp_path / ".heavylift" / "inventory.json"
    Inventory("owned", HOSTS).save(path)
    assert Inventory.load(path) == Inventory("owned", HOSTS)
    document = json.loads(path.read_text())
    assert (document["schema"], document["version"], document["source"]) == ("heavylift/inventory", 1, "owned")
    assert [file.name for file in path.parent.iterdir()] == ["inventory.json"]


def test_equal_content_leaves_the_file_alone(tmp_path):
    """Nothing that watches it wakes up without need."""
    path = tmp_path / "inventory.json"
    Inventory("owned", HOSTS).save(path)
    before = path.stat()
    Inventory("owned", HOSTS).save(path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    Inventory("owned", HOSTS[:1]).save(path)
    assert path.stat().st_ino != before.st_ino


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("[]", "damaged (list indices must be integers or slices, not str)"),
        ('{"schema": "heavylift/inventory"}', "damaged ('version')"),
        (
            '{"schema": "heavylift/inventory", "version": 1, "source": "lab", "hosts": [{"name": "a"}]}',
            "damaged (Host.__init__() missing 2 required positional arguments: 'address' and 'private_address')",
        ),
        ('{"schema": "heavylift/inventory", "version": 9}', "heavylift/inventory version 9, this heavylift reads 1"),
    ],
)
def test_a_file_that_is_no_inventory(tmp_path, content, message):
    """Damage and later versions are one line with the way out."""
    path = tmp_path / "inventory.json"
    path.write_text(content)
    with pytest.raises(FleetError) as refused:
        Inventory.load(path)
    assert refused.value.message == f"{path}: {message}"
    assert "write it again" in refused.value.hint or "writes it again" in refused.value.hint


def test_no_file_yet(tmp_path):
    """The first thing that a new user sees."""
    with pytest.raises(FleetError) as refused:
        Inventory.load(tmp_path / "i.json")
    assert str(refused.value) == f"{tmp_path}/i.json: no inventory yet\n\nhint: `heavylift up` writes it"
