"""For all tests: no connection leaves this machine, but in tests of the lab, whose hosts have addresses."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ready() -> None:
    """Skip where the lab cannot run (fail where CI says that it must); have the base image built otherwise."""
    from heavylift.lab import Lab

    lab = Lab("test")
    if lacking := lab.why_not():
        refuse = pytest.fail if os.environ.get("HEAVYLIFT_LAB_REQUIRED") else pytest.skip
        refuse(f"no lab: {lacking}")
    lab.build_base()


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that is not to loopback or a UNIX socket."""
    if request.node.get_closest_marker("lab"):
        return

    def guarded(name: str) -> Any:
        real = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any, *rest: Any) -> Any:
            host = address[0] if isinstance(address, tuple) else ""
            if host and not host.startswith("127.") and host not in {"localhost", "::1"}:
                raise RuntimeError(f"a test without the lab wants to reach {address}")
            return real(self, address, *rest)

        return connect

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guarded(name))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what is rendered as what is expected; the difference is then git's to show."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/render/cases/*/expected")
