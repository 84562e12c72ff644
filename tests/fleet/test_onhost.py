"""The host program as it travels: equal bytes, any Python from 3.9, no heavylift beside it."""

from __future__ import annotations

import ast
import io
import json
import shlex
import subprocess
import zipfile
from pathlib import Path

import pytest

from heavylift import onhost
from heavylift.fleet.onhost import PATH, application, application_sha256, call, first_call

SYSTEM_PYTHON = "/usr/bin/python3"


def test_equal_sources_give_equal_bytes(monkeypatch):
    """The time of packing is not in it, so that a host that has it keeps it."""
    first = application()
    application.cache_clear()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert application() == first
    assert len(application_sha256()) == 64
    assert len(first) < 40_000


def test_it_holds_the_sources_and_nothing_else():
    """A shebang, a start, and the package's own files."""
    assert application().startswith(b"#!/usr/bin/env python3\nPK")
    with zipfile.ZipFile(io.BytesIO(application())) as archive:
        names = {f"onhost/{path.name}" for path in Path(onhost.__path__[0]).glob("*.py")}
        assert set(archive.namelist()) == {"__main__.py", *names}


@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="no system Python here")
def test_it_runs_where_nothing_of_heavylift_is(tmp_path):
    """The distribution's own Python, without site-packages, answers a look as JSON; a failure is one line."""
    path = tmp_path / "heavylift-host"
    path.write_bytes(application())
    argv = [SYSTEM_PYTHON, "-I", "-S", str(path)]
    done = subprocess.run(
        [*argv, "look", '{"files": ["/etc/hostname"]}'], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)["files"]) == {"/etc/hostname"}
    done = subprocess.run(
        [*argv, "check", '{"directory": "/nowhere"}'], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "heavylift: weights: /nowhere is not there; place the checkpoint, or correct the model section\n"
    )


def test_the_first_call_brings_it_along(tmp_path):
    """One shell line for a host that has nothing yet; it leaves no file behind, and passes the exit status on."""
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    line = first_call("look", {"links": ['/it\'s "odd" $HOME `x`']})
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["links"] == {'/it\'s "odd" $HOME `x`': None}
    failed = subprocess.run(
        ["sh", "-c", first_call("check", {"directory": "/no"})],
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert failed.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_host_without_python_is_one_line(tmp_path):
    """The one thing that a host must have."""
    done = subprocess.run(
        ["/bin/sh", "-c", first_call("look", {})],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "heavylift: python3 is missing; install it\n"


def test_later_calls_are_short_and_quoted():
    """The query is one word of the shell, whatever it holds."""
    assert shlex.split(call("gate", {"model": "it's $x", "b": 1})) == [PATH, "gate", '{"b": 1, "model": "it\'s $x"}']


def test_every_module_is_python_3_9():
    """Hosts run what their distribution ships."""
    for path in Path(onhost.__path__[0]).glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))
