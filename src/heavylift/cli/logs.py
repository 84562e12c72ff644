"""`heavylift logs`: the engines' journals."""

from __future__ import annotations

from pathlib import Path

import click

from heavylift.cli.options import open_workspace, spec

__all__ = ["logs"]


@click.command()
@spec
@click.option("--host", "only", multiple=True, help="Only this host; can be given more than once.")
@click.option(
    "--lines", default=50, show_default=True, type=click.IntRange(1, 100_000), help="Last lines of each host."
)
@click.option("--follow", is_flag=True, help="Go on printing as lines are written, until Ctrl-C.")
def logs(spec: Path, only: tuple[str, ...], lines: int, follow: bool) -> None:
    """Print the journal of each host's engine, each line with its host's name."""
    from heavylift.observe.logs import read

    workspace = open_workspace(spec)
    read(workspace, only, lines=lines, follow=follow, on_line=lambda host, line: click.echo(f"{host}  {line}"))
