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
    problems = list(source.duplicates)
    deployment: Deployment | None = None
    if not isinstance(source.data, dict):
        problems.append(Problem(".", "should be a mapping with `name`, `model` and `hosts`"))
    else:
        try:
            deployment = Deployment.model_validate(source.data)
        except ValidationError as error:
            problems += [explain(details, Deployment) for details in error.errors(include_url=False)]
    if problems or deployment is None:
        raise SpecError([locate(problem, source, name) for problem in problems])
    return deployment, source


def locate(problem: Problem, source: Source, name: str) -> str:
    """Return the one line that shows a problem: file, line, path, message."""
    where = f"{name}:{source.line(problem.path)}: " + ("" if problem.path == "." else f"{problem.path}: ")
    return where + problem.message + (f" ({problem.hint})" if problem.hint else "")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpecError([f"{path}: no such file"], hint="`heavylift init` writes one") from None
    except IsADirectoryError:
        raise SpecError([f"{path}: is a directory"], hint=f"did you mean {path / 'deployment.yaml'}?") from None
    except OSError as error:
        raise SpecError([f"{path}: {error.strerror}"]) from None
    if len(content) > MAX_BYTES:
        raise SpecError([f"{path}: {len(content)} bytes; a deployment file has at most {MAX_BYTES}"])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([f"{path}: not UTF-8 (byte {error.start})"]) from None
