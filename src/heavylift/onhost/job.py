"""Long work as a transient unit: a lost connection does not cut it, and whoever comes next joins it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from .caller import stay
from .decisive import shorten
from .unit import journal, show


def main(query: dict[str, Any]) -> dict[str, Any]:
    """Run the shell script `script` as `unit`, or join it where it runs; wait for its end, `timeout_s` at most."""
    unit, began = query["unit"], time.monotonic()
    if show(unit)["ActiveState"] not in {"active", "activating"}:
        subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
        command = ["systemd-run", "--quiet", f"--unit={unit}", "--property=RemainAfterExit=yes", "sh", query["script"]]
        started = subprocess.run(command, capture_output=True, text=True, check=False)
        if started.returncode != 0:
            raise RuntimeError(f"systemd-run: {started.stderr.strip()}")
    while True:
        stay()
        seen = show(unit)
        if seen["ActiveState"] == "failed" or seen["SubState"] in {"exited", "dead", "failed"}:
            break
        if time.monotonic() - began > query["timeout_s"]:
            raise RuntimeError(
                f"{unit} is still at work after {query['timeout_s']} s; it goes on, run the same command again"
            )
        time.sleep(0.5)
    lines = [line for line in journal(unit, seen["InvocationID"], 200) if line.strip()]
    subprocess.run(["systemctl", "stop", unit], capture_output=True, check=False)
    subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
    if seen["ActiveState"] == "failed" or seen.get("ExecMainStatus") not in {"0", None}:
        said = [line for line in lines if line.startswith("heavylift: ")] or lines[-1:] or ["no output"]
        raise RuntimeError(shorten(said[-1].removeprefix("heavylift: ")))
    Path(query["script"]).unlink(missing_ok=True)
    return {"seconds": round(time.monotonic() - began, 1), "last": lines[-1] if lines else ""}
