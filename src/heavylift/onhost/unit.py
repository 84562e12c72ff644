"""Start and stop a systemd unit, wait until it is what it should be, and say why where it is not."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from .caller import stay
from .decisive import decisive, shorten

PROPERTIES = "ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,InvocationID"


def start_main(query: dict[str, Any]) -> dict[str, Any]:
    """Start `unit` (`mode`: start, restart, or only wait) and wait until it is active, `timeout_s` at most.

    A unit whose start failed is stopped, so that it does not go on failing until somebody looks.
    """
    unit, limit, began = query["unit"], float(query["timeout_s"]), time.monotonic()
    if query["mode"] != "wait":
        _systemctl("reset-failed", unit, check=False)
        _systemctl("daemon-reload")
        _systemctl("enable", "--quiet", unit)
        _systemctl(query["mode"], "--no-block", unit)
        time.sleep(0.1)
    while True:
        stay()
        seen = show(unit)
        if seen["ActiveState"] == "active":
            return {"state": "active", "seconds": round(time.monotonic() - began, 2)}
        failed = seen["ActiveState"] == "failed" or seen["SubState"] == "auto-restart"
        if failed or time.monotonic() - began > limit:
            lines = journal(unit, seen["InvocationID"])
            _systemctl("stop", unit, check=False)
            why = reason(seen, lines) if failed else f"{unit} is not up after {limit:g} s; last line: {_last(lines)}"
            raise RuntimeError(why)
        time.sleep(0.25)


def stop_main(query: dict[str, Any]) -> dict[str, Any]:
    """Stop `unit` and wait for its end; a unit that does not exist is stopped already."""
    began = time.monotonic()
    _systemctl("stop", query["unit"], check=False)
    if query.get("disable"):
        _systemctl("disable", "--quiet", query["unit"], check=False)
    state = show(query["unit"])["ActiveState"]
    if state not in {"inactive", "failed"}:
        raise RuntimeError(f"{query['unit']} is still {state} after systemctl stop")
    return {"state": state, "seconds": round(time.monotonic() - began, 2)}


def show(unit: str) -> dict[str, str]:
    """Return the properties that tell where a unit stands."""
    output = subprocess.run(["systemctl", "show", unit, "-p", PROPERTIES], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)


def journal(unit: str, invocation: str, lines: int = 600) -> list[str]:
    """Return the last lines that one run of a unit wrote, oldest first."""
    match = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else ["-u", unit]
    command = ["journalctl", "-o", "cat", "-q", "--no-pager", "-n", str(lines), *match]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()


def reason(seen: dict[str, str], lines: list[str]) -> str:
    """Return one line: the engine's own decisive line with advice, or how its process ended."""
    found = decisive(lines)
    if found is not None:
        return f"the engine did not start: {found.line}" + (f" ({found.advice})" if found.advice else "")
    ended = {"1": "status", "2": "signal", "3": "signal"}.get(seen.get("ExecMainCode", ""), "status")
    return f"the engine did not start: ended with {ended} {seen.get('ExecMainStatus', '?')}; last line: {_last(lines)}"


def _last(lines: list[str]) -> str:
    spoken = [line.strip() for line in lines if line.strip()]
    return shorten(spoken[-1]) if spoken else "none"


def _systemctl(*words: str, check: bool = True) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"systemctl {' '.join(words)}: {done.stderr.strip() or done.returncode}")
