"""`limits:` the promises that every timeout and gate is derived from."""

from __future__ import annotations

from pydantic import Field

from heavylift.spec.section import Section

__all__ = ["Limits"]


class Limits(Section):
    """The longest request, the longest start, and the latencies that users are promised."""

    request_s: int = Field(600, ge=1, le=86_400, description="Longest request in seconds; drives every stop timeout.")
    start_s: int | None = Field(
        None, ge=5, le=86_400, description="Longest start in seconds; default: bytes ÷ disk rate + warm-up."
    )
    ttft_ms: int | None = Field(None, ge=1, description="Time to the first token, in milliseconds.")
    tpot_ms: int | None = Field(None, ge=1, description="Time per further token, in milliseconds.")
