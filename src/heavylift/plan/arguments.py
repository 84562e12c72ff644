"""Engine arguments checked against a vLLM version's own schema, and rendered as its command line. Pure.

Keys are vLLM's long names without dashes, or `name.key` for one key of a JSON argument; values are plain YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from heavylift.catalog.arguments import Argument, EngineSchema
from heavylift.catalog.models import ModelFacts
from heavylift.errors import Problem, SpecError
from heavylift.plan.advice import advise
from heavylift.plan.names import OWNED, resolve, unread
from heavylift.plan.rules import Settings
from heavylift.plan.values import UnfitError, convert, listed, nearest, render, show

__all__ = ["argv", "check"]

_SECRET = re.compile(r".*_(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY|ACCESS_KEY_ID)")


def check(
    arguments: Mapping[str, object], variables: Mapping[str, str], schema: EngineSchema, facts: ModelFacts | None = None
) -> tuple[Problem, ...]:
    """Return everything that is wrong or worth knowing about a deployment's engine arguments and variables."""
    values, problems = _read(arguments, schema, owned=False)
    for name, value in variables.items():
        problems += _variable(name, value, schema)
    for name in values:
        problems += _remarks(schema.arguments[name], values[name], schema)
    problems += advise(Settings(values, variables, schema, facts))
    return tuple(problems)


def argv(arguments: Mapping[str, object], schema: EngineSchema) -> tuple[str, ...]:
    """Return the words that follow `vllm serve MODEL`: one form for each meaning, sorted by name.

    Arguments that heavylift sets itself are taken here, unlike in `check`.
    """
    values, problems = _read(arguments, schema, owned=True)
    if problems:
        raise SpecError([f"{problem.path}: {problem.message}" for problem in problems])
    return tuple(word for name in sorted(values) for word in render(schema.arguments[name], values[name]))


def _read(
    arguments: Mapping[str, object], schema: EngineSchema, *, owned: bool
) -> tuple[dict[str, Any], list[Problem]]:
    """Resolve every key and convert every value; `owned` lets those pass that only heavylift sets."""
    problems: list[Problem] = []
    given: dict[str, dict[str, Any]] = {}
    for key, value in arguments.items():
        root, _, rest = str(key).partition(".")
        name, wrong = (root, None) if owned and root in OWNED else resolve(root, rest, schema)
        if wrong is not None:
            problems.append(_problem(key, wrong))
        if name is not None:
            given.setdefault(name, {})[str(key)] = value
    values: dict[str, Any] = {}
    for name, entries in given.items():
        key = next(iter(entries))
        try:
            values[name] = convert(schema.arguments[name], _joined(schema.arguments[name], entries), schema)
        except UnfitError as error:
            problems.append(_problem(key, str(error)))
    return values, problems


def _joined(argument: Argument, entries: Mapping[str, Any]) -> Any:
    """Bring `x: {…}` and `x.key: …` of one argument together."""
    whole = [value for key, value in entries.items() if "." not in key]
    nested = {key.partition(".")[2]: value for key, value in entries.items() if "." in key}
    if len(whole) > 1:
        raise UnfitError(f"is given {len(whole)} times ({', '.join(entries)}); write it once")
    if not nested:
        return whole[0]
    if argument.kind not in ("json", "json_or_str"):
        raise UnfitError(f"`{argument.name}` takes one value and has no keys")
    if whole:
        raise UnfitError(f"`{argument.name}` is given as a mapping and by key; vLLM would drop one, write one mapping")
    joined: dict[str, Any] = {}
    for way, value in nested.items():
        _put(joined, way, value)
    return joined


def _put(into: dict[str, Any], way: str, value: Any) -> None:
    *parents, last = way.split(".")
    if not all((*parents, last)):
        raise UnfitError(f"`{way}` has an empty part")
    if last.endswith("+"):
        raise UnfitError(f"write `{way[:-1]}` with a list")
    for parent in parents:
        into = into.setdefault(parent, {})
        if not isinstance(into, dict):
            raise UnfitError(f"`{parent}` has a value already, and cannot have keys too")
    if last in into:
        raise UnfitError(f"`{way}` is given twice")
    into[last] = value


def _remarks(argument: Argument, value: Any, schema: EngineSchema) -> Iterator[Problem]:
    """Say what works but should not stay: deprecated, unknown to this version, or the default anyway."""
    if argument.deprecated is not None:
        removal, use = argument.deprecated.get("removal"), argument.deprecated.get("use")
        when = f", removal announced for {removal}" if removal else ""
        what = f"use `{use}`" if use else "remove the line"
        yield _problem(argument.name, f"deprecated in vLLM {schema.version}{when}; {what}", "warning")
    if argument.known and isinstance(value, str) and value not in argument.known:
        near = nearest(value, argument.known)
        hint = f"did you mean `{near}`?" if near else f"known are {listed(argument.known)}"
        yield _problem(argument.name, f"vLLM {schema.version} itself knows no {show(value)}; {hint}", "warning")


def _variable(name: str, value: str, schema: EngineSchema) -> Iterator[Problem]:
    path = f"engine/variables/{name}"
    if name == "VLLM_API_KEY":
        yield Problem(path, "a secret has no place here; name its environment variable in `access.key`")
    elif _SECRET.fullmatch(name):
        yield Problem(path, "a secret has no place here, and the engine runs offline; remove the line")
    elif name == "VLLM_SERVER_DEV_MODE" and value not in ("0", ""):
        yield Problem(path, "opens routes that reset caches and put the engine to sleep; remove the line")
    elif name == "CUDA_VISIBLE_DEVICES":
        yield Problem(path, "set by heavylift; use `engine.devices`")
    elif name.startswith("VLLM_") and name not in schema.variables:
        yield Problem(path, unread(name, schema))


def _problem(key: object, message: str, severity: Any = "error") -> Problem:
    return Problem(f"engine/arguments/{key}", message, severity)
