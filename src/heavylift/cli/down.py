"""`heavylift down`: stop what serves."""

from __future__ import annotations

from pathlib import Path

import click

from heavylift.cli.options import open_workspace, say, spec

__all__ = ["down"]


@click.command()
@spec
@click.option(
    "--purge", is_flag=True, help="Also remove everything that heavylift placed on the hosts, and nothing else."
)
def down(spec: Path, purge: bool) -> None:
    """Stop and disable the engines; files stay, so that `up` is quick, unless --purge takes them away."""
    from heavylift.apply.down import down as run
    from heavylift.errors import HeavyliftError

    workspace = open_workspace(spec)
    status = 0
    for name, answer in run(workspace, purge=purge).items():
        if isinstance(answer, HeavyliftError):
            say(f"{click.style('error:', fg='red')} {answer.message}")
            status = 1
        else:
            say(f"{name}: stopped" + (f", removed {len(answer['removed'])} paths" if purge else ""))
    raise SystemExit(status)
