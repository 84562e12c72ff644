"""`sampling:` the defaults of requests that say nothing themselves."""

from __future__ import annotations

from pydantic import Field

from heavylift.spec.section import Section

__all__ = ["Sampling"]


class Sampling(Section):
    """Rendered as vLLM's `--override-generation-config`; what is left out stays the model's own."""

    temperature: float | None = Field(None, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus.")
    top_k: int | None = Field(None, ge=0, description="0 is off.")
    min_p: float | None = Field(None, ge=0, le=1, description="Least share of the most likely token.")
    repetition_penalty: float | None = Field(None, gt=0, description="1 is none.")
    max_new_tokens: int | None = Field(None, ge=1, description="Longest answer, in tokens.")
