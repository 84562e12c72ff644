"""Which plain words of YAML mean one thing only. Pure: no I/O.

YAML 1.1, which PyYAML reads, takes `on` for true, `010` for 8 and `1:30` for 90; YAML 1.2 and JSON do not. What would
be read in two ways is refused with the way out, so that a deployment never means something else than it says.
"""

from __future__ import annotations

import re

import yaml

__all__ = ["doubt", "is_word"]

_PREFIX = "tag:yaml.org,2002:"
_PLAIN = {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]{0,99})|0x[0-9a-fA-F]{1,16}",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "null": r"~|null|Null|NULL|",
    "str": r"[\s\S]*",
    "map": "",
    "seq": "",
}
_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]{1,3}")


def is_word(node: yaml.Node) -> bool:
    """Whether a key is a string for every reader of YAML."""
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_PREFIX}str" and doubt(node) is None


def doubt(node: yaml.Node) -> str | None:
    """Return why a value is refused before anybody looks at what it is for; None where it means one thing."""
    kind = node.tag.removeprefix(_PREFIX)
    if kind == "timestamp":
        return f"`{node.value}` is a date to YAML; quote it"
    if kind not in _PLAIN:
        return f"has the tag `{node.tag.replace(_PREFIX, '!!')}`; write a plain value"
    if not isinstance(node, yaml.ScalarNode):
        return None
    if kind == "bool" and not re.fullmatch(_PLAIN["bool"], node.value):
        return f"`{node.value}` is true or false to some readers of YAML only; write true or false, or quote it"
    if not re.fullmatch(_PLAIN[kind], node.value):
        return f"`{node.value[:40]}` is a number that readers of YAML take differently; write it plainly, or quote it"
    if kind == "str" and not node.style and _EXPONENT.fullmatch(node.value):
        return f"`{node.value}` is a number to some readers of YAML only; write {float(node.value)}, or quote it"
    return None
