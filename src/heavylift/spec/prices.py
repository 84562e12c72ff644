"""`prices:` rows that replace heavylift's own price table."""

from __future__ import annotations

from pydantic import Field

from heavylift.spec.section import Section

__all__ = ["Prices"]


class Prices(Section):
    """Where the user's own prices stand."""

    file: str | None = Field(None, description="CSV file of dated price rows, relative to this file.")
