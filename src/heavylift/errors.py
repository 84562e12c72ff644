"""What can go wrong, as one tree. Every expected failure is one of these and is shown as one line.

HeavyliftError           where, what is wrong, what to do; exit status 1
├── SpecError            deployment.yaml says something that cannot be; carries every problem found
├── CatalogError         the package's own data lacks what was asked for (an engine version, a model)
├── WeightsError         a checkpoint is missing, incomplete or not the one that was promised
├── FleetError           a host cannot be reached, refuses us, or lacks something
├── GateError            an engine did not prove that it streams tokens
├── LabError             this machine cannot carry the lab, or the lab is in a wrong state
└── CommandError         a child process failed; carries its exit status and last output
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CatalogError",
    "CommandError",
    "FleetError",
    "GateError",
    "HeavyliftError",
    "LabError",
    "Problem",
    "SpecError",
    "WeightsError",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about one key of the deployment: `path` is the way to it (`engine/arguments/swap-space`)."""

    path: str
    message: str
    severity: Literal["error", "warning", "note"] = "error"
    hint: str | None = None


class HeavyliftError(Exception):
    """An expected failure: one line that says where and what, and an optional hint that says what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n\nhint: {self.hint}"


class SpecError(HeavyliftError):
    """The deployment file is wrong; `problems` holds every one of them, one line each."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = tuple(problems)


class CatalogError(HeavyliftError):
    """The package's own data does not hold what was asked for."""


class WeightsError(HeavyliftError):
    """A checkpoint is missing, incomplete or not the one that was promised."""


class FleetError(HeavyliftError):
    """A host cannot be reached, refuses us, or lacks something that the deployment needs."""


class GateError(HeavyliftError):
    """A replica did not prove that it streams tokens."""


class LabError(HeavyliftError):
    """This machine cannot carry the lab, or the lab is not in the state that was asked for."""


class CommandError(HeavyliftError):
    """A child process failed."""

    def __init__(self, argv: Sequence[str], returncode: int, output: str, *, hint: str | None = None) -> None:
        last = output.strip().splitlines()[-1] if output.strip() else "no output"
        super().__init__(f"`{' '.join(argv)}` ended with {returncode}: {last}", hint=hint)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output
