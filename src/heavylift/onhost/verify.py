"""Is a checkpoint on this host still the one that was promised: by its stamps, or by hashing all of it again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import checkpoint, fetch
from .caller import stay

__all__ = ["hash_all", "main", "status_main"]

BLOCK = 1 << 20  # 8 MiB blocks were no faster, and a buffer that is used again saves a page fault for each 4 KiB


def main(query: dict[str, Any]) -> dict[str, Any]:
    """Verify `directory` against the manifest of this sha256 (null: its own); `deep` reads every byte.

    What was found wrong loses its stamp, so that the next fetch or apply mends it.
    """
    directory, manifest = Path(query["directory"]), query["manifest"]
    if query.get("deep") and manifest is None:
        checkpoint.check_main({"directory": str(directory)})
    found = checkpoint.state(directory, manifest)
    if not query.get("deep") or manifest is None or found["status"] not in {"verified", "changed"}:
        return {**found, "verified": _verified(directory), "bytes": 0}
    files = json.loads((directory / checkpoint.MANIFEST).read_text(encoding="utf-8"))["files"]
    began = time.monotonic()
    present = [entry for entry in files if (directory / entry["path"]).is_file()]
    hashes = hash_all(directory, [entry["path"] for entry in present])
    wrong = {entry["path"] for entry in files if hashes.get(entry["path"]) != entry["sha256"]}
    stamps = {
        entry["path"]: checkpoint.stamp(directory / entry["path"]) for entry in present if entry["path"] not in wrong
    }
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) if not wrong else _verified(directory)
    fetch.write(
        directory / checkpoint.STAMP,
        json.dumps({"verified": when, "files": stamps}, indent=1, sort_keys=True) + "\n",
        0o644,
    )
    size, seconds = sum(entry["size"] for entry in present), time.monotonic() - began
    return {**checkpoint.state(directory, manifest), "verified": when, "bytes": size, "seconds": seconds}


def status_main(query: dict[str, Any]) -> dict[str, Any]:
    """Return the checkpoint's state, when it was verified, and the fetch that is at work or was left."""
    directory = Path(query["directory"])
    found = checkpoint.state(directory, query["manifest"])
    return {**found, "verified": _verified(directory), "fetch": fetch.state(str(directory))}


def hash_all(directory: Path, names: list[str]) -> dict[str, str]:
    """Hash files side by side, one thread a core, the longest first, so that all cores end at the same time."""
    order = sorted(names, key=lambda name: -(directory / name).stat().st_size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(pool.map(lambda name: (name, _digest(directory / name)), order))


def _digest(path: Path) -> str:
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(buffer):
            stay()
            hasher.update(buffer[:count])
    return hasher.hexdigest()


def _verified(directory: Path) -> str | None:
    try:
        when: str | None = json.loads((directory / checkpoint.STAMP).read_text(encoding="utf-8"))["verified"]
    except (OSError, ValueError, KeyError):
        return None
    return when
