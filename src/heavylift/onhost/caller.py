"""Whether anybody still waits for this command's answer: sshd closes our standard output when the connection ends."""

from __future__ import annotations

import select

__all__ = ["CallerGoneError", "stay"]


class CallerGoneError(RuntimeError):
    """The operator's end is gone: what can be left undone is left to whoever comes next."""


def stay() -> None:
    """Return while the caller is there; raise when nobody can read the answer any more."""
    poll = select.poll()
    poll.register(1, 0)  # POLLERR and POLLHUP are always reported
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise CallerGoneError("the connection to the operator ended")
