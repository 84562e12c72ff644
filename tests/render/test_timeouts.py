"""Every time limit follows from the longest request, in one order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.plan.timeouts import timeouts
from heavylift.spec import Deployment


def deployment(hosts=None, **limits):
    """Return a deployment with these limits."""
    hosts = hosts or {"from": "lab"}
    return Deployment.model_validate({"name": "a", "model": {"path": "m"}, "hosts": hosts, "limits": limits})


@given(st.integers(1, 86_400))
def test_the_order_holds_for_every_request(request_s):
    """Request ≤ drain < engine < container < systemd, each with time to act in between."""
    found = timeouts(deployment(request_s=request_s), 0)
    assert request_s <= found.drain_s < found.shutdown_s < found.container_s < found.stop_s
    assert found.stop_s <= request_s + 60


@pytest.mark.parametrize(
    ("hosts", "size", "start_s"),
    [
        ({"from": "lab"}, 0, 600),
        ({"from": "lab"}, 30_000_000, 601),
        ({"from": "stack", "kind": "k", "region": "r"}, 689_000_000_000, 2400 + 3445),
        ({"from": "stack", "kind": "k", "region": "r"}, None, 2400 + 4000),
    ],
)
def test_a_start_takes_bytes_and_warm_up(hosts, size, start_s):
    """Assumed disk rate and warm-up, until a host was measured; a size that nobody knows is a large one."""
    assert timeouts(deployment(hosts), size).start_s == start_s


def test_the_files_own_limit_wins():
    """Who knows better says so."""
    assert timeouts(deployment(start_s=77), 10**12).start_s == 77
