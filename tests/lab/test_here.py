"""`heavylift lab here` without an engine's download: the stand-in of the whole-path tests takes vLLM's place."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from heavylift import assets
from heavylift.errors import GateError, LabError
from heavylift.lab.here import here, stop_here
from heavylift.lab.model import make
from heavylift.workspace import Workspace

STUB = Path(__file__).parents[1] / "e2e/stub_vllm.py"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A deployment for this machine whose engine environment stands already, with the stand-in in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copyfile(assets.folder("deployments") / "lab.yaml", tmp_path / "deployment.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "deployment.yaml").open("a") as file:
        file.write(f"\n  start_s: 20\naccess: {{port: {port}, key: HEAVYLIFT_TEST_KEY}}\n")
    make(tmp_path / "model")
    monkeypatch.setenv("HEAVYLIFT_TEST_KEY", "sk-here")
    workspace = Workspace.open(tmp_path / "deployment.yaml")
    assert workspace.plan.environment is not None
    engine = tmp_path / f"cache/heavylift/here{workspace.plan.engine_directory}"
    (engine / "bin").mkdir(parents=True)
    shutil.copyfile(STUB, engine / "bin/vllm")
    (engine / "bin/vllm").chmod(0o755)
    (engine / "engine.json").write_text("{}")
    return workspace


def test_the_unit_s_own_command_streams_through_the_same_gate(workspace: Workspace, tmp_path: Path) -> None:
    """The engine is started from the rendered files, proves itself, and is found again by a second call."""
    said: list[str] = []
    try:
        url = here(workspace, said.append)
        assert url == f"http://127.0.0.1:{workspace.deployment.access.port}"
        assert said[-1].startswith("streamed 16 tokens, ")
        assert said[-1].endswith("its counter moved by 16")
        here(workspace, said.append)
        assert "the engine runs already" in said
        pid = json.loads((workspace.folder / "here.json").read_text())["pid"]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert str(tmp_path / "model") in command
        assert "sk-here" not in command
    finally:
        assert stop_here(workspace) is True
    assert stop_here(workspace) is False


def test_an_engine_that_ends_at_its_start_is_quoted(workspace: Workspace, tmp_path: Path) -> None:
    """The engine's own decisive line is what the user reads, with advice."""
    engine = next((tmp_path / "cache").rglob("bin/vllm"))
    engine.write_text("#!/bin/sh\necho 'OSError: [Errno 98] Address already in use' >&2\nexit 1\n")
    with pytest.raises(GateError) as caught:
        here(workspace, lambda _line: None)
    assert caught.value.message == "the engine did not serve: OSError: [Errno 98] Address already in use"
    assert caught.value.hint == "another process has the port; choose another access.port, or stop it"


def test_a_gpu_deployment_is_refused(workspace: Workspace) -> None:
    """A process of this machine runs on its CPU; anything else is said plainly."""
    workspace.path.write_text(workspace.path.read_text().replace("from: lab", "from: owned").replace(
        "  count: 2", "  list: [{name: a, address: 192.0.2.1}]"
    ))  # fmt: skip
    with pytest.raises(LabError, match="lab here runs CPU deployments"):
        here(Workspace.open(workspace.path), lambda _line: None)
