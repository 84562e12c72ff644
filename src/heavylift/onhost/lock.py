"""One lock a host: held by a process whose standard input is the operator's end of the SSH connection.

The lock is free again as soon as that end is gone: closed, killed, or silent for longer than `patience_s`. Who comes
while the holder is silent already (its cable was cut, its machine died) waits for that; who comes while it is at work
is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from .caller import stay

SILENT_S = 12.0  # more than two beats


def main(query: dict[str, Any]) -> None:
    """Take the lock `path` or say who holds it; print `held` and keep it while lines arrive on stdin."""
    path = Path(query["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    while not _is_taken(handle):
        if time.time() - os.fstat(handle).st_mtime < query.get("silent_s", SILENT_S):
            raise RuntimeError(f"{_holder(path)} is at work on this host; wait until that has ended")
        stay()
        time.sleep(0.5)
    owner = {"owner": query["owner"], "since": time.strftime("%H:%M:%S UTC", time.gmtime())}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(owner).encode(), 0)
    print("held", flush=True)
    _keep(handle, float(query.get("patience_s", 45.0)))
    os.ftruncate(handle, 0)


def _is_taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _keep(handle: int, patience_s: float) -> None:
    while select.select([sys.stdin], [], [], patience_s)[0]:
        if not os.read(sys.stdin.fileno(), 4096):
            return
        os.utime(handle)
        os.write(sys.stdout.fileno(), b".")  # tells the other end that this host does not hang


def _holder(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"{owner['owner']} (since {owner['since']})"
    except (OSError, ValueError, KeyError):
        return "another heavylift"
