"""`heavylift up` on prepared hosts until both have streamed a token, beside the same engines started by hand together.

By hand: the very `serve` script of the release, started on every host at once over SSH as a transient unit with the
same user and environment files; then a client asks each for one streamed token. Both ways run in turn, pass by pass.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from heavylift.fleet import ssh
from heavylift.fleet.inventory import Host
from heavylift.lab import Lab
from heavylift.workspace import Workspace

HEAVYLIFT = [sys.executable, "-m", "heavylift"]
LAB = "bench"


def main() -> None:
    """Prepare once, then measure both ways in turn and print their ratio for each pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=3)
    passes = parser.parse_args().passes
    os.environ["HEAVYLIFT_LAB"] = LAB
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for words in (["init", "--lab"], ["lab", "model", "model"], ["up"], ["down"]):
            heavylift(words, folder)
        work = Workspace.open(folder / "deployment.yaml")
        try:
            for number in range(passes):
                ours, hand = by_heavylift(work, folder), by_hand(work)
                row = {"pass": number + 1, "heavylift_s": round(ours, 1), "by_hand_s": round(hand, 1)}
                print(json.dumps({**row, "ratio": round(ours / hand, 2)}), flush=True)
        finally:
            Lab(LAB).down()


def by_heavylift(work: Workspace, folder: Path) -> float:
    """Return the seconds of `heavylift up`, which returns once every replica has streamed through the gate."""
    began = time.perf_counter()
    heavylift(["up"], folder)
    seconds = time.perf_counter() - began
    first_tokens(work)
    heavylift(["down"], folder)
    return seconds


def by_hand(work: Workspace) -> float:
    """Return the seconds from starting both engines by hand to the first streamed token of both."""
    plan, hosts = work.plan, work.inventory.hosts
    command = (
        f"systemd-run -q --unit by-hand -p User=heavylift -p EnvironmentFile={plan.home}/current/engine.env "
        f"-p EnvironmentFile={plan.secrets}/host.env -p PrivateTmp=yes {plan.home}/current/serve"
    )
    began = time.perf_counter()
    on_each(work, hosts, command)
    first_tokens(work)
    seconds = time.perf_counter() - began
    on_each(work, hosts, "systemctl stop by-hand")
    return seconds


def on_each(work: Workspace, hosts: Iterable[Host], command: str) -> None:
    """Run a command on all hosts at once; the benchmark ends where one fails."""
    for result in ssh.each(hosts, lambda host: ssh.run(host, work.known_hosts, command)).values():
        if isinstance(result, Exception) or result.returncode != 0:
            raise SystemExit(f"{command}: {result}")


def first_tokens(work: Workspace) -> None:
    """Return once every replica has streamed a token."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: first_token(host.private_address, work), work.inventory.hosts))


def first_token(address: str, work: Workspace) -> None:
    """Poll until the engine listens, then stream one token."""
    body = {"model": work.deployment.served_name, "prompt": "Hello", "max_tokens": 1, "stream": True}
    while True:
        try:
            connection = http.client.HTTPConnection(address, work.deployment.access.port, timeout=60)
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            if connection.getresponse().readline().startswith(b"data: {"):
                return
        except OSError:
            time.sleep(0.1)


def heavylift(words: list[str], folder: Path) -> None:
    """Run heavylift; show what it said where it fails."""
    done = subprocess.run([*HEAVYLIFT, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"heavylift {' '.join(words)}: {done.stderr}")


main()
