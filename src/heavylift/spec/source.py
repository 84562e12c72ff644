"""YAML text → plain data, and the line of every key. Pure: no I/O.

PyYAML keeps the last of two equal keys without a word, and follows aliases for as long as it takes; here duplicates,
dates, words that YAML's versions read differently, and aliases that contain themselves or explode are problems.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from heavylift.errors import Problem, SpecError
from heavylift.spec.scalar import doubt, is_word

__all__ = ["Source", "parse"]

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"
MAX_VALUES = 100_000
MAX_DEPTH = 100


@dataclass(slots=True)
class Source:
    """What the file holds (`data`), where each key stands (`lines`, 1-based, by `a/b/0`), and what is wrong so far."""

    data: Any = None
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: str) -> int:
        """Return the line of the nearest key on the way to `path` that stands in the file."""
        while path and path not in self.lines:
            path = path.rpartition("/")[0]
        return self.lines.get(path, 1)

    def explains(self, path: str) -> bool:
        """Whether a problem of the text itself was found at `path` or above it, so that a second one adds nothing."""
        return any(path == p.path or path.startswith(f"{p.path}/") for p in self.problems)


def parse(text: str, name: str) -> Source:
    """Parse one YAML document; raise `SpecError` with line and column where it is not YAML."""
    source = Source()
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _measure(node, name, {}, 1)
            _walk(node, "", source, set())
            source.data = _construct(loader, node, source)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax(error, text, name)]) from None
    except yaml.YAMLError as error:
        raise SpecError([f"{name}: not YAML: {' '.join(str(error).split())}"]) from None
    except RecursionError:
        raise SpecError([f"{name}: nested too deeply"]) from None
    finally:
        loader.dispose()
    return source


def _construct(loader: Any, node: yaml.Node, source: Source) -> Any:
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, KeyError):
        if source.problems:  # what was found already is why
            return None
        raise


def _measure(node: yaml.Node, name: str, sizes: dict[int, int], depth: int) -> int:
    """Return how many values a node stands for once its aliases are followed; 0 in `sizes` marks the way here."""
    where = f"{name}:{node.start_mark.line + 1}"
    if sizes.get(id(node)) == 0:
        raise SpecError([f"{where}: an alias that contains itself"])
    if depth > MAX_DEPTH:
        raise SpecError([f"{where}: nested more than {MAX_DEPTH} levels deep"])
    if id(node) not in sizes:
        sizes[id(node)] = 0
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        children = [child for entry in inner for child in (entry if isinstance(entry, tuple) else (entry,))]
        sizes[id(node)] = 1 + sum(_measure(child, name, sizes, depth + 1) for child in children)
    if sizes[id(node)] > MAX_VALUES:
        raise SpecError([f"{where}: more than {MAX_VALUES} values, counting aliases as often as they are used"])
    return sizes[id(node)]


def _walk(node: yaml.Node, path: str, source: Source, done: set[int]) -> None:
    """Note where every key stands; what an alias repeats is looked at once, and stands where the alias does."""
    source.lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in done:
        return
    done.add(id(node))
    if (wrong := doubt(node)) is not None:
        source.problems.append(Problem(path or ".", wrong))
    if isinstance(node, yaml.MappingNode):
        _walk_mapping(node, path, source, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, f"{path}/{index}", source, done)


def _walk_mapping(node: yaml.MappingNode, path: str, source: Source, done: set[int]) -> None:
    seen: dict[str, int] = {}
    for key, value in node.value:
        if key.tag == _MERGE:
            _walk(value, f"{path}/<<" if path else "<<", source, done)
            continue
        word, line = key.value if isinstance(key, yaml.ScalarNode) else "?", key.start_mark.line + 1
        inner = f"{path}/{word}" if path else word
        if word in seen:
            source.problems.append(Problem(inner, f"stands twice, first in line {seen[word]}; keep one"))
        seen.setdefault(word, line)
        source.lines[inner] = line
        if not is_word(key):
            source.problems.append(Problem(inner, "is no word as a key; quote it"))
        _walk(value, inner, source, done)


def _syntax(error: yaml.MarkedYAMLError, text: str, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    if line <= len(lines) and "\t" in lines[line - 1][:column]:
        return f"{name}:{line}: a tab; YAML indents with spaces"
    return f"{name}:{line}: not YAML: {error.problem or error.context} (column {column})"
