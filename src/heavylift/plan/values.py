"""One value of `engine.arguments`: from YAML to what vLLM takes, and to words of its command line. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

from heavylift.catalog.arguments import Argument, EngineSchema, replacements

__all__ = ["UnfitError", "convert", "listed", "nearest", "render", "show"]

_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class UnfitError(ValueError):
    """A value that vLLM would refuse; the message says what it should be."""


def convert(argument: Argument, value: Any, schema: EngineSchema) -> Any:
    """Return the value that vLLM would see: `32k` as 32000, a JSON string as its content."""
    if value is None:
        raise UnfitError("has no value; write one, or remove the line")
    if argument.kind in ("bool", "switch"):
        return _boolean(value)
    if argument.nargs == "?" and value is True:
        return True
    if argument.nargs not in (None, "?") or argument.repeat or argument.kind == "comma_list":
        return _several(argument, value, schema)
    return _one(argument, value, schema)


def render(argument: Argument, value: Any) -> list[str]:
    """Return the words for a converted value; a boolean is switched off by `--no-x`, which every version takes."""
    flag = f"--{argument.name}"
    if argument.kind in ("bool", "switch"):
        return [flag] if value else [f"--no-{argument.name}"] if argument.off else []
    if value is True:
        return [flag]
    if argument.kind == "comma_list":
        return _pair(flag, ",".join(_text(item) for item in value))
    if argument.repeat:
        return [word for item in value for word in _pair(flag, _text(item))]
    if argument.nargs not in (None, "?"):
        return [flag, *(_text(item) for item in value)]
    return _pair(flag, "auto" if argument.kind == "human_int_or_auto" and value == -1 else _text(value))


def show(value: Any) -> str:
    """Return a value as the user wrote it, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def listed(names: Iterable[object]) -> str:
    """Return names for a message; a long list is cut."""
    words = [str(name) for name in names]
    return ", ".join(words) if len(words) <= 16 else f"{', '.join(words[:12])} … ({len(words)} in all)"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was probably meant to be."""
    import difflib

    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return found[0] if found else None


def _pair(flag: str, text: str) -> list[str]:
    # vLLM's parser takes a word that begins with a dash for an option, and one with a dot in it for a nested key.
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return repr(value) if isinstance(value, float) else str(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if isinstance(value, str) and word in ("true", "false"):
        raise UnfitError(f"should be true or false, got the text {value!r}; remove the quotes")
    raise UnfitError(f"should be true or false, got {show(value)}")


def _several(argument: Argument, value: Any, schema: EngineSchema) -> list[Any]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise UnfitError("is an empty list; write values, or remove the line")
    converted = []
    for item in items:
        if isinstance(item, Mapping) and argument.kind == "str":
            converted.append(item)
            continue
        one = _one(argument, item, schema)
        if not argument.repeat and _text(one).startswith("-"):
            raise UnfitError(f"cannot pass {show(item)} in a list: vLLM's parser takes it for an option")
        converted.append(one)
    return converted


def _one(argument: Argument, value: Any, schema: EngineSchema) -> Any:
    if argument.optional and value in ("", "None"):
        return value
    converted = _KINDS[argument.kind](value)
    if argument.fold:
        converted = converted.lower().replace("-", "_")
    if argument.choices and converted not in argument.choices:
        near = nearest(str(converted), tuple(str(choice) for choice in argument.choices))
        hint = f"; did you mean `{near}`?" if near else ""
        raise UnfitError(f"should be one of {listed(argument.choices)}, got {show(value)}{hint}")
    if argument.record is not None:
        _check_record(argument.record, converted, schema, "")
    return converted


def _string(value: Any) -> str:
    if isinstance(value, bool):
        raise UnfitError(f"should be text, got {show(value)}; if you mean the word, put it in quotes")
    if isinstance(value, Mapping | list):
        raise UnfitError(f"should be text, got {show(value)}")
    return _text(value)


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    raise UnfitError(f"should be a whole number, got {show(value)}")


def _number(value: Any) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            if isfinite(number := float(value)):
                return number
        except ValueError:
            pass
    raise UnfitError(f"should be a number, got {show(value)}")


def _human(value: Any) -> int:
    match = _HUMAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        try:
            return _integer(value)
        except ValueError:
            raise UnfitError(
                f"should be a whole number like 32768, 32k (32000) or 32K (32768), got {show(value)}"
            ) from None
    number, suffix = match.groups()
    if suffix in _DECIMAL:
        return int(float(number) * _DECIMAL[suffix])
    if "." in number:
        raise UnfitError(f"{value!r}: {suffix} takes no decimals; did you mean {number}{suffix.lower()}?")
    return int(number) * _BINARY[suffix]


def _human_or_auto(value: Any) -> int:
    return -1 if isinstance(value, str) and value.strip().lower() == "auto" else _human(value)


def _structure(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise UnfitError(f"is not JSON ({error.msg} at character {error.pos + 1}); write a mapping") from None
    if not isinstance(value, Mapping | list):
        raise UnfitError(f"should be a mapping, got {show(value)}")
    try:
        json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise UnfitError("holds a value that JSON has no form for (a date, not a number?); put it in quotes") from None
    return value


def _structure_or_text(value: Any) -> Any:
    if isinstance(value, str) and not re.match(r"(?s)^\s*{.*}\s*$", value):
        return value
    return _structure(value)


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "str": _string,
    "comma_list": _string,
    "int": _integer,
    "float": _number,
    "human_int": _human,
    "human_int_or_auto": _human_or_auto,
    "json": _structure,
    "json_or_str": _structure_or_text,
}


def _check_record(record: str, value: Any, schema: EngineSchema, way: str) -> None:
    if not isinstance(value, Mapping):
        raise UnfitError(f"{way}should be a mapping, got {show(value)}")
    fields = schema.records[record]
    for key, item in value.items():
        takes = fields.get(key)
        if takes is None:
            raise UnfitError(f"`{way}{key}` is unknown to vLLM {schema.version}; {_instead(record, str(key), fields)}")
        _check_field(takes, item, schema, f"{way}{key}")


def _instead(record: str, key: str, fields: Mapping[str, Any]) -> str:
    gone = replacements("fields").get(f"{record}.{key}")
    if gone is not None:
        return gone["use"]
    near = nearest(key, fields)
    return f"did you mean `{near}`?" if near else f"known are {listed(sorted(fields))}"


def _check_field(takes: tuple[str, ...], item: Any, schema: EngineSchema, way: str) -> None:
    nested = next((name for name in takes if name in schema.records), None)
    if nested is not None and isinstance(item, Mapping):
        _check_record(nested, item, schema, f"{way}.")
        return
    literals = [name[1:] for name in takes if name.startswith("=")]
    if "any" in takes or item in literals or any(_is(kind, item) for kind in takes):
        return
    words = [*literals, *(_WORDS[name] for name in takes if name in _WORDS)] or ["a mapping"]
    raise UnfitError(f"`{way}` should be {' or '.join(words)}, got {show(item)}")


_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "object": "a mapping",
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "list": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _is(kind: str, item: Any) -> bool:
    return isinstance(item, _TYPES.get(kind, ())) and (kind == "bool" or not isinstance(item, bool))
