"""One pyinfra run as a child process: its command line, what it says, and what became of every host.

Success is exit 0 *and* a JSON document *and* every host in it *and* none among the failed: exit 0 alone proves nothing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heavylift import assets
from heavylift.errors import HeavyliftError
from heavylift.fleet.inventory import Host
from heavylift.fleet.ssh import unreachable
from heavylift.run import stream
from heavylift.workspace import VARIABLE, Workspace

__all__ = ["Outcome", "command_line", "run"]

KEPT_LOGS = 20
_BEGAN = time.strftime("%Y%m%dT%H%M%S")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_HOST_LINE = re.compile(r"^\s*\[(?P<host>[^\]]+)\]\s*(?P<text>.*)$")
_STEP = re.compile(r"--> Starting operation: (?P<name>.*?)\s*$")
# pyinfra's own words about a host's step, which explain nothing.
_STATUS = re.compile(r"(Connected|Ready: .*|Success|No changes|Error(: executed \d+ commands)?|Loaded fact .*)$")
_ALWAYS = ("Lock | ", "Service | Gate")  # steps that run every time and change nothing


@dataclass(slots=True)
class Outcome:
    """What a run came to: hosts that failed, each with one line; steps that changed something, by host."""

    failed: dict[str, HeavyliftError] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)


def command_line(
    workspace: Workspace, function: str, *, hosts: Sequence[str] = (), data: Mapping[str, str] = {}
) -> list[str]:
    """Return the pyinfra command that a user can paste."""
    inventory = assets.folder("inventories") / f"{workspace.deployment.hosts.source}.py"
    words = ["pyinfra", str(inventory), function, "-y", "--json"]
    words += [word for host in hosts for word in ("--limit", host)]
    return words + [word for key, value in data.items() for word in ("--data", f"{key}={value}")]


def run(
    workspace: Workspace, words: Sequence[str], hosts: Sequence[Host], *, limit_s: float, on_step: Callable[[str], None]
) -> Outcome:
    """Run pyinfra, tell each step to `on_step`, return what became of `hosts`; its log stays in `.heavylift/run/`."""
    path = _log(workspace.folder / "run")
    reader = _Reader(on_step)
    environment = {
        VARIABLE: str(workspace.path.absolute()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(assets.project()), os.environ.get("PYTHONPATH", "")])),
        "PYINFRA_PROGRESS": "off",
        "HEAVYLIFT_PID": str(os.getpid()),  # the lock's owner, as the user can see and end it
    }
    with tempfile.TemporaryFile() as answer, path.open("a", encoding="utf-8", buffering=1) as log:
        log.write(f"$ {VARIABLE}={shlex.quote(environment[VARIABLE])} {shlex.join(words)}\n")

        def line(text: str) -> None:
            log.write(f"{text}\n")
            reader.read(_ANSI.sub("", text))

        argv = [sys.executable, "-m", *words]
        status = stream(argv, on_line=line, timeout_s=limit_s, env=environment, cwd=path.parent, stdout=answer)
        answer.seek(0)
        document = _document(answer.read())
    return _outcome(document, status, hosts, reader, path)


def _log(folder: Path) -> Path:
    """Return this process's own log file, `pyinfra.log` being a link to the newest; old ones go."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_BEGAN}-{os.getpid()}.log"
    for old in sorted(folder.glob("*-*.log"))[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
    beside = folder / f".pyinfra.log.{os.getpid()}"
    beside.unlink(missing_ok=True)
    beside.symlink_to(path.name)
    beside.replace(folder / "pyinfra.log")
    return path


class _Reader:
    """Reads pyinfra's log lines: steps for the user, and what every host said in its last step."""

    def __init__(self, on_step: Callable[[str], None]) -> None:
        self.said: dict[str, list[str]] = {}
        self.step = "connecting"
        self.spoke_in: dict[str, str] = {}
        self.failed: set[str] = set()
        self._on_step = on_step

    def read(self, line: str) -> None:
        step = _STEP.search(line)
        if step:
            self.step = step["name"].removesuffix(" (in deploy)")
            self._on_step(self.step)
            return
        spoken = _HOST_LINE.match(line)
        if spoken and spoken["text"].startswith("weights: "):
            self._on_step(f"{spoken['host']}: {spoken['text'].removeprefix('weights: ')}")
        elif spoken and spoken["text"]:
            host = spoken["host"]
            if self.spoke_in.get(host) != self.step:
                self.said[host] = []  # what it said in an earlier step is no reason for a failure in this one
            self.spoke_in[host] = self.step
            if spoken["text"].startswith("Error"):
                self.failed.add(host)  # known also where the run ends without a document, since no host remained
            if not _STATUS.match(spoken["text"]):
                self.said[host].append(spoken["text"])


def _document(text: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) and document.get("results") else None


def _outcome(
    document: dict[str, Any] | None, status: int, hosts: Sequence[Host], reader: _Reader, log: Path
) -> Outcome:
    outcome = Outcome()
    results = document["results"] if document else {}
    failed = set(results.get("failed_hosts", []))
    for host in hosts:
        steps = _changed(results, host.name)
        if steps:
            outcome.changed[host.name] = steps
        known = document is not None and host.name in _named(results)
        if known and host.name not in failed and status == 0:
            continue
        if known and host.name not in failed and status == 1 and failed:
            continue
        outcome.failed[host.name] = _failure(host, reader, status, log, known=host.name in failed or known)
    return outcome


def _failure(host: Host, reader: _Reader, status: int, log: Path, *, known: bool) -> HeavyliftError:
    said = reader.said.get(host.name, [])
    own = [text.removeprefix("heavylift: ") for text in said if text.startswith("heavylift: ")]
    step = reader.spoke_in.get(host.name, reader.step)
    hints = [text.removeprefix("hint: ") for text in said if text.startswith("hint: ")]
    if own:
        named = own[-1] if own[-1].startswith(f"{host.name} (") else f"{host.name}: {own[-1]}"
        return HeavyliftError(named, hint=hints[-1] if hints else None)
    connecting = [text for text in said if re.search(r"Could not connect|SSH|Authentication|resolve|EOF error", text)]
    if connecting:
        return unreachable(host, connecting[-1])
    if status == 124:  # our own limit for the whole run
        return HeavyliftError(
            f"{host.name}: no end in time at `{step}`; its state is unknown", hint=f"see {log}, run again"
        )
    if not known and not said and host.name not in reader.failed:
        return HeavyliftError(
            f"{host.name}: the run stopped at `{step}`; its state is unknown", hint=f"see {log}, run again"
        )
    if not said:
        why = "the connection was lost, or its program there was killed"
        return unreachable(host, "", otherwise=f"`{step}` ended without a word: {why}")
    return HeavyliftError(f"{host.name}: {step}: {said[-1]}", hint=f"see {log}")


def _named(results: Mapping[str, Any]) -> set[str]:
    names = {
        name
        for operation in results.get("operations", [])
        for key in ("success", "error", "no_change")
        for name in operation.get(key, [])
    }
    return names | set(results.get("failed_hosts", []))


def _changed(results: Mapping[str, Any], host: str) -> list[str]:
    steps = []
    for operation in results.get("operations", []):
        name = ", ".join(operation.get("names", [])) or str(operation.get("name", ""))
        if host in operation.get("success", []) and not name.startswith(_ALWAYS):
            steps.append(name)
    return steps
