"""Things that happen to hosts, done to one on purpose."""

from __future__ import annotations

from heavylift.errors import LabError
from heavylift.lab.host import LabHost

__all__ = ["cut", "heal", "pause", "power_off", "resume", "state"]


def pause(host: LabHost) -> None:
    """Hang it: no process moves, while its kernel still acknowledges what peers send."""
    _must_run(host)
    host.cgroup.freeze(frozen=True)


def resume(host: LabHost) -> None:
    """Let a hung host go on."""
    _must_run(host)
    host.cgroup.freeze(frozen=False)


def cut(host: LabHost) -> None:
    """Pull its network cable; to its peers this also looks like a loss of power."""
    host.network.set_cable(host.name, plugged=False)


def heal(host: LabHost) -> None:
    """Plug its cable in again."""
    host.network.set_cable(host.name, plugged=True)


def power_off(host: LabHost) -> None:
    """End it in one blow, frozen or not; its disk stays. Peers see their connections reset."""
    host.cgroup.remove()


def state(host: LabHost) -> str:
    """Say how it is: `on`, `paused`, `cut` or `off`."""
    if not host.is_on:
        return "off"
    if host.cgroup.is_frozen:
        return "paused"
    return "cut" if host.network.is_cut(host.name) else "on"


def _must_run(host: LabHost) -> None:
    if not host.is_on:
        raise LabError(f"{host.name}: is off", hint="`heavylift lab up` switches it on")
