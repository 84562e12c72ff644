"""Hosts and deployments for the tests of the whole path."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heavylift.lab import Lab
from heavylift.lab.model import make

from .support import Site, deployment


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny checkpoint; tests that damage it copy it first."""
    directory = tmp_path_factory.mktemp("weights") / "model"
    make(directory)
    return directory


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out an engine environment whose `vllm` is `stub_vllm.py`."""
    folder = tmp_path_factory.mktemp("stub")
    (folder / "bin").mkdir()
    shutil.copyfile(Path(__file__).with_name("stub_vllm.py"), folder / "bin/vllm")
    (folder / "bin/vllm").chmod(0o755)
    (folder / "engine.json").write_text('{"schema": "heavylift/engine", "version": 1, "engine": "stub"}\n')
    for path in (folder, folder / "bin"):
        path.chmod(0o755)  # the service user reads it
    return folder


@pytest.fixture
def fresh(ready: None, stub: Path, model: Path, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make a deployment on hosts that nobody used before, with the stand-in for the engine; hosts end with the test."""
    lab = Lab("e2e-faults")

    sites: list[Site] = []

    def build(count: int = 2) -> Site:
        site = deployment(lab, tmp_path, model, count)
        sites.append(site)
        site.more(count)
        site.lay(stub)
        return site

    lab.down()
    yield build
    for site in sites:
        site.end()
    lab.down()


@pytest.fixture
def site(fresh: Callable[..., Site]) -> Site:
    """Two fresh hosts and a deployment for them."""
    return fresh()


@pytest.fixture
def desk(model: Path, tmp_path: Path) -> Site:
    """Write a deployment without hosts: for what must be found before any is asked."""
    return deployment(Lab("e2e-none"), tmp_path, model, 2)
