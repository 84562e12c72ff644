"""The host itself: service user, folders, packages, and the program that runs there."""

from __future__ import annotations

import io
import shlex

from pyinfra.api import deploy
from pyinfra.api.command import FileUploadCommand, StringCommand

from deploy.step import Command, changes, perform
from heavylift.fleet.onhost import PATH, application
from heavylift.render.release import USER

__all__ = ["prepare"]

PACKAGES_S = 900


@deploy("Host")
def prepare() -> None:
    """Make the service user, the folders and the program; install what is missing."""
    needed = changes()
    refusal = (
        [StringCommand(f"echo {shlex.quote('heavylift: ' + needed.refusal)} >&2; exit 1")] if needed.refusal else []
    )
    perform(name="Check what the host can carry", commands=refusal, reason="it can carry the release")
    perform(
        name="Install packages",
        commands=[_install(needed.packages)] if needed.packages else [],
        reason="nothing is missing",
        _timeout=PACKAGES_S,
    )
    perform(name="Make the service user", commands=[_user()] if needed.user else [], reason=f"{USER} exists")
    perform(
        name="Make folders",
        commands=[StringCommand(" && ".join(_folder(*row) for row in needed.directories))]
        if needed.directories
        else [],
        reason="all are there",
    )
    perform(name="Place heavylift-host", commands=_program() if needed.program else [], reason="it is there")


def _install(packages: tuple[str, ...]) -> StringCommand:
    names = " ".join(packages)
    return StringCommand(
        "command -v apt-get >/dev/null || { echo 'heavylift: no apt-get here; install "
        f"{names} by hand' >&2; exit 1; }}; export DEBIAN_FRONTEND=noninteractive; "
        f"timeout -k 5 {PACKAGES_S - 20} sh -c "
        f"'apt-get install -qq -y --no-install-recommends {names} >/dev/null 2>&1 || "
        f"{{ apt-get update -qq && apt-get install -qq -y --no-install-recommends {names} >/dev/null; }}' "
        f"|| {{ echo 'heavylift: apt-get could not install {names}' >&2; exit 1; }}"
    )


def _user() -> StringCommand:
    home = "/var/lib/heavylift"
    return StringCommand(f"useradd --system --home-dir {home} --shell /usr/sbin/nologin --user-group {USER}")


def _folder(path: str, owner: str, mode: str) -> str:
    return f"install -d -o {owner} -g {owner} -m {mode} {shlex.quote(path)}"


def _program() -> list[Command]:
    beside = f"{PATH}.new"
    return [
        FileUploadCommand(io.BytesIO(application()), beside),
        StringCommand(f"chown root:root {beside} && chmod 755 {beside} && sync {beside} && mv {beside} {PATH}"),
    ]
