"""An apply that is ended in the middle, or started twice: nothing of it is left, and the next one finishes.

The engine is the stand-in of `stub_vllm.py`: it is not the engine that fails here.
"""

from __future__ import annotations

import functools
import re
import signal
import time
from pathlib import Path

import pytest

from .support import FIRST, RUNS_S, Site, copied, enlarge, finish, hold, let_go, serves, until, verdicts

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_apply_that_is_ended_while_engines_start(site: Site, number: signal.Signals) -> None:
    """Nothing of it is left here or there, the lock is free at once, and the next apply finishes."""
    hold(site, "h1", "h2")
    process = site.begin("apply")
    until(lambda: "Service | Start" in site.said)
    until(lambda: "heavylift-host start" in site.on("h2", "pgrep -af heavylift-host", check=False))
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(6) == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        line = "interrupted; what was begun can be continued: run the same command again"
        assert site.said.splitlines()[-1] == line
    for host in ("h1", "h2"):
        until(functools.partial(_free, site, host), within_s=2)
        until(functools.partial(_quiet, site, host), within_s=2)
    until(lambda: not _ours(site), within_s=2)
    print("gone after", round(time.monotonic() - began, 2))
    let_go(site, "h1", "h2")
    _repaired_after_start(site)


def test_an_apply_that_is_interrupted_while_weights_are_copied(site: Site) -> None:
    """The copying ends too, and the next apply goes on where it stopped."""
    enlarge(site, 400)
    process = site.begin("apply")
    until(lambda: min(copied(site, "h1"), copied(site, "h2")) > 100 << 20)
    process.send_signal(signal.SIGINT)
    assert process.wait(6) == 130
    until(lambda: not _ours(site), within_s=2)
    until(lambda: not site.on("h2", "pgrep -a rsync", check=False), within_s=2)
    kept = list(site.tree("h2").glob("srv/models/*/*.partial/.rsync-partial/*extra*"))
    assert [file.stat().st_size > 100 << 20 for file in kept] == [True]
    before = _received(site)
    again = site.heavylift("apply", within_s=RUNS_S + 15)
    assert again.returncode == 0
    assert _received(site) - before < 320 << 20
    assert serves(site, "h1", "h2")


def test_the_same_apply_twice_at_the_same_time(site: Site) -> None:
    """The second says who is at work and ends; the first is unharmed."""
    hold(site, "h1", "h2")
    first = site.begin("apply")
    until(lambda: "Service | Start" in site.said)
    second = site.heavylift("apply", within_s=15)
    owner = rf"root@\S+ \(process {first.pid}\) \(since [0-9:]+ UTC\)"
    for host, line in zip(("h1", "h2"), verdicts(second), strict=True):
        assert re.fullmatch(rf"error: {host}: {owner} is at work on this host; wait until that has ended", line)
    assert second.returncode == 1
    let_go(site, "h1", "h2")
    assert finish(first, within_s=15) == 0
    assert site.said.splitlines()[-2:] == [f"h1: {FIRST}", f"h2: {FIRST}"]


def _free(site: Site, host: str) -> bool:
    return site.on(host, "flock -n /run/lock/heavylift-tiny.lock echo free", check=False) == "free"


def _quiet(site: Site, host: str) -> bool:
    return "heavylift-host start" not in site.on(host, "pgrep -af heavylift-host", check=False)


def _ours(site: Site) -> list[str]:
    """List what works on the site on this machine: pyinfra by its folder, rsync by its arguments."""
    return [path.name for path in Path("/proc").glob("[0-9]*") if str(site.folder) in _tells(path)]


def _tells(process: Path) -> str:
    try:
        words = (process / "cmdline").read_text(errors="replace")
        if words.endswith("[mux]") or words.startswith("ssh: "):
            return ""  # a connection that is kept for a minute
        return words + str((process / "cwd").readlink())
    except OSError:
        return ""


def _received(site: Site) -> int:
    """Bytes that went to h2 over its cable."""
    host = site.lab._host("h2")
    return int(Path("/sys/class/net", host.network.link("h2"), "statistics/tx_bytes").read_text())


def _repaired_after_start(site: Site) -> None:
    """Let the next apply finish; the engines were starting by themselves, so nothing may be left to do."""
    again = site.heavylift("apply", within_s=RUNS_S)
    assert again.returncode == 0
    assert serves(site, "h1", "h2")
    assert verdicts(site.heavylift("apply")) == ["h1: nothing to change", "h2: nothing to change"]
