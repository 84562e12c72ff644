"""What every section of the deployment has in common: frozen, strict, no unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """One mapping of the deployment file. Values are not converted: `port: "8000"` is an error, not 8000."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=False, defer_build=True
    )
