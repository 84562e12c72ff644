"""Stand-ins for the tools of a host: small scripts that come first on PATH."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Return a function that puts a shell script of this name first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write
