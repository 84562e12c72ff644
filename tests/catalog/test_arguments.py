"""The shipped argument schemas: what they hold, which version gets which, and what vLLM dropped."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from heavylift.catalog import default_engine_version
from heavylift.catalog.arguments import Argument, engine_schema, engine_versions, history, replacements
from heavylift.errors import CatalogError

ENGINES = resources.files("heavylift.catalog") / "engines"


def test_shipped_versions_come_oldest_first():
    """Three versions ship; the default one is among them."""
    assert engine_versions() == ("0.26.0", "0.32.0", "0.33.0")
    assert default_engine_version() in engine_versions()


@pytest.mark.parametrize(
    ("version", "arguments", "variables"), [("0.26.0", 273, 263), ("0.32.0", 315, 301), ("0.33.0", 319, 303)]
)
def test_counts(version, arguments, variables):
    """Every option of the parser but --help is there, and every VLLM_ variable."""
    schema = engine_schema(version)
    assert (len(schema.arguments), len(schema.variables)) == (arguments, variables)


def test_one_boolean_with_every_spelling():
    """0.33 hides --no-enable-x from its help, but takes it: it is what heavylift renders."""
    assert engine_schema("0.33.0").arguments["enable-prefix-caching"] == Argument(
        name="enable-prefix-caching",
        on=("--enable-prefix-caching",),
        off=("--no-enable-prefix-caching", "--disable-prefix-caching"),
        kind="bool",
        default=None,
    )
    assert engine_schema("0.32.0").arguments["enable-prefix-caching"].off == ("--no-enable-prefix-caching",)


def test_every_boolean_can_be_switched_off_the_same_way():
    """No version lacks --no-x for a boolean x, so that rendering needs no version."""
    for version in engine_versions():
        for name, argument in engine_schema(version).arguments.items():
            assert argument.kind != "bool" or f"--no-{name}" in argument.off, (version, name)


def test_what_0_33_added():
    """0.33 has four arguments more than 0.32, and dropped none."""
    old, new = engine_schema("0.32.0").arguments.keys(), engine_schema("0.33.0").arguments.keys()
    assert new - old == {"monokernel", "reasoning-effort-map", "sleep-mode-backend", "watchdog-config"}
    assert old <= new


def test_another_patch_release_uses_the_schema_of_its_minor_version():
    """It says so in a note."""
    schema = engine_schema("0.33.7")
    assert (schema.version, schema.source) == ("0.33.7", "0.33.0")
    assert schema.note == "vLLM 0.33.7 is checked against the arguments of 0.33.0"
    assert engine_schema("0.33.0").note is None


@pytest.mark.parametrize("version", ["0.31.0", "0.3.0", "0.6.6", "1.33.0", "newest", ""])
def test_a_version_without_schema_is_refused(version):
    """The error names what ships, and the script that adds one."""
    with pytest.raises(CatalogError) as caught:
        engine_schema(version)
    assert caught.value.message == f"no argument schema of vLLM {version}; heavylift ships 0.26.0, 0.32.0, 0.33.0"
    assert caught.value.hint == "choose one of these, or write a schema with scripts/engine-schema"


def test_history_tells_which_shipped_versions_know_a_name():
    """By argument and by variable."""
    assert history("max-num-partial-prefills") == ("0.26.0",)
    assert history("watchdog-config") == ("0.33.0",)
    assert history("swap-space") == ()
    assert history("VLLM_CPU_SGL_KERNEL", variable=True) == ("0.26.0",)


def test_what_vllm_dropped_is_really_gone():
    """No removed name is in the newest schema, and each shipped schema agrees with the version that dropped it."""
    newest = engine_schema("0.33.0")
    for name, entry in replacements("arguments").items():
        assert f"--{name}" not in newest.spellings, name
        for version in history(name):
            assert _numbers(version) < _numbers(entry["dropped"]), name
    for name, entry in replacements("variables").items():
        assert name not in newest.variables, name
        for version in history(name, variable=True):
            assert _numbers(version) < _numbers(entry["dropped"]), name


def test_what_is_recommended_instead_exists():
    """Every name in a recommendation is known to the newest version."""
    newest = engine_schema("0.33.0")
    for section in ("arguments", "variables", "fields"):
        for name, entry in replacements(section).items():
            for told in re.findall(r"`([^`]+)`", entry.get("use", "")):
                root, _, field = told.partition(":")[0].partition(".")
                record = newest.arguments[root].record if root in newest.arguments else None
                known = root in newest.arguments or root in newest.variables
                if section == "fields":
                    known = root in newest.records[name.partition(".")[0]]
                assert known, (name, told)
                assert not field or record is None or field in newest.records[record], (name, told)


@pytest.mark.parametrize("version", engine_versions())
def test_files_are_small_and_diffable(version):
    """Under 150 kB, one option a line, sorted, without help texts or paths of the machine they were made on."""
    text = (ENGINES / f"{version}.json").read_text(encoding="utf-8")
    document = json.loads(text)
    names = [option["name"] for option in document["options"]]
    assert len(text.encode()) < 150_000
    assert names == sorted(names)
    assert document["variables"] == sorted(document["variables"])
    assert document["engine"] == version
    assert sum(line.startswith('{"name":') for line in text.splitlines()) == len(names)
    assert not {"help"} & {key for option in document["options"] for key in option}
    assert not re.search(r'"/(root|home|tmp|var)/', text)


def _numbers(version):
    return [int(part) for part in version.split(".")]
