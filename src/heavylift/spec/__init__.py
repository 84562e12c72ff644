"""deployment.yaml → `Deployment`: typed, frozen, every error at once. The only I/O is reading that one file."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from heavylift.errors import Problem, SpecError
from heavylift.spec.deployment import Deployment
from heavylift.spec.explain import explain
from heavylift.spec.source import Source, parse

__all__ = ["Deployment", "Source", "load", "locate", "parse", "read"]

MAX_BYTES = 1 << 20


def load(path: Path) -> Deployment:
    """Read and check a deployment file; raise `SpecError` with every problem, each with its line."""
    deployment, _ = read(path)
    return deployment


def read(path: Path) -> tuple[Deployment, Source]:
    """Like `load`, and also return where each key stands, for problems that are found later."""
    name = str(path)
    source = parse(_text(path), name)
    deployment, found = _validate(source)
    problems = source.problems + [problem for problem in found if not source.explains(problem.path)]
    if problems or deployment is None:
        problems.sort(key=lambda problem: source.line(problem.path))
        raise SpecError(list(dict.fromkeys(locate(problem, source, name) for problem in problems)))
    return deployment, source


def locate(problem: Problem, source: Source, name: str) -> str:
    """Return the one line that shows a problem: file, line, path, message."""
    where = f"{name}:{source.line(problem.path)}: " + ("" if problem.path == "." else f"{problem.path}: ")
    return where + problem.message + (f" ({problem.hint})" if problem.hint else "")


def _validate(source: Source) -> tuple[Deployment | None, list[Problem]]:
    if not isinstance(source.data, dict):
        return None, [] if source.problems else [Problem(".", "should be a mapping with `name`, `model` and `hosts`")]
    try:
        return Deployment.model_validate(source.data), []
    except ValidationError as error:
        # A list whose rows are wrong counts as empty for pydantic; that would be a second word about the same rows.
        told = [row for row in error.errors(include_url=False) if row["type"] != "too_short" or not row["input"]]
        return None, [explain(details, Deployment) for details in told]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError([f"{path}: no such file"], hint="`heavylift init` writes one") from None
    except IsADirectoryError:
        raise SpecError([f"{path}: is a directory"], hint=f"did you mean {path / 'deployment.yaml'}?") from None
    except OSError as error:
        raise SpecError([f"{path}: {error.strerror}"]) from None
    if len(content) > MAX_BYTES:
        raise SpecError([f"{path}: more than {MAX_BYTES >> 20} MiB; no deployment file is that long"])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([f"{path}: not UTF-8 (byte {error.start})"]) from None
