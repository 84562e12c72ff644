"""`apply` as a whole: look (for a dry run), run, and say what became of every host."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift.apply import pyinfra
from heavylift.apply.decide import Changes, decide, diff
from heavylift.apply.target import Target
from heavylift.errors import HeavyliftError
from heavylift.fleet.inventory import Host
from heavylift.fleet.question import ask_each
from heavylift.workspace import Workspace

__all__ = ["Result", "apply", "describe", "limit_s", "look", "targets"]

INSTALL_S = 3600
SLOWEST_BYTES_PER_S = 20e6
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one host: `changed` steps, `waiting` for somebody's decision, or the `error`."""

    host: Host
    changed: tuple[str, ...] = ()
    waiting: str | None = None
    error: HeavyliftError | None = None


def targets(workspace: Workspace) -> tuple[Target, ...]:
    """Return every host's target."""
    key = workspace.key()
    digest = hashlib.sha256(key.encode()).hexdigest() if key is not None else None
    return tuple(Target(workspace.plan, workspace.release, host, slot, digest) for host, slot in workspace.slots)


def look(workspace: Workspace, wanted: Sequence[Target]) -> dict[str, dict[str, Any] | HeavyliftError]:
    """Look at all hosts at once."""
    queries = {target.host.name: target.query for target in wanted}
    return ask_each([target.host for target in wanted], workspace.known_hosts, "look", lambda host: queries[host.name])


def apply(workspace: Workspace, *, restart: bool, report: Report) -> list[Result]:
    """Bring every host to the release; `restart` changes serving hosts too, one after the other, gate between."""
    wanted = targets(workspace)
    results = _run(workspace, wanted, report, restart=False)
    if not restart:
        return results
    for index, result in enumerate(results):
        if result.waiting is None or result.error is not None:
            continue
        report(f"{result.host.name}: restarting into release {workspace.release.id}")
        results[index] = _run(workspace, [wanted[index]], report, restart=True)[0]
        if results[index].error is not None:
            report("stopped: the other hosts go on serving what they served")
            break
    return results


def describe(target: Target, seen: dict[str, Any], changes: Changes) -> list[str]:
    """Return what a dry run prints for one host: steps, then diffs of every file that changes."""
    if changes.refusal:
        return [f"refused: {changes.refusal}"]
    lines = [f"install packages: {', '.join(changes.packages)}"] if changes.packages else []
    lines += ["make the service user heavylift"] if changes.user else []
    lines += [f"make {path} ({owner}, {mode})" for path, owner, mode in changes.directories]
    lines += ["place /opt/heavylift/bin/heavylift-host"] if changes.program else []
    lines += [f"install the engine environment {target.plan.engine_directory}"] if changes.engine else []
    lines += [f"{changes.weights} the checkpoint {target.plan.model_directory}"] if changes.weights else []
    lines += ["write the API key (not shown)"] if changes.key else []
    lines += [f"point {target.link} at releases/{target.release.id}"] if changes.link else []
    lines += (
        [{"wait": "wait for the engine's start"}.get(changes.start, f"{changes.start} the engine")]
        if changes.start
        else []
    )
    lines += [changes.waiting] if changes.waiting else []
    lines += [diff(file, seen).rstrip("\n") for file in (*changes.staged, *changes.settings)]
    return lines or ["nothing to change"]


def limit_s(workspace: Workspace) -> float:
    """Return the outer time limit of one run: the sum of its steps' own limits, in seconds."""
    size = workspace.plan.checkpoint.manifest.size if workspace.plan.checkpoint else 0
    limits = workspace.plan.timeouts
    return 900 + INSTALL_S + size / SLOWEST_BYTES_PER_S + limits.start_s + limits.stop_s


def _run(workspace: Workspace, wanted: Sequence[Target], report: Report, *, restart: bool) -> list[Result]:
    hosts = [target.host for target in wanted]
    limited = [host.name for host in hosts] if len(hosts) < len(workspace.inventory.hosts) else []
    words = pyinfra.command_line(workspace, "deploy.all", hosts=limited, data={"restart": "1"} if restart else {})
    report(f"$ {' '.join(words)}")
    outcome = pyinfra.run(workspace, words, hosts, limit_s=limit_s(workspace), on_step=report)
    after = look(workspace, [target for target in wanted if target.host.name not in outcome.failed])
    return [_result(target, outcome, after.get(target.host.name)) for target in wanted]


def _result(target: Target, outcome: pyinfra.Outcome, seen: dict[str, Any] | HeavyliftError | None) -> Result:
    host, changed = target.host, tuple(outcome.changed.get(target.host.name, ()))
    if host.name in outcome.failed:
        return Result(host, changed, error=outcome.failed[host.name])
    if isinstance(seen, HeavyliftError):
        return Result(host, changed, error=seen)
    assert seen is not None
    left = decide(target, seen)
    if left.waiting:
        return Result(host, changed, waiting=left.waiting)
    if left.any or left.refusal:
        return Result(
            host,
            changed,
            error=HeavyliftError(f"{host.name}: changed again behind the run's back", hint="run it again"),
        )
    return Result(host, changed)
