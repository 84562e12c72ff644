"""Deployment → `Plan`: what each replica runs, with every limit and argument decided. Pure: no I/O."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heavylift.catalog.arguments import engine_schema
from heavylift.catalog.environment import Device, EngineEnvironment, engine_environment
from heavylift.catalog.models import ModelFacts
from heavylift.errors import Problem
from heavylift.plan.arguments import argv, check
from heavylift.plan.timeouts import Timeouts, timeouts

if TYPE_CHECKING:  # whoever only checks arguments does not pay for pydantic
    from heavylift.spec import Deployment
    from heavylift.weights import Checkpoint

__all__ = ["Plan", "examine", "plan", "refused"]

ENGINES = "/opt/heavylift/engines"


@dataclass(frozen=True, slots=True)
class Plan:
    """One replica's plan: the same on every host; what differs by host is rendered apart."""

    deployment: Deployment
    checkpoint: Checkpoint | None
    device: Device
    environment: EngineEnvironment | None
    engine_directory: str
    model_directory: str
    arguments: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    timeouts: Timeouts

    @property
    def unit(self) -> str:
        """The systemd unit's name."""
        return f"heavylift-{self.deployment.name}.service"

    @property
    def home(self) -> str:
        """Where the deployment's releases lie on a host."""
        return f"/opt/heavylift/{self.deployment.name}"

    @property
    def secrets(self) -> str:
        """Where the deployment's key and the host's own settings lie."""
        return f"/etc/heavylift/{self.deployment.name}"

    @property
    def state(self) -> str:
        """The service's own writable folder."""
        return f"/var/lib/heavylift/{self.deployment.name}"

    @property
    def cache(self) -> str:
        """Compile caches, kept between starts."""
        return f"{self.deployment.paths.cache}/{self.deployment.name}"


def examine(deployment: Deployment, checkpoint: Checkpoint | None = None) -> tuple[Problem, ...]:
    """Return everything that is wrong or worth knowing about a deployment whose sections are valid."""
    engine = deployment.engine
    facts = ModelFacts.from_config(checkpoint.config) if checkpoint else None
    schema = engine_schema(engine.version)
    found = check(engine.arguments, engine.variables, schema, facts)
    other = [Problem("engine/version", schema.note, "note")] if schema.note else []
    return (*other, *found, *_not_yet(deployment, checkpoint))


def plan(deployment: Deployment, checkpoint: Checkpoint | None = None) -> Plan:
    """Decide everything about a replica. `checkpoint` is what this machine knows of the weights, if anything."""
    engine, device = deployment.engine, _device(deployment)
    environment = None if engine.path or engine.runtime == "docker" else engine_environment(engine.version, device)
    limits = timeouts(deployment, checkpoint.manifest.size if checkpoint else None)
    return Plan(
        deployment=deployment,
        checkpoint=checkpoint,
        device=device,
        environment=environment,
        engine_directory=engine.path or (f"{ENGINES}/{environment.name}" if environment else ""),
        model_directory=_model_directory(deployment, checkpoint),
        arguments=_arguments(deployment, limits),
        variables=_variables(deployment, limits),
        timeouts=limits,
    )


def _device(deployment: Deployment) -> Device:
    return "cpu" if deployment.on_cpu else "cuda"


def _model_directory(deployment: Deployment, checkpoint: Checkpoint | None) -> str:
    model, root = deployment.model, deployment.paths.models
    if model.repo is not None:
        return f"{root}/{model.repo.replace('/', '--')}/{model.revision}"
    if model.place == "host":
        return str(model.path)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", posixpath.basename(str(model.path).rstrip("/"))).strip("-.") or "model"
    return f"{root}/local--{slug}/{checkpoint.manifest.sha256[:40] if checkpoint else 'unknown'}"


def _arguments(deployment: Deployment, limits: Timeouts) -> tuple[str, ...]:
    engine = deployment.engine
    schema = engine_schema(engine.version)
    own: dict[str, Any] = {
        "served-model-name": deployment.served_name,
        "shutdown-timeout": limits.shutdown_s,
    }
    sampling = deployment.sampling.model_dump(exclude_none=True)
    if sampling:
        own["override-generation-config"] = json.dumps(sampling, sort_keys=True, separators=(",", ":"))
    if deployment.model.trust_remote_code:
        own["trust-remote-code"] = True
    return argv({**engine.arguments, **own}, schema)


def _variables(deployment: Deployment, limits: Timeouts) -> tuple[tuple[str, str], ...]:
    engine, cache = deployment.engine, f"{deployment.paths.cache}/{deployment.name}"
    own = {
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": f"/var/lib/heavylift/{deployment.name}",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "VLLM_CACHE_ROOT": f"{cache}/vllm",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(limits.start_s),
        "VLLM_NO_USAGE_STATS": "1",
        "XDG_CACHE_HOME": cache,
    }
    if isinstance(engine.devices, list):
        own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, engine.devices))
    return tuple(sorted({**own, **engine.variables}.items()))


def refused(deployment: Deployment) -> list[Problem]:
    """Return what is understood but cannot be rendered or applied by this version."""
    cases = {
        "hosts/from": deployment.hosts.source == "stack",
        "hosts/per_replica": deployment.hosts.per_replica > 1,
        "engine/path": deployment.engine.path is not None,
    }
    return [
        Problem(path, "is understood, but not built yet: `up` and `apply` refuse it")
        for path, yes in cases.items()
        if yes
    ]


def _not_yet(deployment: Deployment, checkpoint: Checkpoint | None) -> list[Problem]:
    """Name what is understood but does nothing, or is refused later, in this version."""
    unused = [name for name in ("workload", "budget", "prices") if name in deployment.model_fields_set]
    notes = [Problem(name, "is understood; nothing in this version uses it", "note") for name in unused]
    if deployment.model.repo is not None and checkpoint is None:
        todo = "`heavylift weights fetch` or `up` does; until then its config.json is not checked against the arguments"
        notes.append(Problem("model/repo", f"was not looked up at the hub yet: {todo}", "note"))
    if deployment.access.allow:
        notes.append(Problem("access/allow", "is understood; no firewall is set up by this version", "note"))
    if deployment.engine.runtime == "docker":
        notes.append(Problem("engine/runtime", "is understood, but not built yet: `render` refuses it", "warning"))
    return notes + [Problem(problem.path, problem.message, "warning") for problem in refused(deployment)]
