"""The lab: real Debian 12 hosts on this machine, with own address, sshd and systemd, for trying and testing.

Each host is a systemd-nspawn container over one base image. It needs root on Linux; `Lab.why_not` says what lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heavylift.lab.lab import HostStatus, Lab

__all__ = ["HostStatus", "Lab"]


def __getattr__(name: str) -> object:
    """Import late: the proxy is a process of its own in this package and needs none of the rest."""
    if name in __all__:
        from heavylift.lab import lab

        value: object = getattr(lab, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
