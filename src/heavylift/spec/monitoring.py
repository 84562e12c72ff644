"""`monitoring:` what a Prometheus that scrapes the replicas is told."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from heavylift.spec.section import Section

__all__ = ["Monitoring"]

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Monitoring(Section):
    """Labels that every scraped series carries, beside `deployment`, `host` and `model`."""

    labels: dict[str, str] = Field(default_factory=dict, description="Further labels.")

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _LABEL.fullmatch(name) or name.startswith("__") or name in {"deployment", "host", "model", "release"}:
                raise ValueError(f"{name!r} is no free label name")
        return value
