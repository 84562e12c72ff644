"""The whole deployment: one file's content, typed and frozen."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from heavylift.spec.access import Access
from heavylift.spec.budget import Budget
from heavylift.spec.engine import Engine
from heavylift.spec.hosts import Hosts
from heavylift.spec.limits import Limits
from heavylift.spec.model import Model
from heavylift.spec.monitoring import Monitoring
from heavylift.spec.paths import Paths
from heavylift.spec.prices import Prices
from heavylift.spec.sampling import Sampling
from heavylift.spec.section import Section
from heavylift.spec.workload import Workload

__all__ = ["Deployment"]

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")

_OPTIONAL = ("engine", "workload", "limits", "access", "paths", "sampling", "budget", "prices", "monitoring")


class Deployment(Section):
    """What the user wants. Everything else is derived from it."""

    name: str = Field(description="Names the unit, the folders on the hosts and the series in monitoring.")
    model: Model = Field(description="Which weights are served.")
    engine: Engine = Field(default_factory=Engine, description="Which vLLM, and with which arguments.")
    hosts: Hosts = Field(description="Where replicas run.")
    workload: Workload = Field(default_factory=Workload, description="What it is planned for.")
    limits: Limits = Field(default_factory=Limits, description="Longest request, promised latencies.")
    access: Access = Field(default_factory=Access, description="Where replicas listen, and the key.")
    paths: Paths = Field(default_factory=Paths, description="Where things lie on a host.")
    sampling: Sampling = Field(default_factory=Sampling, description="Defaults of requests.")
    budget: Budget = Field(default_factory=Budget, description="What it may cost.")
    prices: Prices = Field(default_factory=Prices, description="The user's own price rows.")
    monitoring: Monitoring = Field(default_factory=Monitoring, description="Labels for Prometheus.")

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            allowed = "up to 40 lower-case letters, digits and dashes, beginning with a letter"
            raise ValueError(f"should be {allowed}, got {value!r}")
        return value

    @field_validator(*_OPTIONAL, mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _lab_has_no_gpu(self) -> Deployment:
        if self.hosts.source == "lab" and isinstance(self.engine.devices, list):
            raise ValueError("lab hosts have no GPU: leave `engine.devices` out, or write `cpu`")
        return self

    @property
    def on_cpu(self) -> bool:
        """Whether replicas run on the CPU: asked for, or because lab hosts have nothing else."""
        return self.engine.devices == "cpu" or self.hosts.source == "lab"

    @property
    def served_name(self) -> str:
        """The model name that clients send."""
        return self.model.name or self.model.repo or self.name
