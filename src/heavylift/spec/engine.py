"""`engine:` which vLLM runs, how it is started, and with which arguments."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from heavylift.catalog import default_engine_version
from heavylift.spec.paths import absolute
from heavylift.spec.section import Section

__all__ = ["Engine"]

_VERSION = re.compile(r"\d+\.\d+\.\d+(\.post\d+|rc\d+)?")
_IMAGE = re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("is not a name of an environment variable")
    return name


def _content(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"should be a string or a number, got {str(value).lower()}; write 1 or 0")  # noqa: TRY004
    if isinstance(value, str) and any(ord(character) < 32 for character in value):
        raise ValueError("holds a line break or a control character")
    return str(value) if isinstance(value, int | float) else value


Variable = Annotated[str, AfterValidator(_variable)]
Content = Annotated[str, BeforeValidator(_content), WithJsonSchema({"type": ["string", "number"]})]


class Engine(Section):
    """vLLM's version, runtime, own arguments (with dashes, as vLLM names them) and environment variables."""

    version: str = Field(default_factory=default_engine_version, description="vLLM version; default: heavylift's pin.")
    runtime: Literal["systemd", "docker"] = Field("systemd", description="A unit, or a unit around a container.")
    image: str | None = Field(None, description="For `runtime: docker`: REPO@sha256:DIGEST.")
    path: str | None = Field(None, description="Engine environment that is already on the hosts; nothing is installed.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="vLLM's arguments, checked against its parser.")
    variables: dict[Variable, Content] = Field(default_factory=dict, description="Environment variables of the engine.")
    devices: Literal["all", "cpu"] | list[int] = Field("all", description="GPUs by number, all of them, or the CPU.")

    @field_validator("version")
    @classmethod
    def _version(cls, value: str) -> str:
        if not _VERSION.fullmatch(value):
            raise ValueError(f"should be an exact version like 0.33.0, got {value!r}")
        return value

    @field_validator("path")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        return None if value is None else absolute(value)

    @field_validator("arguments", "variables", mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("devices")
    @classmethod
    def _devices(cls, value: str | list[int]) -> str | list[int]:
        if isinstance(value, list) and (not value or len(set(value)) != len(value) or min(value) < 0):
            raise ValueError(f"should be `all`, `cpu` or different GPU numbers like [0, 1], got {value!r}")
        return value

    @model_validator(mode="after")
    def _runtime_fits(self) -> Engine:
        if self.runtime == "docker" and (self.image is None or not _IMAGE.fullmatch(self.image)):
            raise ValueError("`runtime: docker` needs `image: REPO@sha256:DIGEST` (a tag moves, a digest does not)")
        if self.runtime == "systemd" and self.image is not None:
            raise ValueError("`image` belongs to `runtime: docker`")
        return self
