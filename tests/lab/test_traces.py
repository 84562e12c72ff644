"""What a lab leaves on the machine: nothing, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heavylift.errors import LabError
from heavylift.lab import Lab
from heavylift.lab.mounts import mounts_below

pytestmark = pytest.mark.lab

Picture = Callable[[Path], dict[str, list[str]]]
# Stops at the first host that answers, so that what disturbs it always comes in the middle.
UP = """
import signal
import time
from heavylift.lab import Lab

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored

def line(text):
    print(text, flush=True)
    time.sleep(60)

Lab("test-traces").up(4, on_line=line)
"""


@pytest.fixture
def traces(ready: None) -> Iterator[Lab]:
    """Give a lab of its own, which does not run yet and is cleared in any case."""
    lab = Lab("test-traces")
    lab.down()
    yield lab
    lab.down()


def _start() -> subprocess.Popen[str]:
    """Start four hosts from another process, and return when the first of them answers."""
    process = subprocess.Popen([sys.executable, "-c", UP], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert "answers" in process.stdout.readline()
    return process


def test_down_leaves_nothing(traces: Lab, picture: Picture) -> None:
    """After hosts that rebooted, hung, were cut and were ended, the machine is as it was."""
    before = picture(traces.folder)
    traces.up(3)
    assert picture(traces.folder) != before
    traces.pause("h1")
    traces.cut("h2")
    traces.power_off("h3")
    traces.down()
    assert picture(traces.folder) == before
    assert traces.status() == ()


def test_down_without_a_lab_is_no_error(traces: Lab, picture: Picture) -> None:
    """It can be called at any time."""
    before = picture(traces.folder)
    traces.down()
    assert picture(traces.folder) == before


def test_a_killed_up_is_cleared_by_down(traces: Lab, picture: Picture) -> None:
    """Killed half-way, `up` leaves hosts behind, and `down` takes every trace away."""
    before = picture(traces.folder)
    with _start() as process:
        process.kill()
    assert mounts_below(traces.folder) != ()
    traces.down()
    assert picture(traces.folder) == before


def test_a_killed_up_is_completed_by_up(traces: Lab) -> None:
    """The next `up` brings the same lab to what was asked for."""
    with _start() as process:
        process.kill()
    assert [host.name for host in traces.up(4).hosts] == ["h1", "h2", "h3", "h4"]
    assert [host.state for host in traces.status()] == ["on"] * 4


def test_an_interrupted_up_takes_back_what_it_made(traces: Lab, picture: Picture) -> None:
    """Ctrl-C in mid-`up` needs no `down`."""
    before = picture(traces.folder)
    with _start() as process:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode != 0
    assert picture(traces.folder) == before


def test_a_failed_enlargement_keeps_the_hosts_that_ran(traces: Lab) -> None:
    """A new host that cannot start is taken away, the old one is not touched."""
    first = traces.up(1)
    with pytest.raises(LabError, match=r"^h2: ended while it booted: .*/no/such/device"):
        traces.up(2, bind=["/no/such/device"])
    assert traces.inventory() == first
    assert [(host.name, host.state) for host in traces.status()] == [("h1", "on")]


def test_two_labs_do_not_meet(traces: Lab, lab: Lab) -> None:
    """Labs side by side have different addresses, and the end of one leaves the other alone."""
    other = traces.up(1).hosts[0]
    assert other.address not in {host.address for host in lab.inventory().hosts}
    traces.down()
    assert [host.state for host in lab.status()] == ["on", "on"]


def test_a_failed_script_leaves_nothing(traces: Lab, picture: Picture) -> None:
    """A script that fails in the base image is quoted by its last line, and its overlay is gone."""
    before = picture(traces.folder)
    with pytest.raises(
        LabError, match=r"^the script in the base image ended with 3: out of luck \(log: .*workshop.log\)$"
    ):
        traces.run_in_base("echo out of luck >&2; exit 3")
    assert picture(traces.folder) == before


def test_an_engine_without_its_mark_is_an_error(traces: Lab) -> None:
    """A script that ends well but does not finish the engine is not believed."""
    with pytest.raises(LabError, match=r"^engine probe: its script ended well but wrote no .*probe/engine\.json$"):
        traces.build_engine("probe", "true")


def test_hosts_that_are_not_there(traces: Lab) -> None:
    """Names are checked before anything is done."""
    with pytest.raises(LabError, match="lab 'test-traces' does not run"):
        traces.pause("h1")
    traces.up(1)
    with pytest.raises(LabError, match="lab 'test-traces' has no host 'h9', it has h1"):
        traces.down(["h1", "h9"])
    traces.power_off("h1")
    with pytest.raises(LabError, match="h1: is off\n\nhint: `heavylift lab up` switches it on"):
        traces.pause("h1")


@pytest.mark.long
def test_sixteen_hosts_within_five_seconds(traces: Lab) -> None:
    """A further host costs a fraction of a second."""
    began = time.monotonic()
    traces.up(16)
    assert time.monotonic() - began <= 5.0
