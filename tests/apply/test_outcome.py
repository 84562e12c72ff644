"""The log lines of a run → one line a host: whose words win, what a silent end means, what an abort leaves open."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.apply.pyinfra import _outcome, _Reader
from heavylift.fleet.inventory import Host

HOST = Host("h1", "10.0.0.1", "10.0.0.1")
LOG = Path("run.log")
SILENT = (
    "h1 (root@10.0.0.1:22): `Service | Start the engine` ended without a word: "
    "the connection was lost, or its program there was killed"
)
START = "--> Starting operation: Service | Start the engine "


@pytest.mark.parametrize(
    ("lines", "status", "says"),
    [
        (
            [START, "    [h1] heavylift: port 8000 is taken", "    [h1] Error: executed 0 commands"],
            1,
            "h1: port 8000 is taken",
        ),
        (
            [START, "    [h1] sh: not found", "    [h1] Error: executed 0 commands"],
            1,
            "h1: Service | Start the engine: sh: not found",
        ),
        (
            [START, "    [h1] Error: executed 0 commands", "--> pyinfra error: No hosts remaining!"],
            1,
            SILENT,
        ),
        ([START], 1, "h1: the run stopped at `Service | Start the engine`; its state is unknown"),
        ([START], 124, "h1: no end in time at `Service | Start the engine`; its state is unknown"),
        (
            ["    [h1] Authentication error (username=root) (Authentication failed.)"],
            1,
            "h1 (root@10.0.0.1:22): it refuses our key",
        ),
        (
            ["    [h1] heavylift: said in an earlier step", "    [h1] Success", START, "    [h1] Error"],
            1,
            SILENT,
        ),
    ],
    ids=["own words", "last output", "silent", "aborted", "out of time", "not connected", "earlier step"],
)
def test_a_failed_host_is_one_line(lines: list[str], status: int, says: str) -> None:
    """A run that ended without a document: what is known of the host comes from what it said in its last step."""
    reader = _Reader(lambda _: None)
    for line in lines:
        reader.read(line)
    assert _outcome(None, status, [HOST], reader, LOG).failed["h1"].message == says


def test_exit_0_alone_proves_nothing() -> None:
    """Without a document, or without the host in it, the host's state is unknown."""
    reader = _Reader(lambda _: None)
    operation = {"names": ["Service | Gate"], "success": ["h2"], "error": [], "no_change": []}
    for document in (None, {"results": {"operations": [operation], "failed_hosts": []}}):
        message = _outcome(document, 0, [HOST], reader, LOG).failed["h1"].message
        assert message == "h1: the run stopped at `connecting`; its state is unknown"
