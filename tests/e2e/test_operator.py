"""What is wrong on the operator's side is said before any host is asked anything."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from heavylift.fleet.inventory import Host, Inventory
from heavylift.onhost.checkpoint import digest
from heavylift.weights import promise

from .support import Site, flip

pytestmark = pytest.mark.lab


def _began(desk: Site) -> bool:
    return (desk.folder / ".heavylift/run").exists()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda shard: shard.unlink(), "{shard}: is in the index but missing"),
        (
            lambda shard: os.truncate(shard, shard.stat().st_size - 4096),
            "{shard}: is {cut} bytes, its header says {size}",
        ),
        (flip, "{shard}: sha256 {found}…, the manifest says {promised}…"),
    ],
    ids=["missing", "truncated", "flipped"],
)
def test_a_damaged_shard_here(desk: Site, damage: Callable[[Path], None], says: str) -> None:
    """It is found before any host is asked anything."""
    promise(desk.folder / "model")
    shard = sorted((desk.folder / "model").glob("*.safetensors"))[1]
    facts = {
        "shard": shard.name,
        "size": shard.stat().st_size,
        "cut": shard.stat().st_size - 4096,
        "promised": digest(shard)[:12],
    }
    damage(shard)
    facts["found"] = digest(shard)[:12] if shard.exists() else ""
    done = desk.heavylift("apply", within_s=5)
    what = "not the promised checkpoint" if "sha256" in says else "not a whole checkpoint"
    assert done.stderr.splitlines() == [
        f"error: {desk.folder}/model: {what}: {says.format(**facts)}",
        "",
        "hint: fetch these files again",
    ]
    assert done.returncode == 1
    assert not _began(desk)


def test_an_argument_of_another_version(desk: Site) -> None:
    """The line, the version that dropped it and what to use; no host is touched."""
    desk.change(engine={"arguments": {"swap-space": 4}})
    done = desk.heavylift("apply", within_s=5)
    assert done.stderr.startswith("error: deployment.yaml:")
    assert "engine/arguments/swap-space: removed from vLLM in" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 1
    assert not _began(desk)


def test_a_key_that_is_not_in_the_environment(desk: Site) -> None:
    """Said before any host is touched; an empty one is none."""
    desk.change(access={"key": "E2E_KEY"})
    for environment in ({}, {"E2E_KEY": ""}):
        done = desk.heavylift("apply", within_s=5, **environment)
        line = "access/key: $E2E_KEY is not set, or holds blanks; export it: the API key comes from there"
        assert re.fullmatch(rf"error: deployment.yaml:\d+: {re.escape(line)}\n", done.stderr)
        assert done.returncode == 1
    assert not _began(desk)


def test_a_lab_that_is_gone(desk: Site) -> None:
    """An inventory that outlived its hosts is told from hosts that are down."""
    host = Host("h1", "10.77.0.11", "10.77.0.11", key="/nowhere/key")
    Inventory("lab", (host, host)).save(desk.folder / ".heavylift/inventory.json")
    done = desk.heavylift("apply", within_s=5)
    line = f"error: {desk.folder}/.heavylift/inventory.json: h1: no key /nowhere/key"
    assert done.stderr.splitlines() == [line, "", "hint: the lab is gone: `heavylift up` makes it again"]
    assert (done.returncode, _began(desk)) == (1, False)
