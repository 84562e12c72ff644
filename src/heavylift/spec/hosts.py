"""`hosts:` where replicas run: machines of one's own, the lab, or a Pulumi stack."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from heavylift.spec.section import Section

__all__ = ["Host", "Hosts", "LabHosts", "OwnedHosts", "StackHosts"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Host(Section):
    """One machine reached over SSH; what is left out comes from `~/.ssh/config`, the agent and known_hosts."""

    name: str = Field(description="Short name, unique in the deployment.")
    address: str = Field(description="Name or address that SSH connects to.")
    private_address: str | None = Field(None, description="Where the replica listens; default: `address`.")
    port: int = Field(22, ge=1, le=65535, description="SSH port.")
    user: str = Field("root", min_length=1, description="SSH user; root, or one that may use sudo.")
    jump: str | None = Field(None, description="Jump host, as `ssh -J` takes it.")
    host_key: str | None = Field(None, description="Public host key, `ssh-ed25519 AAAA…`; else known_hosts decides.")

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(f"should be lower-case letters, digits and dashes, got {value!r}")
        return value

    @field_validator("address", "private_address", "user", "jump")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.startswith("-") or re.search(r"[\s'\"\\$`;&|<>]", value)):
            raise ValueError(f"is no name or address: {value!r}")
        return value


class _AnyHosts(Section):
    per_replica: int = Field(1, ge=1, le=64, description="Hosts that one replica spans.")


class OwnedHosts(_AnyHosts):
    """Machines that exist already, each named here."""

    source: Literal["owned"] = Field(alias="from")
    list: Annotated[tuple[Host, ...], Field(strict=False, min_length=1, max_length=64, description="The machines.")]

    @field_validator("list")
    @classmethod
    def _unique(cls, value: tuple[Host, ...]) -> tuple[Host, ...]:
        names = [host.name for host in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names {', '.join(map(repr, twice))} more than once")
        return value


class LabHosts(_AnyHosts):
    """Hosts of the lab on this machine."""

    source: Literal["lab"] = Field(alias="from")
    count: int = Field(2, ge=1, le=64, description="How many.")


class StackHosts(_AnyHosts):
    """Machines that Pulumi provisions."""

    source: Literal["stack"] = Field(alias="from")
    kind: str = Field(description="Machine type, such as p5en.48xlarge.")
    count: int = Field(1, ge=1, le=64, description="How many.")
    region: str = Field(description="Cloud region.")
    zone: str | None = Field(None, description="Availability zone; default: one that has capacity.")
    market: Literal["on-demand", "spot", "reserved", "capacity-block"] = Field("on-demand", description="How to pay.")


Hosts = Annotated[OwnedHosts | LabHosts | StackHosts, Field(discriminator="source")]
