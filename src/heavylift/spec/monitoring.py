"""`monitoring:` what a Prometheus that scrapes the replicas is told."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from heavylift.spec.section import Section

__all__ = ["Monitoring"]

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = {"deployment", "host", "model", "release"}


def _label(name: str) -> str:
    if not _LABEL.fullmatch(name) or name.startswith("__") or name in _OWN:
        raise ValueError("is no free label name")
    return name


Label = Annotated[str, AfterValidator(_label)]


class Monitoring(Section):
    """Labels that every scraped series carries, beside `deployment`, `host`, `model` and `release`."""

    labels: dict[Label, str] = Field(default_factory=dict, description="Further labels.")
