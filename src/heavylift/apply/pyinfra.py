"""One pyinfra run as a child process: its command line, what it says, and what became of every host.

Success is exit 0 *and* a JSON document *and* every host in it *and* none among the failed: exit 0 alone proves nothing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
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

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_HOST_LINE = re.compile(r"^\s*\[(?P<host>[^\]]+)\]\s*(?P<text>.*)$")
_STEP = re.compile(r"--> Starting operation: (?P<name>.*?)\s*$")
_ALWAYS = ("Lock | ", "Service | Gate")  # steps that run every time and change nothing


@dataclass(slots=True)
class Outcome:
    """What a run came to: hosts that failed, each with one line; steps that changed something, by host."""

    failed: dict[str, HeavyliftError] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)


def command_line(workspace: Workspace, function: str, *, hosts: Sequence[str] = (), data: Mapping[str, str] = {}) -> list[str]:  # noqa: B006
    """Return the pyinfra command that a user can paste."""
    inventory = assets.folder("inventories") / f"{workspace.deployment.hosts.source}.py"
    words = ["pyinfra", str(inventory), function, "-y", "--json"]
    words += [word for host in hosts for word in ("--limit", host)]
    return words + [word for key, value in data.items() for word in ("--data", f"{key}={value}")]


def run(
    workspace: Workspace, words: Sequence[str], hosts: Sequence[Host], *, limit_s: float, on_step: Callable[[str], None]
) -> Outcome:
    """Run pyinfra, tell each step to `on_step`, and return what became of `hosts`; a full log stays in `.heavylift/`."""
    folder = workspace.folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    reader = _Reader(on_step)
    environment = {
        VARIABLE: str(workspace.path.absolute()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(assets.project()), os.environ.get("PYTHONPATH", "")])),
        "PYINFRA_PROGRESS": "off",
    }
    with (folder / "pyinfra.json").open("w+b") as answer, (folder / "pyinfra.log").open("w", encoding="utf-8") as log:
        log.write(f"$ {VARIABLE}={shlex.quote(environment[VARIABLE])} {shlex.join(words)}\n")

        def line(text: str) -> None:
            log.write(f"{text}\n")
            reader.read(_ANSI.sub("", text))

        argv = [sys.executable, "-m", *words]
        status = stream(argv, on_line=line, timeout_s=limit_s, env=environment, cwd=folder, stdout=answer)
        answer.seek(0)
        document = _document(answer.read())
    return _outcome(document, status, hosts, reader, folder / "pyinfra.log")


class _Reader:
    """Reads pyinfra's log lines: steps for the user, and every host's last words."""

    def __init__(self, on_step: Callable[[str], None]) -> None:
        self.said: dict[str, list[str]] = {}
        self.step = "connecting"
        self.failed_in: dict[str, str] = {}
        self._on_step = on_step

    def read(self, line: str) -> None:
        step = _STEP.search(line)
        if step:
            self.step = step["name"].removesuffix(" (in deploy)")
            self._on_step(self.step)
            return
        spoken = _HOST_LINE.match(line)
        if spoken and spoken["text"]:
            self.said.setdefault(spoken["host"], []).append(spoken["text"])
            self.failed_in[spoken["host"]] = self.step


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
    step = reader.failed_in.get(host.name, reader.step)
    if own:
        return HeavyliftError(f"{host.name}: {own[-1]}")
    connecting = [text for text in said if re.search(r"Could not connect|SSH|Authentication|resolve|EOF error", text)]
    if connecting:
        return unreachable(host, connecting[-1])
    if status == 124:
        return HeavyliftError(f"{host.name}: no end in time at `{step}`; its state is unknown", hint=f"see {log}, run again")
    if not known and not said:
        return HeavyliftError(f"{host.name}: the run stopped at `{step}`; its state is unknown", hint=f"see {log}, run again")
    return HeavyliftError(f"{host.name}: {step}: {said[-1] if said else 'failed'}", hint=f"see {log}")


def _named(results: Mapping[str, Any]) -> set[str]:
    names = {name for operation in results.get("operations", []) for key in ("success", "error", "no_change") for name in operation.get(key, [])}
    return names | set(results.get("failed_hosts", []))


def _changed(results: Mapping[str, Any], host: str) -> list[str]:
    steps = []
    for operation in results.get("operations", []):
        name = ", ".join(operation.get("names", [])) or str(operation.get("name", ""))
        if host in operation.get("success", []) and not name.startswith(_ALWAYS):
            steps.append(name)
    return steps
