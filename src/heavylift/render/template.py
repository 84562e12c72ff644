"""Jinja2, set up once: strict, logic-free templates with the quoting that each kind of file needs."""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heavylift import assets

if TYPE_CHECKING:
    import jinja2

__all__ = ["File", "fill"]


@dataclass(frozen=True, slots=True)
class File:
    """One file on a host: absolute path, text, and mode in octal digits."""

    path: str
    text: str = field(repr=False)
    mode: str = "644"

    @property
    def sha256(self) -> str:
        """Digest of the text as UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def fill(template: str, context: dict[str, Any]) -> str:
    """Render one template of `templates/`; a name that the context lacks is an error."""
    return _environment().get_template(template).render(context)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # 50 ms that only rendering pays for

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(assets.folder("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  these are unit files and shell scripts, each with its own quoting below
    )
    environment.filters.update({"quoted": _quoted, "shell": shlex.quote, "unit": _unit, "json": _json})
    return environment


def _quoted(value: str) -> str:
    """Quote for an environment file: what systemd and the shell both read back as the same value."""
    for character in '\\"$`':
        value = value.replace(character, f"\\{character}")
    return f'"{value}"'


def _unit(value: str) -> str:
    """Quote one word of a unit file: specifiers, variables and quotes lose their meaning."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
    return f'"{escaped}"'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
