"""The table of cases, and the words in which each of them is put to vLLM's real parser."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from heavylift.catalog.arguments import engine_schema
from heavylift.errors import SpecError
from heavylift.plan.arguments import argv

__all__ = ["HERE", "Case", "as_vllm_would", "cases", "lines", "ours"]

HERE = Path(__file__).parent
VERSIONS = ("0.32.0", "0.33.0")


@dataclass(frozen=True, slots=True)
class Case:
    """Arguments as a user writes them; `differs` says why heavylift may disagree with the parser."""

    arguments: dict[str, Any]
    differs: str | None = None


def cases() -> list[Case]:
    """Read the table."""
    return [Case(**row) for row in yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))]


def lines() -> list[list[str]]:
    """Return every line to be tried: vLLM's own form of each case, and heavylift's forms where it accepts it."""
    found = [as_vllm_would(case.arguments) for case in cases()]
    found += [list(line) for case in cases() for version in VERSIONS if (line := ours(case, version)) is not None]
    return [json.loads(text) for text in dict.fromkeys(json.dumps(line) for line in found)]


def ours(case: Case, version: str) -> tuple[str, ...] | None:
    """Return heavylift's line for a case, None where it refuses."""
    try:
        return argv(case.arguments, engine_schema(version))
    except SpecError:
        return None


def as_vllm_would(arguments: dict[str, Any]) -> list[str]:
    """Return the words that vLLM's `--config FILE` makes of a YAML file with these arguments."""
    words: list[str] = []
    for key, value in arguments.items():
        if isinstance(value, bool) and "." not in key:
            words.append(f"--{key}" if value else f"--no-{key}")
        elif isinstance(value, list):
            words += [f"--{key}", *map(str, value)]
        elif isinstance(value, dict):
            words += [f"--{key}", json.dumps(value)]
        else:
            words += [f"--{key}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words
