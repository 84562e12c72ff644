"""`access:` who may reach the replicas, and with which key."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from heavylift.spec.section import Section

__all__ = ["Access"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(f"{value!r} is no network like 10.0.0.0/8") from None
    return value


Network = Annotated[str, AfterValidator(_network)]


class Access(Section):
    """Where replicas listen, and the name of the environment variable that holds the API key."""

    bind: Literal["private", "loopback"] = Field("private", description="Listen on the private address or on loopback.")
    port: int = Field(8000, ge=1024, le=65535, description="Port of a replica.")
    key: str | None = Field(None, description="Environment variable (on this machine) that holds the API key.")
    allow: Annotated[tuple[Network, ...], Field(strict=False, description="Networks that may connect.")] = ()

    @field_validator("key")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("should be the name of an environment variable, never the key itself")
        return value
