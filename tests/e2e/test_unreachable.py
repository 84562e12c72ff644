"""Hosts that cannot be reached when an apply begins: one line each, the others served, repaired by the next apply.

The engine is the stand-in of `stub_vllm.py`: it is not the engine that fails here.
"""

from __future__ import annotations

import json

import pytest

from heavylift.run import run

from .support import FIRST, RUNS_S, Site, repaired, serves, verdicts, where

pytestmark = pytest.mark.lab


def test_a_host_that_is_off(site: Site) -> None:
    """Before anything begins: h2 is named with its address, h1 comes up, the next apply does h2."""
    site.lab.power_off("h2")
    done = site.heavylift("apply", within_s=RUNS_S)
    hint = "       hint: is the host up, is sshd running, and are address and port right?"
    assert verdicts(done) == [f"h1: {FIRST}", f"error: {where(site, 'h2')}: cannot be connected to", hint]
    assert done.returncode == 1
    assert serves(site, "h1")
    site.lab.power_on("h2")
    repaired(site, "h1: nothing to change", f"h2: {FIRST}")


@pytest.mark.long
def test_a_host_whose_cable_is_out(site: Site) -> None:
    """No answer at all is a matter of the connect timeout."""
    site.lab.cut("h2")
    done = site.heavylift("apply", within_s=RUNS_S + 15)
    hint = "       hint: is the host up, and is the address right?"
    assert verdicts(done) == [f"h1: {FIRST}", f"error: {where(site, 'h2')}: no answer", hint]
    assert done.returncode == 1
    site.lab.heal("h2")
    repaired(site, "h1: nothing to change", f"h2: {FIRST}")


@pytest.mark.long
def test_a_host_that_hangs(site: Site) -> None:
    """Its kernel accepts the connection and nobody greets."""
    site.lab.pause("h2")
    done = site.heavylift("apply", within_s=RUNS_S + 30)
    line = "it hangs: it takes the connection, but sshd does not greet"
    hint = "       hint: look at its console"
    assert verdicts(done) == [f"h1: {FIRST}", f"error: {where(site, 'h2')}: {line}", hint]
    assert done.returncode == 1
    site.lab.resume("h2")
    repaired(site, "h1: nothing to change", f"h2: {FIRST}")


def test_a_key_that_the_host_refuses(site: Site) -> None:
    """The line says as whom and where we tried, the hint how to try it by hand."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(site.folder / "other")])
    _inventory(site, key=str(site.folder / "other"))
    done = site.heavylift("apply", within_s=RUNS_S)
    command = f"ssh -p 22 root@{site.address('h2')}"
    assert verdicts(done) == [
        f"h1: {FIRST}",
        f"error: {where(site, 'h2')}: it refuses our key",
        f"       hint: check user and key: `{command}` must work without a question",
    ]
    assert done.returncode == 1


def test_a_host_key_that_is_not_the_expected_one(site: Site) -> None:
    """Nothing is sent to a machine that may be another one, by no command."""
    known = json.loads((site.folder / ".heavylift/inventory.json").read_text())["hosts"][0]["host_key"]
    _inventory(site, host_key=known)
    done = site.heavylift("apply", within_s=RUNS_S)
    hint = "it was set up anew, or another machine answers there: find out which, then correct host_key or known_hosts"
    line = f"{where(site, 'h2')}: its host key is not the expected one"
    assert verdicts(done) == [f"h1: {FIRST}", f"error: {line}", f"       hint: {hint}"]
    assert done.returncode == 1
    assert site.heavylift("status").stderr == f"error: {line}\n"
    assert site.on("h2", "ls /opt") == "heavylift"
    assert site.on("h2", "ls /opt/heavylift") == "engines"


def _inventory(site: Site, **changes: str) -> None:
    """Change what the inventory says of h2."""
    path = site.folder / ".heavylift/inventory.json"
    document = json.loads(path.read_text())
    document["hosts"][1].update(changes)
    path.write_text(json.dumps(document))
