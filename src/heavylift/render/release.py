"""A release: one immutable version of what a replica runs. Its id is the hash of its content."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.errors import HeavyliftError, SpecError
from heavylift.fleet.onhost import PATH as HOST_PROGRAM
from heavylift.plan import Plan, refused
from heavylift.render.runtime import RUNTIMES, Runtime
from heavylift.render.template import File, fill

__all__ = ["USER", "Release", "render"]

USER = "heavylift"
# The engine's own limit ends first, then the gate's, then the unit's: whoever knows most says why nothing started.
_GATE_MARGIN_S = 10
_UNIT_MARGIN_S = 20


@dataclass(frozen=True, slots=True)
class Release:
    """The rendered files, named as on the host, and the facts they rest on. Equal input, equal bytes, equal id."""

    id: str
    files: tuple[File, ...]
    facts: Mapping[str, Any]

    def file(self, name: str) -> File:
        """Return the file of that name in the release's folder."""
        return next(file for file in self.files if file.path.rpartition("/")[2] == name)


def render(plan: Plan, runtimes: Mapping[str, Runtime] = RUNTIMES) -> Release:
    """Render a plan; raise where it asks for what is not built yet."""
    unbuilt = refused(plan.deployment)
    if unbuilt:
        raise SpecError([f"{problem.path}: {problem.message}" for problem in unbuilt])
    runtime = runtimes.get(plan.deployment.engine.runtime)
    if runtime is None:
        known = ", ".join(sorted(runtimes))
        raise HeavyliftError(f"engine/runtime: `{plan.deployment.engine.runtime}` is not built yet; use {known}")
    context = _context(plan)
    contents = {name: (fill(template, context), mode) for template, name, mode in runtime.files}
    facts = _facts(plan, runtime)
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, (text, _) in contents.items()}
    document = {"schema": "heavylift/release", "version": 1, **facts, "files": digests}
    identity = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]
    contents["release.json"] = (json.dumps({"id": identity, **document}, indent=2, sort_keys=True) + "\n", "644")
    folder = f"{plan.home}/releases/{identity}"
    files = tuple(File(f"{folder}/{name}", text, mode) for name, (text, mode) in sorted(contents.items()))
    return Release(identity, files, document)


def _context(plan: Plan) -> dict[str, Any]:
    deployment = plan.deployment
    gate: dict[str, Any] = {
        "model": deployment.served_name,
        "timeout_s": plan.timeouts.start_s + _GATE_MARGIN_S,
        "record": f"/run/heavylift/{deployment.name}/gate.json",
    }
    if deployment.access.key is not None:
        gate["key_file"] = f"{plan.secrets}/api-key"
    return {
        "name": deployment.name,
        "version": deployment.engine.version,
        "user": USER,
        "home": plan.home,
        "secrets": plan.secrets,
        "state": plan.state,
        "cache": plan.cache,
        "engine_directory": plan.engine_directory,
        "model_directory": plan.model_directory,
        "has_key": deployment.access.key is not None,
        "host_program": HOST_PROGRAM,
        "gate_query": json.dumps(gate, sort_keys=True),
        "timeouts": plan.timeouts,
        "start_s": plan.timeouts.start_s + _UNIT_MARGIN_S,
        "start_limit_s": 4 * (plan.timeouts.start_s + 3 * _UNIT_MARGIN_S),
        "variables": plan.variables,
        "lines": _lines(plan.arguments),
    }


def _lines(arguments: tuple[str, ...]) -> list[str]:
    """Return one line of shell per option, its values behind it."""
    lines: list[list[str]] = []
    for word in arguments:
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            lines.append([word])
        else:
            lines[-1].append(word)
    return [" ".join(map(shlex.quote, line)) for line in lines]


def _facts(plan: Plan, runtime: Runtime) -> dict[str, Any]:
    deployment, checkpoint = plan.deployment, plan.checkpoint
    model = {"served_name": deployment.served_name, "directory": plan.model_directory, "repo": deployment.model.repo}
    return {
        "deployment": deployment.name,
        "model": {
            **model,
            "revision": deployment.model.revision,
            "manifest": checkpoint.manifest.sha256 if checkpoint else None,
            "bytes": checkpoint.manifest.size if checkpoint else None,
        },
        "engine": {
            "version": deployment.engine.version,
            "runtime": runtime.name,
            "environment": plan.environment.name if plan.environment else None,
            "image": deployment.engine.image,
            "arguments": list(plan.arguments),
        },
        "requires": {"device": plan.device, "python": "3.9", "systemd": True},
    }
