"""`model:` which weights are served, and where they come from."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from heavylift.spec.paths import absolute
from heavylift.spec.section import Section

__all__ = ["Model"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Model(Section):
    """Either `repo` with a pinned `revision`, or `path`: a directory."""

    repo: str | None = Field(None, description="Hub repository, ORG/NAME.")
    revision: str | None = Field(None, description="Commit of the repository: 40 hexadecimal digits, never a branch.")
    allow_patterns: list[str] = Field(
        [], description="Files of the repository to fetch, instead of those that the engine's loader reads."
    )
    ignore_patterns: list[str] = Field([], description="Files of the repository to leave out.")
    path: str | None = Field(None, min_length=1, description="Directory with the checkpoint, relative to this file.")
    place: Literal["operator", "host"] = Field(
        "operator", description="Whose directory `path` is: the machine heavylift runs on, or already on every host."
    )
    name: str | None = Field(None, description="Name that clients ask for; default: `repo`, or the deployment's name.")
    trust_remote_code: bool = Field(default=False, description="Let Python code of the repository run in the engine.")

    @field_validator("repo")
    @classmethod
    def _repo(cls, value: str | None) -> str | None:
        if value is not None and not _REPO.fullmatch(value):
            raise ValueError(f"should be ORG/NAME, got {value!r}")
        return value

    @field_validator("path", "name")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and (not value.isprintable() or not value.strip() or value.startswith("-")):
            raise ValueError(f"should be printable and not begin with a dash, got {value!r}")
        return value

    @field_validator("revision")
    @classmethod
    def _revision(cls, value: str | None) -> str | None:
        if value is not None and not _COMMIT.fullmatch(value):
            commit = "a commit of 40 hexadecimal digits"
            raise ValueError(f"should be {commit}, got {value!r}; a branch moves, pin its commit")
        return value

    @field_validator("allow_patterns", "ignore_patterns")
    @classmethod
    def _patterns(cls, value: list[str]) -> list[str]:
        for pattern in value:
            if not pattern.isprintable() or not pattern.strip():
                raise ValueError(f"should be patterns like *.safetensors, got {pattern!r}")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.repo is None) == (self.path is None):
            raise ValueError("should have either `repo` and `revision`, or `path`")
        if self.repo is not None and self.revision is None:
            raise ValueError("`repo` needs `revision`: the commit of 40 hexadecimal digits that is served")
        if self.path is not None and self.revision is not None:
            raise ValueError("`revision` belongs to `repo`; a directory is pinned by its manifest")
        if self.path is not None and (self.allow_patterns or self.ignore_patterns):
            raise ValueError("`allow_patterns` and `ignore_patterns` belong to `repo`; a directory holds what it holds")
        if self.place == "host" and self.path is None:
            raise ValueError("`place: host` needs `path`: the directory on the hosts")
        if self.place == "host":
            absolute(str(self.path))
        return self
