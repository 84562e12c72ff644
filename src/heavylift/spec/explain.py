"""pydantic's findings → the house's words: path, what is wrong, what is allowed. Pure."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from heavylift.errors import Problem

__all__ = ["explain"]

_TAGS = {"owned", "lab", "stack"}
_KINDS = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "too_long": "at most {max_length} entries",
}
_PLAIN = {
    "missing": "is required",
    "too_short": "should not be empty",
    "string_too_short": "should not be empty",
    "union_tag_not_found": "`from` is required: owned, lab or stack",
    "union_tag_invalid": "`from` should be owned, lab or stack, got {tag!r}",
    "value_error": "{error}",
}


def explain(details: ErrorDetails, root: type[BaseModel]) -> Problem:
    """Turn one pydantic error into a problem whose path is the user's own keys."""
    location = [str(part) for part in details["loc"] if part != "[key]"]
    if len(location) > 1 and location[0] == "hosts" and location[1] in _TAGS:
        source = location.pop(1)
        if details["type"] == "extra_forbidden" and len(location) == 2:
            return Problem("/".join(location), _other_source(location[1], source, root))
    if location[:2] == ["engine", "devices"] and details["type"] != "value_error":
        del location[2:]
        message = f"should be `all`, `cpu` or GPU numbers like [0, 1], got {_show(details['input'])}"
        return Problem("engine/devices", message)
    path = "/".join(location)
    return Problem(path or ".", _message(details, location, root))


def _message(details: ErrorDetails, location: list[str], root: type[BaseModel]) -> str:
    kind, given, context = details["type"], details["input"], details.get("ctx") or {}
    if kind in _PLAIN:
        return _PLAIN[kind].format(**context)
    if kind == "extra_forbidden":
        return _unknown(location, root)
    if kind == "literal_error":
        return f"should be {context['expected'].replace(chr(39), '`')}, got {_show(given)}"
    if kind in _KINDS:
        quotes = "; quote it" if kind == "string_type" and isinstance(given, int | float) else ""
        return f"should be {_KINDS[kind]}, got {_show(given)}{quotes}"
    if kind in _BOUNDS:
        return f"should be {_BOUNDS[kind].format(**context)}, got {_show(given)}"
    return f"{details['msg'][0].lower()}{details['msg'][1:]}, got {_show(given)}"


def _other_source(key: str, source: str, root: type[BaseModel]) -> str:
    """Explain a key of `hosts` that this `from` does not have, but perhaps another."""
    forms = {form["properties"]["from"]["const"]: form["properties"] for form in _forms(["hosts"], root)}
    others = [tag for tag, properties in forms.items() if key in properties]
    if others:
        return f"belongs to `from: {others[0]}`, not to `from: {source}`"
    return _suggest(key, list(forms[source]))


def _unknown(location: list[str], root: type[BaseModel]) -> str:
    forms = _forms(location[:-1], root)
    return _suggest(location[-1], list(dict.fromkeys(key for form in forms for key in form.get("properties", {}))))


def _suggest(key: str, known: list[str]) -> str:
    near = [word for word in known if len(key) > 1 and word.startswith(key)]
    near += difflib.get_close_matches(key, known, n=1)
    return f"unknown key; did you mean `{near[0]}`?" if near else f"unknown key; known are {', '.join(known)}"


def _forms(way: list[str], root: type[BaseModel]) -> list[Mapping[str, Any]]:
    """Return the schemas of the mapping at `way`, one for every form that it can take."""
    schema = _schema(root)
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    forms: list[Mapping[str, Any]] = [schema]
    for part in way:
        listed = part.isdigit()
        inner = [form.get("items", {}) if listed else form.get("properties", {}).get(part, {}) for form in forms]
        forms = [resolved for node in inner for resolved in _resolve(node, definitions)]
    return forms


@functools.cache
def _schema(root: type[BaseModel]) -> Mapping[str, Any]:
    return root.model_json_schema(by_alias=True)


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = node.get("oneOf") or node.get("anyOf") or [node]
    return [definitions[choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice for choice in choices]


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
