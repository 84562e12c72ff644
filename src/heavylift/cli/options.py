"""Arguments and options that several commands share, and how they print."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from heavylift.workspace import Workspace

__all__ = ["Progress", "as_json", "open_workspace", "say", "spec", "warn"]

spec = click.argument("spec", type=click.Path(path_type=Path), default=Path("deployment.yaml"))
as_json = click.option("--json", "as_json", is_flag=True, help="Print data on standard output.")


def say(line: str) -> None:
    """Tell the user something: on stderr, since stdout is for data."""
    from heavylift.cli import no_color

    click.echo(line, err=True, color=no_color())


def warn(workspace: Workspace) -> None:
    """Print the warnings of a deployment; notes are `check`'s matter."""
    for problem in workspace.problems:
        if problem.severity == "warning":
            say(f"{click.style('warning:', fg='yellow')} {workspace.show(problem)}")


def open_workspace(path: Path, *, online: bool = False) -> Workspace:
    """Open a deployment for a command that acts on it; `online`, the hub is asked about what is not remembered."""
    from heavylift.workspace import Workspace

    workspace = Workspace.open(path)
    if online and workspace.wish is not None and workspace.checkpoint is None:
        _learn(workspace)
    workspace.plan  # noqa: B018  errors of the plan come before anything is touched
    warn(workspace)
    return workspace


def _learn(workspace: Workspace) -> None:
    """Ask the hub; where it cannot be reached, hosts may have the weights all the same, and `apply` checks those."""
    from heavylift.apply.weights import learn
    from heavylift.weights.hub import UnreachableError

    try:
        learn(workspace, say)
    except UnreachableError as error:
        say(
            f"{click.style('warning:', fg='yellow')} {error.message}; weights that hosts have are checked, none fetched"
        )


class Progress:
    """Lines with the seconds since the start; on a terminal, the last one stays alive while its step runs."""

    def __init__(self, title: str) -> None:
        self._began = time.monotonic()
        self._title = title
        self._status: Any = None

    def __enter__(self) -> Callable[[str], None]:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status(f"{self._title} …")
            self._status.start()
        return self.report

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def report(self, line: str) -> None:
        """Show one step."""
        say(f"{time.monotonic() - self._began:6.1f} s  {line}")
        if self._status is not None:
            self._status.update(f"{line} …")
