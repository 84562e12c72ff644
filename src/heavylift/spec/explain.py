"""pydantic's findings → the house's words: path, what is wrong, what is allowed. Pure."""

from __future__ import annotations

import difflib
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
    "string_type": "a string",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le"), "greater_than": ("above", "gt")}


def explain(details: ErrorDetails, root: type[BaseModel]) -> Problem:
    """Turn one pydantic error into a problem whose path is the user's own keys."""
    location = [str(part) for part in details["loc"]]
    if len(location) > 1 and location[0] == "hosts" and location[1] in _TAGS:
        del location[1]
    if location[:2] == ["engine", "devices"]:
        del location[2:]
        return Problem("engine/devices", f"should be `all`, `cpu` or GPU numbers like [0, 1], got {_show(details['input'])}")
    path = "/".join(location)
    return Problem(path or ".", _message(details, location, root))


def _message(details: ErrorDetails, location: list[str], root: type[BaseModel]) -> str:
    kind, given, context = details["type"], details["input"], details.get("ctx") or {}
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return _unknown(location, root)
    if kind == "union_tag_not_found":
        return "`from` is required: owned, lab or stack"
    if kind == "union_tag_invalid":
        return f"`from` should be owned, lab or stack, got {context.get('tag')!r}"
    if kind == "literal_error":
        return f"should be {context['expected'].replace(chr(39), '`')}, got {_show(given)}"
    if kind in _KINDS:
        return f"should be {_KINDS[kind]}, got {_show(given)}"
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"should be {word} {context[key]}, got {_show(given)}"
    if kind == "value_error":
        return str(context["error"])
    return f"{details['msg'][0].lower()}{details['msg'][1:]}, got {_show(given)}"


def _unknown(location: list[str], root: type[BaseModel]) -> str:
    known = _keys(location[:-1], root)
    near = difflib.get_close_matches(location[-1], known, n=1)
    return f"unknown key; did you mean `{near[0]}`?" if near else f"unknown key; known are {', '.join(known)}"


def _keys(way: list[str], root: type[BaseModel]) -> list[str]:
    """Return the keys that a mapping at `way` may have, over every form that it can take."""
    schema: Mapping[str, Any] = root.model_json_schema(by_alias=True)
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    forms: list[Mapping[str, Any]] = [schema]
    for part in way:
        inner = [form["items"] if part.isdigit() else form.get("properties", {}).get(part, {}) for form in forms]
        forms = [resolved for node in inner for resolved in _resolve(node, definitions)]
    return list(dict.fromkeys(key for form in forms for key in form.get("properties", {})))


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
