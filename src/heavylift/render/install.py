"""The script that lays an engine environment out on a host, the same on a real host and for the lab."""

from __future__ import annotations

import re

from heavylift.catalog.environment import EngineEnvironment, installer
from heavylift.render.template import fill

__all__ = ["install_script"]

FREE_BYTES = {"cpu": 8 << 30, "cuda": 20 << 30}


def install_script(environment: EngineEnvironment) -> str:
    """Return a POSIX shell script that makes `/opt/heavylift/engines/<name>/` once and whole, as root."""
    uv = installer()
    found = re.search(r"^uv==([\w.]+)", uv, re.MULTILINE)
    assert found is not None
    context = {
        "name": environment.name,
        "version": environment.version,
        "device": environment.device,
        "torch_version": environment.torch_version,
        "torch": environment.torch,
        "rest": environment.rest,
        "uv": uv,
        "uv_version": found[1],
        "free_kib": FREE_BYTES[environment.device] // 1024,
    }
    return fill("engine/install.j2", context)
