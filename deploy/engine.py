"""The engine environment: installed once into a versioned folder, never changed afterwards."""

from __future__ import annotations

import io

from pyinfra.api import deploy
from pyinfra.api.command import FileUploadCommand

from deploy.step import Command, changes, on_host, perform, target
from heavylift.render import install_script

__all__ = ["install"]

INSTALL_S = 3600


@deploy("Engine")
def install() -> None:
    """Lay the environment out as a unit of its own, so that a lost connection does not cut it."""
    environment = target().plan.environment
    commands: list[Command] = []
    if changes().engine and environment is not None:
        script = f"/opt/heavylift/bin/install-{environment.name}.sh"
        job = on_host(
            "job", unit=f"heavylift-engine-{environment.name}.service", script=script, timeout_s=INSTALL_S - 60
        )
        commands = [FileUploadCommand(io.StringIO(install_script(environment)), script), job]
    perform(
        name="Install the engine environment",
        commands=commands,
        reason=f"{target().plan.engine_directory} stands",
        _timeout=INSTALL_S,
    )
