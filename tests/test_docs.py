"""The reference pages are what the code says, and the prose names every command."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from heavylift import assets
from heavylift.cli import COMMANDS, cli
from heavylift.spec.schema import schema_text

ROOT = assets.project()
PAGES = ROOT / "docs" / "reference"


def test_generated_pages_are_current():
    """`scripts/docs --check` says nothing; after a change of code, `scripts/docs` writes them again."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docs"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_schema_that_editors_get_is_the_one_that_the_command_prints():
    """One file for both, and it is JSON."""
    assert (PAGES / "deployment.schema.json").read_text(encoding="utf-8") == schema_text()
    assert json.loads(schema_text())["title"] == "heavylift deployment"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference(name):
    """With its one line, and each of its options explained."""
    page = (PAGES / "cli.md").read_text(encoding="utf-8")
    assert f"### heavylift {name}\n" in page
    command = cli.get_command(click.Context(cli), name)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"


def test_every_key_is_in_the_reference():
    """Each key of each section, with what it means."""
    page = (PAGES / "deployment.md").read_text(encoding="utf-8")
    schema = json.loads(schema_text())
    for section in (schema, *schema["$defs"].values()):
        for key in section["properties"]:
            assert f"| `{key}` |" in page, key
