"""The `heavylift` command: a thin skin over the core. Only this folder imports click.

Commands are loaded when they are named, and import the core inside their bodies, so that `--help` stays fast.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from heavylift.errors import HeavyliftError

__all__ = ["cli", "main"]

# In the order of a deployment's life; `--help` shows them so.
COMMANDS = ("init", "check", "render", "schema", "lab", "up", "weights", "apply", "status", "logs", "down")


class _Commands(click.Group):
    """Finds `NAME` in `heavylift.cli.NAME`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"heavylift.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="heavylift", message="heavylift %(version)s")
@click.option("--verbose", is_flag=True, help="Show a traceback where something fails.")
def cli(verbose: bool) -> None:
    """From the name of a large model to a production endpoint on hosts that you own or rent."""


def no_color() -> bool | None:
    """Return False where the user wants no colour, for `click.echo`; None leaves it to the terminal."""
    return False if os.environ.get("NO_COLOR") else None


def main() -> None:
    """Run the command; an expected failure is one line and exit status 1, a wrong call exits with 2."""
    verbose = "--verbose" in sys.argv
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except HeavyliftError as error:
        if verbose:
            raise
        _show(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\ninterrupted; what was begun can be continued: run the same command again", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if verbose or error.filename is None:
            raise
        _show(HeavyliftError(f"{error.filename}: {error.strerror}"))
        sys.exit(1)


def _show(error: HeavyliftError) -> None:
    for line in error.message.splitlines():
        click.echo(f"{click.style('error:', fg='red')} {line}", err=True, color=no_color())
    if error.hint:
        click.echo(f"\n{click.style('hint:', fg='cyan')} {error.hint}", err=True, color=no_color())
