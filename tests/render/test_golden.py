"""Rendered files, byte for byte; `pytest --update-golden` rewrites what is expected."""

from __future__ import annotations

import pytest

from tests.render.cases import CASES, load_case, rendered


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, request):
    """What `expected/` holds is what is rendered, no file more or less."""
    folder = case / "expected"
    texts = rendered(load_case(case.name))
    if request.config.getoption("--update-golden"):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    expected = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file()
    }
    assert texts == expected
