"""`budget:` what the deployment may cost."""

from __future__ import annotations

from pydantic import Field

from heavylift.spec.section import Section

__all__ = ["Budget"]


class Budget(Section):
    """Upper bounds in US dollars."""

    hour: float | None = Field(None, gt=0, description="All hosts, an hour.")
    million_tokens: float | None = Field(None, gt=0, description="A million generated tokens.")
