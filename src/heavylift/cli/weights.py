"""`heavylift weights`: bring weights from a hub onto hosts, prove them, and see where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heavylift.cli.options import Progress, as_json, say, spec

if TYPE_CHECKING:
    from heavylift.apply.fetch import Fetched
    from heavylift.errors import HeavyliftError
    from heavylift.fleet.inventory import Host
    from heavylift.workspace import Workspace

__all__ = ["weights"]

_FETCHING = {"running": "running", "stopped": "stopped", "failed": "failed", "addresses": "waits for `weights fetch`"}
hosts_option = click.option(
    "--host", "names", multiple=True, metavar="NAME", help="Only this host; may be given again."
)


@click.group()
def weights() -> None:
    """Weights on hosts: fetch them from a hub, verify them, show where they stand."""


@weights.command()
@spec
@hosts_option
@as_json
def fetch(spec: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Fetch the model's commit onto every host, which does that itself; what is there is not fetched again."""
    from heavylift.apply.weights import fetch as run

    workspace = _open(spec)
    with Progress("fetching") as report:
        found = run(workspace, _hosts(workspace, names), report)
    if as_json:
        _print(workspace, {name: _fetched(result) for name, result in found.items()})
    raise SystemExit(_finish(found, _outcome))


@weights.command()
@spec
@hosts_option
@click.option("--deep", is_flag=True, help="Read and hash every byte again, on all cores.")
@as_json
def verify(spec: Path, names: tuple[str, ...], deep: bool, as_json: bool) -> None:
    """Compare the weights on every host with their manifest. Exit 1 unless all are what they should be."""
    from heavylift.apply.weights import verify as run

    workspace = _open(spec)
    found = run(workspace, _hosts(workspace, names), deep=deep)
    if as_json:
        _print(workspace, {name: _answered(result) for name, result in found.items()})
    raise SystemExit(_finish(found, _verdict))


@weights.command()
@spec
@hosts_option
@as_json
def status(spec: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Show each host's commit, state, when it was verified, and how far a fetch is."""
    from heavylift.apply.weights import status as run

    workspace = _open(spec)
    found = run(workspace, _hosts(workspace, names))
    rows = {name: _answered(result) for name, result in found.items()}
    if as_json:
        _print(workspace, rows)
    else:
        _table(workspace, rows)
    raise SystemExit(0 if all(row.get("status") == "verified" for row in rows.values()) else 1)


def _open(path: Path) -> Workspace:
    """Open the deployment; where it names a branch, say which commit that means today."""
    from heavylift.errors import SpecError
    from heavylift.workspace import Workspace

    try:
        return Workspace.open(path)
    except SpecError as error:
        from heavylift.apply.weights import pin
        from heavylift.weights.hub import Hub

        raise pin(path, error, Hub.from_environment(report=say)) from None


def _hosts(workspace: Workspace, names: Sequence[str]) -> list[Host]:
    hosts = workspace.inventory.hosts
    unknown = set(names) - {host.name for host in hosts}
    if unknown:
        known = ", ".join(host.name for host in hosts)
        raise click.UsageError(f"--host {min(unknown)}: no such host; there are {known}")
    return [host for host in hosts if not names or host.name in names]


def _print(workspace: Workspace, rows: dict[str, dict[str, Any]]) -> None:
    import json

    model, checkpoint = workspace.deployment.model, workspace.checkpoint
    document = {
        "schema": "heavylift/weights",
        "version": 1,
        "deployment": workspace.deployment.name,
        "repo": model.repo,
        "commit": model.revision,
        "manifest": checkpoint.manifest.sha256 if checkpoint else None,
        "bytes": checkpoint.manifest.size if checkpoint else None,
        "directory": workspace.plan.model_directory,
        "hosts": [{"host": name, **row} for name, row in rows.items()],
    }
    click.echo(json.dumps(document, indent=2))


def _finish(found: dict[str, Any], describe: Any) -> int:
    """Say what became of every host; return the exit status."""
    from heavylift.errors import HeavyliftError

    status = 0
    for name, result in found.items():
        line, wrong = (result.message, True) if isinstance(result, HeavyliftError) else describe(name, result)
        say(f"{click.style('error:', fg='red')} {line}" if wrong else line)
        if isinstance(result, HeavyliftError) and result.hint:
            say(f"       hint: {result.hint}")
        status |= int(wrong)
    return status


def _fetched(result: Fetched | HeavyliftError) -> dict[str, Any]:
    from dataclasses import asdict

    from heavylift.errors import HeavyliftError

    if isinstance(result, HeavyliftError):
        return {"error": result.message}
    return {**asdict(result), "error": None}


def _answered(result: dict[str, Any] | HeavyliftError) -> dict[str, Any]:
    return {**result, "error": None} if isinstance(result, dict) else {"status": "unknown", "error": result.message}


def _outcome(name: str, result: Fetched) -> tuple[str, bool]:
    if result.unchanged:
        return f"{name}: unchanged", False
    speed = f" ({result.moved / result.seconds / 1e6:.0f} MB/s)" if result.moved and result.seconds else ""
    return f"{name}: fetched {result.moved / 1e9:.2f} GB in {result.seconds:.0f} s{speed}", False


def _verdict(name: str, seen: dict[str, Any]) -> tuple[str, bool]:
    status, wrong = seen["status"], seen["files"]
    if status == "verified":
        read = f", {seen['bytes'] / 1e9:.2f} GB read in {seen['seconds']:.1f} s" if seen.get("bytes") else ""
        return f"{name}: as promised, verified {seen['verified'] or 'by its stamps'}{read}", False
    if status == "changed":
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"{name}: {wrong[0]}{more}: not what the manifest says; `heavylift apply` brings it again", True
    what = {"absent": "no weights are there", "other": "other files of this model are there"}
    return f"{name}: {what.get(status, 'weights are there that nobody verified')}; `heavylift apply` brings them", True


def _table(workspace: Workspace, rows: dict[str, dict[str, Any]]) -> None:
    from heavylift.apply.fetch import progress

    commit = (workspace.deployment.model.revision or workspace.plan.model_directory.rpartition("/")[2])[:12]
    lines = [("HOST", "COMMIT", "STATE", "VERIFIED", "FETCH")]
    for name, row in rows.items():
        seen = row.get("fetch") or {}
        fetching = seen.get("state") if row["status"] != "verified" else None
        shown = f"{_FETCHING[fetching]}, {progress(seen)}" if fetching in _FETCHING else "-"
        lines.append((name, commit, str(row["status"]), row.get("verified") or "-", shown))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for name, row in rows.items():
        problem = row["error"] or (row.get("fetch") or {}).get("message")
        if problem and row["status"] != "verified":
            say(f"{name}: {problem}")
