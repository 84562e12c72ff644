"""How one replica does: its unit, its release, what it generates and how full its cache is."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

SHOWN = "ActiveState,SubState,ActiveEnterTimestampMonotonic,NRestarts,MainPID"
TOKENS, CACHE = "vllm:generation_tokens_total", "vllm:kv_cache_usage_perc"
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"


def main(query: dict[str, Any]) -> dict[str, Any]:
    """Return state, release, seconds up, and two scrapes' worth of rates; `seconds` apart."""
    shown = subprocess.run(
        ["systemctl", "show", query["unit"], "-p", SHOWN], capture_output=True, text=True, check=False
    )
    unit = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    state = unit.get("ActiveState", "unknown")
    since = float(unit.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    link = f"{query['home']}/current"
    return {
        "state": state,
        "detail": unit.get("SubState", ""),
        "restarts": int(unit.get("NRestarts") or 0),
        "up_s": round(time.clock_gettime(time.CLOCK_MONOTONIC) - since, 1) if state == "active" and since else None,
        "release": os.path.basename(os.readlink(link)) if os.path.islink(link) else None,
        "gate": _json(Path(query["record"])),
        **(_rates(query) if state == "active" else {}),
    }


def _rates(query: dict[str, Any]) -> dict[str, Any]:
    try:
        first, began = scrape(query["address"], query["port"]), time.monotonic()
        time.sleep(query.get("seconds", 1.0))
        second, elapsed = scrape(query["address"], query["port"]), time.monotonic() - began
    except OSError as error:
        return {"error": f"/metrics: {error}"}
    return {
        "tokens_per_s": round((second.get(TOKENS, 0.0) - first.get(TOKENS, 0.0)) / elapsed, 1),
        "kv_cache_use": round(second.get(CACHE, 0.0), 4),
        "running": int(second.get(RUNNING, 0)),
        "waiting": int(second.get(WAITING, 0)),
    }


def scrape(address: str, port: int) -> dict[str, float]:
    """Return the sum of each wanted series over all engines behind the port (the mean for the cache's use)."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    finally:
        connection.close()
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in (TOKENS, CACHE, RUNNING, WAITING):
            found.setdefault(name, []).append(float(line.rpartition(" ")[2]))
    return {name: sum(rows) / (len(rows) if name == CACHE else 1) for name, rows in found.items()}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
