"""One replica without hosts: the rendered unit's own command and environment as a process of this machine.

For machines that cannot carry the lab. A folder of the user's stands in for a host's `/`: every path of the rendered
files is moved below it, nothing else is changed, and the same gate decides whether the engine serves.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from heavylift.errors import CommandError, GateError, LabError
from heavylift.fleet.inventory import Host
from heavylift.fleet.onhost import application
from heavylift.render import host_files, install_script, render
from heavylift.run import run, start, stream
from heavylift.workspace import Workspace

__all__ = ["here", "stop_here"]

ADDRESS = "127.0.0.1"
_MOVED = ("/opt/heavylift", "/etc/heavylift", "/var/lib/heavylift", "/var/cache/heavylift")
Report = Callable[[str], None]


def here(workspace: Workspace, report: Report) -> str:
    """Install the engine below the user's cache, start it, let it prove itself; return its URL."""
    plan = workspace.plan
    if (
        plan.device != "cpu"
        or workspace.deployment.model.path is None
        or workspace.checkpoint is None
        or plan.environment is None
    ):
        raise LabError(
            "lab here runs CPU deployments with a checkpoint on this machine", hint="`heavylift init --lab` writes one"
        )
    root, url = _root(), f"http://{ADDRESS}:{plan.deployment.access.port}"
    if _alive(workspace) is not None:
        report("the engine runs already")
    else:
        _install(root, plan.environment.name, install_script(plan.environment), report)
        _start(workspace, root, report)
    _gate(workspace, report)
    return url


def stop_here(workspace: Workspace) -> bool:
    """End the process that `here` started; return whether there was one."""
    pid = _alive(workspace)
    _note(workspace).unlink(missing_ok=True)
    if pid is None:
        return False
    os.killpg(pid, signal.SIGTERM)
    return True


def _root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heavylift" / "here"


def _moved(text: str, root: Path) -> str:
    for path in _MOVED:
        text = text.replace(path, f"{root}{path}")
    return text


def _install(root: Path, name: str, script: str, report: Report) -> None:
    if (root / "opt/heavylift/engines" / name / "engine.json").is_file():
        return
    path = root / "install.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_moved(script, root), encoding="utf-8")
    said = ["no output"]

    def line(text: str) -> None:
        said.append(text)
        report(f"engine: {text}")

    status = stream(["sh", str(path)], on_line=line, timeout_s=3600, env=_numa(root, report))
    if status != 0:
        raise LabError(f"the engine could not be installed: {said[-1].removeprefix('heavylift: ')}")


def _numa(root: Path, report: Report) -> dict[str, str]:
    """Return the library path of libnuma1, which vLLM's CPU build needs; unpacked without root where it is missing."""
    if ctypes.util.find_library("numa"):
        return {}
    folder = root / "libnuma"
    if not list(folder.rglob("libnuma.so.1")):
        report("libnuma1 is not installed: unpacking it here")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            run(["apt-get", "download", "libnuma1"], cwd=folder, timeout_s=120)
            run(["dpkg", "-x", next(folder.glob("libnuma1_*.deb")).name, "."], cwd=folder)
        except (CommandError, OSError, StopIteration):
            raise LabError("libnuma1 is missing", hint="install it (apt-get install libnuma1)") from None
    return {"LD_LIBRARY_PATH": str(next(folder.rglob("libnuma.so.1")).parent)}


def _start(workspace: Workspace, root: Path, report: Report) -> None:
    plan, checkpoint = workspace.plan, workspace.checkpoint
    assert checkpoint is not None
    machine = Host("here", ADDRESS, ADDRESS)
    files = [*render(plan).files, *host_files(plan, machine, 0)]
    for file in files:
        path = Path(f"{root}{file.path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _moved(file.text, root).replace(plan.model_directory, str(checkpoint.directory.resolve()))
        path.write_text(text, encoding="utf-8")
        path.chmod(int(file.mode, 8))
    placed = {file.path.rpartition("/")[2]: Path(f"{root}{file.path}") for file in files}
    environment = {**_numa(root, report), **_read(placed["engine.env"]), **_read(placed["host.env"])}
    for folder in (environment["HOME"], environment["XDG_CACHE_HOME"], f"{root}{plan.secrets}"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    key = workspace.key()
    if key is not None:
        secret = Path(f"{root}{plan.secrets}/api-key")
        secret.touch(mode=0o600)
        secret.write_text(key, encoding="utf-8")
        environment["CREDENTIALS_DIRECTORY"] = str(secret.parent)
    log = workspace.folder / "here.log"
    workspace.folder.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    report(f"starting {placed['serve']} (log: {log})")
    process = start([str(placed["serve"])], log=log, env=environment)
    process.returncode = 0  # it lives on after this command, which will not wait for it
    _note(workspace).write_text(json.dumps({"pid": process.pid, "serve": str(placed["serve"])}), encoding="utf-8")


def _read(path: Path) -> dict[str, str]:
    """Read an environment file as systemd would."""
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {key: shlex.split(value)[0] for key, _, value in (row.partition("=") for row in rows)}


def _gate(workspace: Workspace, report: Report) -> None:
    plan, pid = workspace.plan, _alive(workspace)
    program = workspace.folder / "heavylift-host"
    program.write_bytes(application())
    query = {"address": ADDRESS, "port": plan.deployment.access.port, "model": plan.deployment.served_name}
    if plan.deployment.access.key is not None:
        query["key_file"] = f"{_root()}{plan.secrets}/api-key"
    report("waiting until it streams tokens")
    try:
        argv = [
            sys.executable,
            str(program),
            "gate",
            json.dumps({**query, "pid": pid, "timeout_s": plan.timeouts.start_s}),
        ]
        done = run(argv, timeout_s=plan.timeouts.start_s + 180)
    except CommandError as error:
        from heavylift.onhost.decisive import decisive

        stop_here(workspace)
        found = decisive((workspace.folder / "here.log").read_text(errors="replace").splitlines())
        said = (
            error.output.strip().splitlines()[-1].removeprefix("heavylift: ") if error.output.strip() else "no answer"
        )
        raise GateError(
            f"the engine did not serve: {found.line if found else said}", hint=found.advice if found else None
        ) from None
    proof = json.loads(done.stdout)
    streamed = f"streamed {proof['tokens']} tokens, the first after {proof['ttft_s']:.2f} s"
    report(f"{streamed}; its counter moved by {proof['counter']}")


def _note(workspace: Workspace) -> Path:
    return workspace.folder / "here.json"


def _alive(workspace: Workspace) -> int | None:
    """Return the pid of the engine that was started here, if it still is that engine."""
    try:
        note = json.loads(_note(workspace).read_text(encoding="utf-8"))
        command = Path(f"/proc/{note['pid']}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError):
        return None
    return int(note["pid"]) if any(b"vllm" in word or note["serve"].encode() in word for word in command) else None
