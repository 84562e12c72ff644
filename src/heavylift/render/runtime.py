"""The runtimes that a replica can have: which templates make up its unit and its command."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RUNTIMES", "Runtime"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to run an engine. `files` are (template, name, mode) in the release; one is the unit `*.service`."""

    name: str
    files: tuple[tuple[str, str, str], ...]


SYSTEMD = Runtime(
    "systemd",
    (
        ("engine/engine.service.j2", "engine.service", "644"),
        ("engine/engine.env.j2", "engine.env", "644"),
        ("engine/serve.j2", "serve", "755"),
    ),
)

RUNTIMES = {SYSTEMD.name: SYSTEMD}
