"""Where the project's four folders lie: in the wheel below `heavylift/project/`, in a checkout at its root."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder", "project"]


def project() -> Path:
    """Return the folder that holds `templates/`, `deploy/`, `infra/`, `inventories/` and `deployments/`."""
    packaged = Path(__file__).parent / "project"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]


def folder(name: str) -> Path:
    """Return one of the project's folders."""
    return project() / name
