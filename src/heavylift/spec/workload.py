"""`workload:` what the deployment is planned for."""

from __future__ import annotations

from pydantic import Field, model_validator

from heavylift.spec.section import Section

__all__ = ["Workload"]


class Workload(Section):
    """A typical request, and how many of them: `concurrency`, or `rate`, or a `profile` of the day."""

    input: int = Field(2000, ge=1, description="Prompt tokens of a request.")
    output: int = Field(500, ge=1, description="Generated tokens of a request.")
    cached: float = Field(0.0, ge=0, le=1, description="Share of the prompt that the prefix cache holds.")
    concurrency: int | None = Field(None, ge=1, description="Requests at a time.")
    rate: float | None = Field(None, gt=0, description="Requests a second.")
    profile: str | None = Field(None, description="CSV file of the load over a day.")

    @model_validator(mode="after")
    def _one_load(self) -> Workload:
        if sum(value is not None for value in (self.concurrency, self.rate, self.profile)) > 1:
            raise ValueError("should have one of `concurrency`, `rate`, `profile`")
        return self
