"""What one host needs, decided from what is wanted and what was seen. Pure; printed by a dry run, done by `deploy/`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heavylift.apply.target import Target
from heavylift.fleet.onhost import PATH
from heavylift.render import File

__all__ = ["Changes", "decide", "diff", "unseen"]

_UP = {"active", "activating", "reloading", "deactivating"}
_PACKAGES = {"numa": "libnuma1", "rsync": "rsync"}
_SHARED_MEMORY = 160 << 20


@dataclass(frozen=True, slots=True)
class Changes:
    """The steps one host needs; empty fields are steps it does not need."""

    refusal: str | None
    user: bool
    directories: tuple[tuple[str, str, str], ...]
    packages: tuple[str, ...]
    program: bool
    engine: bool
    weights: Literal["", "place", "fetch", "check"]
    staged: tuple[File, ...]
    settings: tuple[File, ...]
    key: bool
    link: bool
    start: Literal["", "start", "restart", "wait"]
    waiting: str | None  # another release serves: what has to happen is somebody's decision

    @property
    def base(self) -> bool:
        """Whether user, folders, packages or the program are missing."""
        return bool(self.user or self.directories or self.packages or self.program)

    @property
    def activates(self) -> bool:
        """Whether settings, key, unit or link change."""
        return bool(self.settings or self.key or self.link)

    @property
    def any(self) -> bool:
        """Whether anything changes at all."""
        return bool(self.base or self.engine or self.weights or self.staged or self.activates or self.start)


def decide(target: Target, seen: Mapping[str, Any], *, restart: bool = False) -> Changes:
    """Compare a host with its target. A serving engine is never stopped, unless `restart` says so."""
    serving = seen["unit"]["ActiveState"] in _UP and seen["unit"]["SubState"] != "auto-restart"
    settings = tuple(file for file in (*target.host_files, target.unit_file) if _differs(file, seen))
    key = (
        target.key_sha256 is not None and (seen["files"].get(target.key_path) or {}).get("sha256") != target.key_sha256
    )
    link = seen["links"].get(target.link) != f"releases/{target.release.id}"
    waiting = _waiting(target, seen) if serving and (settings or key or link) and not restart else None
    weights = _weights(target, seen)
    return Changes(
        refusal=_refusal(target, seen),
        user=not seen["user"],
        directories=tuple(row for row in target.directories if not _is(row, seen)),
        packages=_missing_packages(target, seen),
        program=(seen["files"].get(PATH) or {}).get("sha256") != target.program_sha256,
        engine=target.plan.environment is not None and seen["engine"] is None,
        weights=weights,
        staged=tuple(file for file in target.release.files if _differs(file, seen)),
        settings=() if waiting else settings,
        key=key and not waiting,
        link=link and not waiting,
        start=_start(seen["unit"]["ActiveState"] if serving else "", bool(settings or key or link), restart),
        waiting=waiting,
    )


def unseen() -> Changes:
    """Return what a host gets that could not be looked at: nothing."""
    return Changes(
        refusal="could not be looked at",
        user=False,
        directories=(),
        packages=(),
        program=False,
        engine=False,
        weights="",
        staged=(),
        settings=(),
        key=False,
        link=False,
        start="",
        waiting=None,
    )


def diff(file: File, seen: Mapping[str, Any]) -> str:
    """Return a unified diff from what lies on the host to what will."""
    there = seen["files"].get(file.path)
    old = (there or {}).get("text") or ""
    if there and there.get("text") is None:
        return f"{file.path}: changes (not shown)\n"
    lines = difflib.unified_diff(
        old.splitlines(keepends=True),
        file.text.splitlines(keepends=True),
        file.path if there else "/dev/null",
        file.path,
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _start(state: str, changed: bool, restart: bool) -> Literal["", "start", "restart", "wait"]:
    if not state:
        return "start"
    if restart and changed:
        return "restart"
    return "" if state == "active" else "wait"


def _differs(file: File, seen: Mapping[str, Any]) -> bool:
    there = seen["files"].get(file.path)
    return there is None or there["sha256"] != file.sha256 or there["mode"] != file.mode


def _is(row: tuple[str, str, str], seen: Mapping[str, Any]) -> bool:
    path, owner, mode = row
    there = seen["directories"].get(path)
    return there is not None and there["mode"] == mode and (there["owner"] == 0) == (owner == "root")


def _missing_packages(target: Target, seen: Mapping[str, Any]) -> tuple[str, ...]:
    names = [name for name in target.libraries if not seen["libraries"].get(name)]
    names += [name for name, there in seen["programs"].items() if not there]
    return tuple(_PACKAGES[name] for name in names)


def _weights(target: Target, seen: Mapping[str, Any]) -> Literal["", "place", "fetch", "check"]:
    if seen["weights"]["status"] == "verified":
        return ""
    if target.plan.checkpoint is None:
        return "check"
    return "place" if target.plan.deployment.model.repo is None else "fetch"


def _waiting(target: Target, seen: Mapping[str, Any]) -> str:
    current = (seen["links"].get(target.link) or "none").rpartition("/")[2]
    what = f"release {current}" if current != target.release.id else f"release {current} with other settings"
    return f"{what} serves; `heavylift apply --restart` changes one host after the other"


def _refusal(target: Target, seen: Mapping[str, Any]) -> str | None:
    """Return why this host cannot carry the release at all, and what to do about it."""
    system, plan = seen["system"], target.plan
    if not system["systemd"]:
        return "systemd is not running there; heavylift runs engines as systemd units"
    if system["architecture"] not in {"x86_64", "aarch64"}:
        return f"its processor is {system['architecture']}; vLLM is built for x86_64 and aarch64"
    if plan.device == "cuda" and not seen["gpus"]:
        return "nvidia-smi shows no GPU; install the driver, or write `devices: cpu` under engine"
    if seen["unit"]["ActiveState"] not in _UP and system["shared_memory_free"] < _SHARED_MEMORY:
        free = system["shared_memory_free"] >> 20
        return f"/dev/shm has {free} MiB free, vLLM needs 160; `mount -o remount,size=1g /dev/shm`"  # noqa: S108
    engines = seen["directories"].get("/opt/heavylift/engines")
    if plan.environment and seen["engine"] is None and engines and engines["readonly"]:
        name = plan.environment.name
        return f"engine {name} is not there and /opt/heavylift/engines is read-only; `heavylift up` builds it"
    return _port_taken(target, seen)


def _port_taken(target: Target, seen: Mapping[str, Any]) -> str | None:
    listener = seen["listener"]
    if listener is None or listener["unit"] == target.plan.unit:
        return None
    who = f"process {listener['pid']} ({listener['command'] or 'unknown'})"
    return f"port {target.plan.deployment.access.port} is taken by {who}; stop it, or choose another access.port"
