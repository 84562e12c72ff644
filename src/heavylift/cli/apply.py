"""`heavylift apply`: bring every host to the release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heavylift.cli.options import Progress, open_workspace, say, spec

if TYPE_CHECKING:
    from heavylift.apply.apply import Result
    from heavylift.workspace import Workspace

__all__ = ["apply", "dry_run", "finish"]


@click.command()
@spec
@click.option("--dry-run", "dry", is_flag=True, help="Show what would change on each host, as a diff; change nothing.")
@click.option("--restart", is_flag=True, help="Change hosts that serve something else too, one after the other.")
def apply(spec: Path, dry: bool, restart: bool) -> None:
    """Put host, engine, weights and release in place; start and gate where nothing serves."""
    from heavylift.apply.apply import apply as run

    workspace = open_workspace(spec, online=True)
    if dry:
        raise SystemExit(dry_run(workspace, restart=restart))
    with Progress("applying") as report:
        results = run(workspace, restart=restart, report=report)
    raise SystemExit(finish(workspace, results))


def dry_run(workspace: Workspace, *, restart: bool) -> int:
    """Print what every host would get; return the exit status."""
    from heavylift.apply.apply import describe, look, targets
    from heavylift.apply.decide import decide
    from heavylift.errors import HeavyliftError

    wanted = targets(workspace)
    seen, status = look(workspace, wanted), 0
    for target in wanted:
        there = seen[target.host.name]
        if isinstance(there, HeavyliftError):
            say(f"{click.style('error:', fg='red')} {there.message}")
            status = 1
            continue
        click.echo(f"{target.host.name}: release {workspace.release.id}")
        for line in describe(target, there, decide(target, there, restart=restart)):
            click.echo("".join(f"  {row}\n" for row in line.splitlines()), nl=False)
    return status


def finish(workspace: Workspace, results: Sequence[Result]) -> int:
    """Say what became of every host; return the exit status."""
    from heavylift.render import scrape_file

    for result in results:
        name = result.host.name
        if result.error is not None:
            say(f"{click.style('error:', fg='red')} {result.error.message}")
            if result.error.hint:
                say(f"       hint: {result.error.hint}")
        elif result.waiting is not None:
            say(f"{name}: {result.waiting}")
        else:
            say(f"{name}: {f'changed: {_short(result.changed)}' if result.changed else 'nothing to change'}")
    scrape = scrape_file(workspace.plan, workspace.release, workspace.inventory)
    (workspace.folder / scrape.path).write_text(scrape.text, encoding="utf-8")
    return 1 if any(result.error is not None for result in results) else 0


def _short(steps: Sequence[str]) -> str:
    return ", ".join(step.rpartition(" | ")[2].lower() for step in steps)
