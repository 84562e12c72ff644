"""Hosts that go away in the middle of an apply: it ends in its time, the others serve, the next apply repairs.

The engine is the stand-in of `stub_vllm.py`: it is not the engine that fails here.
"""

from __future__ import annotations

import time

import pytest

from .support import RUNS_S, SILENT, Site, copied, enlarge, finish, hold, let_go, serves, until, where

LOST = "`Service | Start the engine` ended without a word: the connection was lost, or its program there was killed"

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("fault", "undo"),
    [
        ("power_off", "power_on"),
        pytest.param("cut", "heal", marks=pytest.mark.long),
        pytest.param("pause", "resume", marks=pytest.mark.long),
    ],
)
def test_a_host_that_fails_while_weights_are_copied(site: Site, fault: str, undo: str) -> None:
    """h1 gets its weights and serves; h2 is named, and gets them from the next apply."""
    enlarge(site, 400)
    process = site.begin("apply")
    until(lambda: copied(site, "h2") > 20 << 20)
    getattr(site.lab, fault)("h2")
    assert finish(process, within_s=90) == 1
    assert serves(site, "h1")
    getattr(site.lab, undo)("h2")
    line = f"error: {where(site, 'h2')}: the connection was lost while weights were copied"
    assert site.said.splitlines()[-2:] == [line, "       hint: run the same command again: it goes on from there"]
    again = site.heavylift("apply", within_s=RUNS_S + 30)
    assert again.returncode == 0
    assert serves(site, "h2")


@pytest.mark.parametrize(
    ("fault", "undo", "says"),
    [
        ("power_off", "power_on", LOST),
        pytest.param("cut", "heal", SILENT, marks=pytest.mark.long),
        ("pause", "resume", SILENT),
    ],
)
def test_a_host_that_fails_while_its_engine_starts(site: Site, fault: str, undo: str, says: str) -> None:
    """The run ends long before the start's own limit of minutes; h1 serves."""
    hold(site, "h2")
    process = site.begin("apply")
    until(lambda: "Service | Start" in site.said)
    until(lambda: site.on("h2", f"systemctl is-active {site.unit}", check=False) == "activating")
    getattr(site.lab, fault)("h2")
    began = time.monotonic()
    assert finish(process, within_s=90) == 1
    print(fault, round(time.monotonic() - began, 1), site.said)
    assert serves(site, "h1")
    named = where(site, "h2") if fault == "power_off" else "h2"
    assert f"error: {named}: {says}" in site.said.splitlines()
    getattr(site.lab, undo)("h2")
    let_go(site, "h2")
    again = site.heavylift("apply", within_s=RUNS_S + 15)
    print(again.stderr)
    assert again.returncode == 0
    assert serves(site, "h1", "h2")
