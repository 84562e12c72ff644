"""From the name of a large model to a production endpoint on hosts that you own or rent.

The command line is a skin over this: `Workspace.open(path)` reads a deployment file, `.plan` and `.release` are what it
comes to, `heavylift.apply.apply.apply(workspace)` does it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heavylift.errors import HeavyliftError
    from heavylift.spec import Deployment, load
    from heavylift.workspace import Workspace

__all__ = ["Deployment", "HeavyliftError", "Workspace", "load"]

_HOMES = {"Deployment": "spec", "HeavyliftError": "errors", "Workspace": "workspace", "load": "spec"}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is asked for: `heavylift --help` needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'heavylift' has no attribute {name!r}")
    return getattr(importlib.import_module(f"heavylift.{_HOMES[name]}"), name)
