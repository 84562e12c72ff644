"""`engine:` which vLLM runs, how it is started, and with which arguments."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from heavylift.catalog import default_engine_version
from heavylift.spec.section import Section

__all__ = ["Engine"]

_VERSION = re.compile(r"\d+\.\d+\.\d+(\.post\d+|rc\d+)?")
_IMAGE = re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Engine(Section):
    """vLLM's version, runtime, own arguments (with dashes, as vLLM names them) and environment variables."""

    version: str = Field(default_factory=default_engine_version, description="vLLM version; default: heavylift's pin.")
    runtime: Literal["systemd", "docker"] = Field("systemd", description="Run as a unit, or as a unit around a container.")
    image: str | None = Field(None, description="For `runtime: docker`: REPO@sha256:DIGEST.")
    path: str | None = Field(None, description="Engine environment that is already on the hosts; nothing is installed.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="vLLM's arguments, checked against its parser.")
    variables: dict[str, str] = Field(default_factory=dict, description="Environment variables of the engine.")
    devices: Literal["all", "cpu"] | list[int] = Field("all", description="GPUs by number, all of them, or the CPU.")

    @field_validator("version")
    @classmethod
    def _version(cls, value: str) -> str:
        if not _VERSION.fullmatch(value):
            raise ValueError(f"should be an exact version like 0.33.0, got {value!r}")
        return value

    @field_validator("variables", mode="before")
    @classmethod
    def _variables(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, content in value.items():
                if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
                    raise ValueError(f"{name!r} is not a name of an environment variable")
                if isinstance(content, bool):
                    raise ValueError(f"{name}: should be a string or a number, got {str(content).lower()}; write 1 or 0")
                if isinstance(content, str) and any(ord(c) < 32 for c in content):
                    raise ValueError(f"{name}: holds a line break or a control character")
            return {name: str(content) if isinstance(content, int | float) else content for name, content in value.items()}
        return value

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
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError(f"`path` should be absolute, got {self.path!r}")
        return self
