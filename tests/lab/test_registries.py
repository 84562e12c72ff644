"""Which registries hosts may reach, from what this machine's tools say."""

from __future__ import annotations

import pytest

from heavylift.lab.apt import Archive
from heavylift.lab.registries import endpoint, of_apt, of_go, of_npm, of_pip, pip_lines, pip_settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://index.example/simple", "index.example:443"),
        ("http://mirror.example:8080/debian", "mirror.example:8080"),
        ("https://user:secret@index.example/simple/", "index.example:443"),
        ("file:///opt/wheels", None),
        ("/opt/wheels", None),
        ("direct", None),
        ("", None),
    ],
)
def test_endpoint(url: str, expected: str | None) -> None:
    """Only http and https name an endpoint; a login is not part of it."""
    assert endpoint(url) == expected


def test_apt_endpoints_come_once() -> None:
    """Two suites of one mirror are one endpoint."""
    found = [Archive("http://m.example/debian", suite, ("main",)) for suite in ("bookworm", "bookworm-updates")]
    assert of_apt(found) == ("m.example:80",)


def test_pip_endpoints() -> None:
    """Configured indexes, variables of pip and uv, and pip's built-in index with its file host all count."""
    answer = {
        "index": "https://default.example/simple",
        "files": "files.example",
        "settings": {"index-url": "https://own.example/simple", "find-links": "/opt/wheels https://links.example/"},
    }
    environment = {
        "PIP_EXTRA_INDEX_URL": "http://extra.example:81/simple",
        "UV_INDEX": "torch=https://torch.example/cpu",
    }
    assert of_pip(answer, environment) == (
        "own.example:443",
        "links.example:443",
        "extra.example:81",
        "torch.example:443",
        "default.example:443",
        "files.example:443",
    )


def test_pip_that_does_not_answer_adds_nothing() -> None:
    """Without pip there is no default to know."""
    assert of_pip({}, {}) == ()


def test_pip_lines_for_a_host() -> None:
    """A host's pip.conf repeats the machine's indexes; the environment wins over the file."""
    answer = {
        "settings": {"index-url": "https://file.example/", "extra-index-url": "https://a.example\nhttps://b.example"}
    }
    assert pip_lines(answer, {"PIP_INDEX_URL": "https://variable.example/"}) == (
        "index-url = https://variable.example/",
        "extra-index-url = https://a.example https://b.example",
    )
    assert pip_lines({}, {}) == ()


def test_pip_itself_names_its_default_index() -> None:
    """Some Python of this machine knows the address, so that no file of ours has to."""
    answer = pip_settings()
    assert str(answer["index"]).startswith("https://")
    assert "." in str(answer["files"])
    assert isinstance(answer["settings"], dict)


def test_npm_and_go() -> None:
    """GOPROXY's words that are no address are passed over."""
    assert of_npm("https://npm.example/") == ("npm.example:443",)
    assert of_npm("undefined") == ()
    assert of_go("https://a.example,https://b.example|direct") == ("a.example:443", "b.example:443")
    assert of_go("off") == ()
