"""`paths:` where things lie on a host, for those who keep them elsewhere."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from heavylift.spec.section import Section

__all__ = ["Paths", "absolute"]

_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
_HIDDEN = re.compile(r"/(home|root|tmp|var/tmp|run/user)(/.*)?")  # by ProtectHome= and PrivateTmp= of the unit


class Paths(Section):
    """Roots on a host. Each holds one folder a deployment or a model; heavylift removes nothing above those."""

    models: str = Field("/srv/models", description="Weights.")
    cache: str = Field("/var/cache/heavylift", description="Compile caches, kept between starts.")

    @field_validator("models", "cache")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return absolute(value)


def absolute(path: str) -> str:
    """Return a path on hosts that the engine sees and that needs no quoting; raise `ValueError` for any other."""
    if not _PATH.fullmatch(path) or any(part in {".", ".."} for part in path.split("/")):
        raise ValueError(f"should be an absolute path of letters, digits, '.', '_' and '-', got {path!r}")
    if _HIDDEN.fullmatch(path):
        raise ValueError(f"{path} is hidden from the engine, as all of /home, /root and /tmp is; choose another place")
    return path
