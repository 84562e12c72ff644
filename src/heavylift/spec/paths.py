"""`paths:` where things lie on a host, for those who keep them elsewhere."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from heavylift.spec.section import Section

__all__ = ["Paths"]

_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")


class Paths(Section):
    """Roots on a host. Each holds one folder a deployment or a model; heavylift removes nothing above those."""

    models: str = Field("/srv/models", description="Weights.")
    cache: str = Field("/var/cache/heavylift", description="Compile caches, kept between starts.")

    @field_validator("models", "cache")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not _PATH.fullmatch(value) or any(part in {".", ".."} for part in value.split("/")):
            raise ValueError(f"should be an absolute path of letters, digits, '.', '_' and '-', got {value!r}")
        return value
