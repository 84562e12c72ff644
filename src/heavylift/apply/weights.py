"""Weights of a deployment: looked up at the hub, fetched on its hosts, verified there, and where they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heavylift.apply.fetch import Addresses, Fetched, Job, fetch_all
from heavylift.errors import HeavyliftError, SpecError, WeightsError
from heavylift.fleet.inventory import Host
from heavylift.fleet.question import ask_each
from heavylift.spec import parse
from heavylift.weights.hub import Hub
from heavylift.weights.manifest import Checkpoint
from heavylift.weights.remote import look_up
from heavylift.workspace import Workspace

__all__ = ["fetch", "job", "learn", "pin", "status", "verify"]

Report = Callable[[str], None]
SLOWEST_BYTES_PER_S = 100e6  # of reading and hashing: a network disk on one core


def learn(workspace: Workspace, report: Report) -> Checkpoint | None:
    """Ask the hub about the model's commit unless that is remembered; before anything else is derived from it."""
    if workspace.wish is None:
        return workspace.checkpoint
    if workspace.checkpoint is None:
        hub = Hub.from_environment(report=report)
        workspace.checkpoint = look_up(hub, workspace.wish, workspace.manifests)
        manifest = workspace.checkpoint.manifest
        report(f"{workspace.wish.repo}: {len(manifest.files)} files, {manifest.size / 1e9:.2f} GB at {hub.name}")
    return workspace.checkpoint


def job(workspace: Workspace, report: Report) -> Job:
    """Return what a fetch of this deployment's weights is; one for all hosts, since they share its addresses."""
    wish, checkpoint = workspace.wish, learn(workspace, report)
    if wish is None or checkpoint is None:
        raise WeightsError(
            "model: is a directory, not a repository of a hub", hint="`heavylift apply` copies or checks it"
        )
    addresses = Addresses(Hub.from_environment(report=report), wish)
    structure = wish.load_format not in {"dummy", "mistral"}
    return Job(checkpoint, workspace.plan.model_directory, addresses, workspace.known_hosts, structure)


def fetch(workspace: Workspace, hosts: Sequence[Host], report: Report) -> dict[str, Fetched | HeavyliftError]:
    """Fetch on `hosts` at the same time."""
    return fetch_all(hosts, job(workspace, report), report)


def verify(workspace: Workspace, hosts: Sequence[Host], *, deep: bool) -> dict[str, dict[str, Any] | HeavyliftError]:
    """Compare what is on `hosts` with the manifest: by stamps, or `deep` by hashing all of it again."""
    query = {**_query(workspace), "deep": deep}
    size = workspace.checkpoint.manifest.size if workspace.checkpoint else 800e9
    limit_s = 60 + (size / SLOWEST_BYTES_PER_S if deep else 0)
    return ask_each(hosts, workspace.known_hosts, "verify", lambda _: query, timeout_s=limit_s)


def status(workspace: Workspace, hosts: Sequence[Host]) -> dict[str, dict[str, Any] | HeavyliftError]:
    """Ask `hosts` what they have, and how far a fetch is."""
    query = _query(workspace)
    return ask_each(hosts, workspace.known_hosts, "weights", lambda _: query)


def pin(path: Path, error: SpecError, hub: Hub) -> SpecError:
    """Return the error of a deployment that names a branch or tag, with the commit that it means today as its hint."""
    if len(error.problems) != 1 or ": model/revision: should be a commit" not in error.problems[0]:
        return error
    model = parse(path.read_text(encoding="utf-8"), str(path)).data["model"]
    repo, revision = str(model.get("repo")), str(model["revision"])
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        return error
    try:
        commit = hub.commit(repo, revision)
    except WeightsError as unknown:
        return SpecError(error.problems, hint=f"which commit {revision!r} means is not known: {unknown.message}")
    return SpecError(error.problems, hint=f"pin the commit: `revision: {commit}` ({revision} today)")


def _query(workspace: Workspace) -> dict[str, Any]:
    checkpoint = workspace.checkpoint
    return {"directory": workspace.plan.model_directory, "manifest": checkpoint.manifest.sha256 if checkpoint else None}
