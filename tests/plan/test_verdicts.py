"""Engine arguments against what vLLM's real parsers said, and against the schema read back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.catalog.arguments import engine_schema
from heavylift.plan.arguments import argv
from tests.plan.verdicts.cases import HERE, VERSIONS, as_vllm_would, cases, ours

NEW = engine_schema("0.33.0")
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
WORD = st.text(st.characters(categories=["Ll"]), min_size=1, max_size=8)
KINDS = {
    "bool": st.booleans(),
    "switch": st.booleans(),
    "str": TEXT,
    "int": st.integers(-10, 10**9),
    "float": st.floats(0, 1e6),
    "human_int": st.integers(0, 10**9) | st.sampled_from(["8k", "2K", "1.5m", "3G"]),
    "human_int_or_auto": st.integers(0, 10**6) | st.sampled_from(["auto", "32k", -1]),
    "json": st.dictionaries(WORD, st.integers() | st.booleans() | TEXT, max_size=3),
    "json_or_str": st.dictionaries(WORD, TEXT, max_size=3) | WORD,
    "comma_list": st.lists(st.integers(0, 7), min_size=1, max_size=3),
}


def values_of(argument):
    """Return a strategy for what one argument takes."""
    if argument.choices:
        return st.sampled_from(argument.choices)
    if argument.record is not None:
        return st.just({})
    if argument.nargs == "+" or argument.repeat:
        return st.lists(st.integers(0, 99) if argument.kind == "int" else WORD, min_size=1, max_size=3)
    return KINDS[argument.kind]


ARGUMENTS = st.lists(st.sampled_from(sorted(NEW.arguments)), unique=True, max_size=8).flatmap(
    lambda names: st.fixed_dictionaries({name: values_of(NEW.arguments[name]) for name in names})
)


def parsed(words):
    """Read a command line back, by the schema alone."""
    found, waiting = {}, None
    for word in words:
        flag, joined, rest = word.partition("=")
        if waiting is None or (word.startswith("--") and (word in NEW.spellings or (joined and flag in NEW.spellings))):
            argument = NEW.arguments[NEW.spellings[flag]]
            waiting = argument
            if argument.kind in ("bool", "switch"):
                found[argument.name], waiting = flag in argument.on, None
            elif joined:
                found[argument.name], waiting = [rest], None
        else:
            found.setdefault(waiting.name, []).append(word)
    return {
        name: value
        if isinstance(value, bool) or NEW.arguments[name].nargs == "+" or NEW.arguments[name].repeat
        else value[0]
        for name, value in found.items()
    }


@settings(max_examples=150, deadline=None)
@given(arguments=ARGUMENTS, seed=st.randoms())
def test_rendering_is_canonical(arguments, seed):
    """A rendered line, read back and rendered again, is the same; the order of keys does not matter."""
    words = argv(arguments, NEW)
    shuffled = list(arguments.items())
    seed.shuffle(shuffled)
    assert argv(dict(shuffled), NEW) == words
    assert argv(parsed(words), NEW) == words
    assert not any(word.startswith("--disable-") and word.replace("--", "") not in NEW.arguments for word in words)


@pytest.mark.parametrize("version", VERSIONS)
def test_agrees_with_the_real_parser(version):
    """Over the table of cases, heavylift accepts what vLLM's parser accepts, but where the case says why not."""
    said = verdicts(version)
    disagreed = []
    for case in cases():
        real = said[json.dumps(as_vllm_would(case.arguments))] is None
        if real != (ours(case, version) is not None) and case.differs is None:
            disagreed.append(case.arguments)
    assert disagreed == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_real_parser_takes_what_is_rendered(version):
    """Every line that heavylift renders from the table was accepted by vLLM's parser of that version."""
    said = verdicts(version)
    rendered = [line for case in cases() if (line := ours(case, version)) is not None]
    assert len(rendered) > 60
    assert [line for line in rendered if said[json.dumps(line)] is not None] == []


def test_every_difference_is_one():
    """A case that claims to differ from a parser does so in some version."""
    for case in cases():
        words = json.dumps(as_vllm_would(case.arguments))
        differs = [(verdicts(v)[words] is None) != (ours(case, v) is not None) for v in VERSIONS]
        assert case.differs is None or any(differs), case.arguments


def verdicts(version):
    """Read what the real parser said; where a line is missing, scripts/engine-verdicts has to be run again."""
    rows = json.loads((HERE / f"{version}.json").read_text(encoding="utf-8"))["lines"]
    return {json.dumps(row["argv"]): row["refused"] for row in rows}
