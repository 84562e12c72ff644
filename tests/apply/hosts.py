"""Hosts as a look shows them, for two deployments: fresh, done, and everything that can stand between."""

from __future__ import annotations

import copy

from heavylift.apply import Target
from heavylift.render import render
from tests.render.cases import inventory, load_case, planned

__all__ = ["done", "fresh", "target"]

RUNNING = {"ActiveState": "active", "SubState": "running", "Result": "success", "MainPID": "7", "NRestarts": "0"}
NOT_THERE = {"ActiveState": "inactive", "SubState": "dead", "Result": "success", "MainPID": "0", "NRestarts": "0"}
SYSTEM = {
    "distribution": "debian",
    "release": "12",
    "architecture": "x86_64",
    "python": "3.11.2",
    "root": True,
    "systemd": True,
    "cpu": "AuthenticAMD",
    "cores": 2,
    "memory": 24 << 30,
    "shared_memory_free": 8 << 30,
    "free": {"/": 100 << 30, "/opt": 100 << 30, "/srv": 100 << 30, "/var": 100 << 30},
    "boot": "1",
}


def target(case="lab", slot=0):
    """Return what is wanted on the first host of a golden case."""
    plan = planned(load_case(case))
    host = inventory(plan.deployment).hosts[0]
    return Target(plan, render(plan), host, slot, "d" * 64 if plan.deployment.access.key else None)


def fresh(wanted):
    """Return a machine as it comes: nothing of heavylift is there."""
    query = wanted.query
    return {
        "system": copy.deepcopy(SYSTEM),
        "user": False,
        "files": dict.fromkeys(query["files"]),
        "links": dict.fromkeys(query["links"]),
        "directories": dict.fromkeys(query["directories"]),
        "programs": dict.fromkeys(query["programs"], False),
        "libraries": dict.fromkeys(query["libraries"], False),
        "unit": dict(NOT_THERE),
        "listener": None,
        "weights": {"status": "absent", "files": []},
        "engine": None,
        "gpus": ["NVIDIA H200"] * 8 if wanted.plan.device == "cuda" else [],
    }


def done(wanted):
    """Return a host after a whole apply: all is as wanted, and the engine serves."""
    seen = fresh(wanted)
    files = [*wanted.release.files, *wanted.host_files, wanted.unit_file]
    seen["files"] = {
        file.path: {"sha256": file.sha256, "mode": file.mode, "owner": 0, "text": file.text} for file in files
    }
    program = wanted.query["files"][wanted.query["files"].index("/opt/heavylift/bin/heavylift-host")]
    seen["files"][program] = {"sha256": wanted.program_sha256, "mode": "755", "owner": 0, "text": None}
    key = wanted.key_sha256
    seen["files"][wanted.key_path] = {"sha256": key, "mode": "600", "owner": 0, "text": None} if key else None
    seen["user"] = True
    seen["links"] = {wanted.link: f"releases/{wanted.release.id}"}
    for path, owner, mode in wanted.directories:
        seen["directories"][path] = {"mode": mode, "owner": 0 if owner == "root" else 999, "readonly": False}
    seen["directories"]["/opt/heavylift/engines"] = {"mode": "755", "owner": 0, "readonly": False}
    seen["programs"] = dict.fromkeys(seen["programs"], True)
    seen["libraries"] = dict.fromkeys(seen["libraries"], True)
    seen["unit"] = dict(RUNNING)
    seen["listener"] = {"pid": 7, "command": "vllm serve", "unit": wanted.plan.unit}
    seen["weights"] = {"status": "verified", "files": []}
    seen["engine"] = {"engine": wanted.plan.deployment.engine.version}
    return seen
