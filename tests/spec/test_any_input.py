"""Whatever a file holds, loading it gives a deployment or a `SpecError`: never another exception, and soon."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.errors import SpecError
from heavylift.spec import Deployment, load

WORDS = sorted(
    {
        key
        for model in (Deployment, *(f.annotation for f in Deployment.model_fields.values()))
        for key in getattr(model, "model_fields", ())
    }
    | {
        "from",
        "owned",
        "lab",
        "stack",
        "list",
        "address",
        "count",
        "all",
        "cpu",
        "path",
        "0.33.0",
        "private",
        "operator",
    }
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(WORDS),
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=6), st.integers(), st.booleans(), st.none(), st.dates())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)
SECTIONS = st.fixed_dictionaries(
    {"name": st.one_of(st.just("a"), VALUES), "model": st.one_of(st.just({"path": "m"}), VALUES)},
    optional=dict.fromkeys(
        ("engine", "hosts", "workload", "limits", "access", "paths", "sampling", "monitoring"), VALUES
    ),
)


def outcome(content):
    """Load these bytes; return the deployment, or the lines of the refusal."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(content)
        file.flush()
        try:
            return load(Path(file.name))
        except SpecError as refusal:
            lines = refusal.problems
    assert lines
    assert all(line.startswith(file.name) and "\n" not in line for line in lines)
    return lines


@settings(max_examples=50, deadline=2000)
@given(st.one_of(SECTIONS, VALUES))
def test_any_structure(value):
    """Sections of any shape and keys of any type; the same file gives the same answer again."""
    content = yaml.safe_dump(value, allow_unicode=True).encode()
    first = outcome(content)
    again = outcome(content)
    assert isinstance(first, Deployment) == isinstance(again, Deployment)


@settings(max_examples=100, deadline=2000)
@given(st.text(alphabet="abn:{}[]-&*!<>|'\"#%@ \n\t,?01.e~\u00e9\u2028", max_size=60))
def test_any_text(text):
    """YAML's own characters in any order, before and after what is right."""
    outcome(text.encode())
    outcome(f"name: a\nmodel: {{path: m}}\nhosts: {{from: lab}}\nengine:\n  arguments: {text}\n".encode())


@settings(max_examples=60, deadline=2000)
@given(st.binary(max_size=40))
def test_any_bytes(content):
    """Not even text."""
    outcome(content)
