"""One look a host, and the one operation that all steps are made of."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FactBase, operation
from pyinfra.api.command import FileUploadCommand, FunctionCommand, StringCommand

from heavylift.apply import Changes, Target, decide
from heavylift.apply.apply import targets
from heavylift.apply.decide import unseen
from heavylift.errors import HeavyliftError
from heavylift.fleet.inventory import Host
from heavylift.fleet.onhost import call, first_call
from heavylift.workspace import Workspace

__all__ = ["Look", "changes", "local", "machine", "on_host", "perform", "seen", "target", "tell", "workspace"]

Command = StringCommand | FileUploadCommand | FunctionCommand


class Look(FactBase[dict[str, Any]]):
    """What is on a host, as one JSON document from one command."""

    def command(self, query: str) -> str:
        """Bring the program along, since the host may not have it, or not this one."""
        return first_call("look", json.loads(query))

    def process(self, output: list[str]) -> dict[str, Any]:
        """Read the document."""
        document: dict[str, Any] = json.loads("\n".join(output))
        return document


@functools.cache
def workspace() -> Workspace:
    """The deployment that this run is about."""
    return Workspace.current()


def target() -> Target:
    """The current host's wanted state."""
    return _targets()[host.name]


def seen() -> dict[str, Any] | None:
    """Return what one look at the current host showed; None where it failed, and the host with it."""
    if host.name not in _SEEN:
        _SEEN[host.name] = host.get_fact(Look, query=json.dumps(target().query, sort_keys=True))
    return _SEEN[host.name]


def changes() -> Changes:
    """What the current host needs."""
    there = seen()
    return decide(target(), there, restart=bool(host.data.get("restart"))) if there is not None else unseen()


def tell(host: Any, error: HeavyliftError) -> None:
    """Log a failure on the operator's side as the host's own, for whoever reads this run's output."""
    logger.error(f"{host.print_prefix}heavylift: {error.message}")
    if error.hint:
        logger.error(f"{host.print_prefix}hint: {error.hint}")


def machine(name: str) -> Host:
    """The inventory's entry of a host."""
    return next(entry for entry in workspace().inventory.hosts if entry.name == name)


def on_host(command: str, **query: Any) -> StringCommand:
    """Return the command that runs one of the host program's commands; it ends by itself within the step's limit."""
    return StringCommand(call(command, query))


def local(function: Callable[..., bool], *arguments: Any) -> FunctionCommand:
    """Return a command that runs here, on the operator's machine: `function(state, host, …)`, False is failure."""
    return FunctionCommand(function, arguments, {})


@operation()
def perform(commands: Sequence[Command], reason: str) -> Generator[Command, None, None]:
    """Run commands that were decided on already; without any, say why (`reason`) nothing is to be done."""
    if not commands:
        host.noop(reason)
        return
    yield from commands


_SEEN: dict[str, dict[str, Any] | None] = {}


@functools.cache
def _targets() -> dict[str, Target]:
    return {wanted.host.name: wanted for wanted in targets(workspace())}
