"""What each engine version accepts on its command line and in its environment. Pure but for reading shipped JSON.

The files in `engines/` are written by `scripts/engine-schema` from vLLM's own parser. `removed.json` compares the
sources of every release from 0.8.5 to 0.33.0; what replaces a name is added by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from heavylift.errors import CatalogError

__all__ = ["Argument", "EngineSchema", "engine_schema", "engine_versions", "history", "ordered", "replacements"]

Row = Mapping[str, Any]
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of `vllm serve`: its long name without dashes, every spelling, and what its value may be.

    `kind` is bool, switch, str, int, float, human_int, human_int_or_auto, json, json_or_str or comma_list. Of `choices`
    the value has to be one; of `known` it mostly is.
    """

    name: str
    on: tuple[str, ...]
    off: tuple[str, ...]
    kind: str
    default: Any
    choices: tuple[str | int, ...] = ()
    known: tuple[str, ...] = ()
    nargs: str | int | None = None
    repeat: bool = False
    optional: bool = False
    fold: bool = False
    record: str | None = None
    deprecated: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class EngineSchema:
    """All that one vLLM version accepts; `version` is what was asked for, `source` what the schema was made from."""

    version: str
    source: str
    arguments: Mapping[str, Argument]
    spellings: Mapping[str, str]
    records: Mapping[str, Mapping[str, tuple[str, ...]]]
    variables: frozenset[str]

    @property
    def note(self) -> str | None:
        """Say so when the schema is that of another patch release."""
        if self.version == self.source:
            return None
        return f"vLLM {self.version} is checked against the arguments of {self.source}"


def engine_versions() -> tuple[str, ...]:
    """Return the versions whose schema ships with heavylift, oldest first."""
    names = (entry.name for entry in (_HERE / "engines").iterdir())
    versions = [name.removesuffix(".json") for name in names if re.fullmatch(r"\d+\.\d+\.\d+\.json", name)]
    return tuple(sorted(versions, key=ordered))


def ordered(version: str) -> tuple[int, ...]:
    """Return a version as numbers, for comparing."""
    return tuple(int(part) for part in version.split("."))


@cache
def engine_schema(version: str) -> EngineSchema:
    """Load the schema of `version`, or that of another patch release of the same minor version."""
    shipped = engine_versions()
    wanted = re.match(r"(\d+\.\d+)\.\d+", version)
    minor = [name for name in shipped if wanted and name.startswith(f"{wanted[1]}.")]
    if not minor:
        raise CatalogError(
            f"no argument schema of vLLM {version}; heavylift ships {', '.join(shipped)}",
            hint="choose one of these, or write a schema with scripts/engine-schema",
        )
    source = version if version in minor else minor[-1]
    return _schema(version, source, json.loads(_read(f"engines/{source}.json")))


def history(name: str, *, variable: bool = False) -> tuple[str, ...]:
    """Return the shipped versions that know an argument (by its long name) or an environment variable."""
    schemas = {version: engine_schema(version) for version in engine_versions()}
    return tuple(v for v, s in schemas.items() if name in (s.variables if variable else s.arguments))


@cache
def replacements(of: Literal["arguments", "variables", "fields"]) -> Mapping[str, Mapping[str, str]]:
    """Return what vLLM dropped: in which version (`dropped`, or `by` at the latest), and what to do instead (`use`)."""
    removed: Mapping[str, Mapping[str, Mapping[str, str]]] = json.loads(_read("engines/removed.json"))
    return removed[of]


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _schema(version: str, source: str, document: Row) -> EngineSchema:
    arguments = {row["name"]: _argument(row) for row in document["options"]}
    records: dict[str, dict[str, tuple[str, ...]]] = {}
    for record, field, takes in document["records"]:
        records.setdefault(record, {})[field] = tuple(takes)
    return EngineSchema(
        version=version,
        source=source,
        arguments=arguments,
        spellings={text: name for name, a in arguments.items() for text in (*a.on, *a.off)},
        records=records,
        variables=frozenset(document["variables"]),
    )


def _argument(row: Row) -> Argument:
    return Argument(
        name=row["name"],
        on=tuple(row["on"]),
        off=tuple(row.get("off", ())),
        kind=row["kind"],
        default=row["default"],
        choices=tuple(row.get("choices", ())),
        known=tuple(row.get("known", ())),
        nargs=row.get("nargs"),
        repeat=row.get("repeat", False),
        optional=row.get("optional", False),
        fold=row.get("fold", False),
        record=row.get("record"),
        deprecated=row.get("deprecated"),
    )
