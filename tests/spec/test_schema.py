"""The JSON Schema for editors: it accepts what heavylift accepts, and refuses what it refuses."""

from __future__ import annotations

import json

import pytest
import yaml

from heavylift import assets
from heavylift.spec import load
from heavylift.spec.schema import schema_text

SCHEMA = json.loads(schema_text())
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
EXAMPLES = sorted(assets.folder("deployments").glob("*.yaml"))


def wrong(value, schema, path=""):
    """Return the paths that break the schema: those of its keywords that the schema of a deployment uses."""
    unknown = schema.keys() - KEYWORDS
    assert not unknown, f"this check does not know {unknown}"
    if "$ref" in schema:
        return wrong(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], path)
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            answers = [wrong(value, form, path) for form in schema[choice]]
            return [] if [] in answers else min(answers, key=len)
    if not fits(value, schema):
        return [path]
    found = []
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{path}/{key}" for key in schema.get("required", []) if key not in value]
        found += [f"{path}/{key}" for key in value if key not in known and rest is False]
        for key, inner in value.items():
            form = known.get(key, rest)
            found += wrong(inner, form, f"{path}/{key}") if isinstance(form, dict) else []
    if isinstance(value, list):
        found += [
            row for index, inner in enumerate(value) for row in wrong(inner, schema.get("items", {}), f"{path}/{index}")
        ]
    return found


KEYWORDS = {
    *("$ref", "$defs", "$schema", "additionalProperties", "anyOf", "const", "default", "description", "discriminator"),
    *("enum", "exclusiveMinimum", "items", "maximum", "maxItems", "minimum", "minItems", "minLength", "oneOf"),
    *("properties", "required", "title", "type"),
}


def fits(value, schema):
    """Whether a value has the schema's type and lies within its bounds."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(
        isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds
    ):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    size = len(value) if isinstance(value, (str, list)) else 0
    number = value if isinstance(value, (int, float)) else None
    return (
        size >= max(schema.get("minItems", 0), schema.get("minLength", 0))
        and size <= schema.get("maxItems", size)
        and (number is None or schema.get("minimum", number) <= number <= schema.get("maximum", number))
        and (number is None or "exclusiveMinimum" not in schema or number > schema["exclusiveMinimum"])
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_for_both(path):
    """Every shipped example loads, and no editor complains about it."""
    assert load(path).name
    assert wrong(yaml.safe_load(path.read_text(encoding="utf-8")), SCHEMA) == []


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"namee": 1}, "/namee"),
        ({"name": 1}, "/name"),
        ({"engine": {"argument": {}}}, "/engine/argument"),
        ({"access": {"port": 80}}, "/access/port"),
        ({"access": {"bind": "public"}}, "/access/bind"),
        ({"hosts": {"from": "owned", "list": []}}, "/hosts/list"),
        ({"hosts": {"from": "lab", "count": 0}}, "/hosts/count"),
        ({"sampling": {"top_p": 0}}, "/sampling/top_p"),
        ({"engine": {"variables": {"A": True}}}, "/engine/variables/A"),
    ],
)
def test_the_schema_refuses_too(section, path):
    """Unknown keys, types, choices and bounds are known to editors as well."""
    assert path in wrong({"name": "a", "model": {"path": "m"}, "hosts": {"from": "lab"}, **section}, SCHEMA)


def test_every_key_is_documented():
    """Each property of each section says what it is."""
    sections = {"": SCHEMA, **SCHEMA["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, form in section["properties"].items()
        if not form.get("description") and key != "from"
    ]
    assert silent == []


def test_equal_code_gives_equal_bytes():
    """The text is a function of the code alone."""
    assert schema_text() == schema_text()
    assert schema_text().endswith("}\n")
