"""A host that shares nothing: the engine is installed there, from the package registries, by `apply`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heavylift.catalog.environment import engine_environment
from heavylift.lab import Lab

from .support import FIRST, deployment, stream, verdicts

pytestmark = pytest.mark.lab

INSTALL_S = 400.0


def test_an_engine_is_installed_on_the_host_itself(ready: None, model: Path, tmp_path: Path) -> None:
    """From nothing to tokens on one host; a second apply installs nothing, and a purge takes all of it away."""
    lab = Lab("e2e-install")
    lab.down()
    try:
        site = deployment(lab, tmp_path, model, 1)
        site.more(1)
        done = site.heavylift("apply", within_s=INSTALL_S)
        steps = FIRST.replace("place and verify", "install the engine environment, place and verify")
        assert (verdicts(done), done.returncode) == ([f"h1: {steps}"], 0)
        name = engine_environment("0.32.0", "cpu").name
        record = json.loads(site.on("h1", f"cat /opt/heavylift/engines/{name}/engine.json"))
        assert record["engine"].startswith("0.32.0")
        assert site.on("h1", "ls /opt/heavylift/bin") == "heavylift-host"
        assert stream(site.address("h1"), tokens=32)[:2] == (200, 32)
        assert json.loads(site.heavylift("status", "--json").stdout)["replicas"][0]["state"] == "active"
        assert verdicts(site.heavylift("apply")) == ["h1: nothing to change"]
        assert site.heavylift("down", "--purge").returncode == 0
        assert site.on("h1", "ls -A /opt") == ""
    finally:
        lab.down()
