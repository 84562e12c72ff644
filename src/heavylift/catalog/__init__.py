"""The package's own data and its loaders. Pure but for reading files inside the package."""

from __future__ import annotations

import re

from heavylift.errors import CatalogError

__all__ = ["default_engine_version"]


def default_engine_version() -> str:
    """Return the engine version that hosts get by default: the pin of the extra `vllm` in this package's metadata."""
    from importlib import metadata  # 20 ms that only a deployment without engine.version pays for

    for requirement in metadata.requires("heavylift") or ():
        pin = re.fullmatch(r"vllm==([\w.+]+)\s*;\s*extra\s*==\s*['\"]vllm['\"]", requirement)
        if pin:
            return pin[1]
    raise CatalogError(
        "heavylift's package metadata pins no vllm version",
        hint="install heavylift again (pip install -e . in a checkout)",
    )
