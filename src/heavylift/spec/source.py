"""YAML text → plain data, and the line of every key. Pure: no I/O.

PyYAML keeps the last of two equal keys without a word; here a duplicate is a problem like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from heavylift.errors import Problem, SpecError

__all__ = ["Source", "parse"]

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Source:
    """What the file holds (`data`), where each key stands (`lines`, 1-based, by `a/b/0`), and duplicate keys."""

    data: Any = None
    lines: dict[str, int] = field(default_factory=dict)
    duplicates: list[Problem] = field(default_factory=list)

    def line(self, path: str) -> int:
        """Return the line of the nearest key on the way to `path` that stands in the file."""
        while path and path not in self.lines:
            path = path.rpartition("/")[0]
        return self.lines.get(path, 1)


def parse(text: str, name: str) -> Source:
    """Parse one YAML document; raise `SpecError` with line and column where it is not YAML."""
    source = Source()
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _walk(node, "", source)
            source.data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax(error, text, name)]) from None
    except yaml.YAMLError as error:
        raise SpecError([f"{name}: not YAML: {' '.join(str(error).split())}"]) from None
    finally:
        loader.dispose()
    return source


def _walk(node: yaml.Node, path: str, source: Source) -> None:
    source.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            inner = f"{path}/{name}" if path else name
            if name in seen:
                source.duplicates.append(Problem(inner, f"stands twice, first in line {seen[name]}; keep one"))
            seen.setdefault(name, line)
            source.lines[inner] = line
            _walk(value, inner, source)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, f"{path}/{index}", source)


def _syntax(error: yaml.MarkedYAMLError, text: str, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    if line <= len(lines) and "\t" in lines[line - 1][:column]:
        return f"{name}:{line}: a tab; YAML indents with spaces"
    return f"{name}:{line}: not YAML: {error.problem or error.context} (column {column})"
