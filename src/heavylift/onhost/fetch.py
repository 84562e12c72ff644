"""Weights from an origin, brought by this host itself, as a transient unit: a lost connection does not cut it.

`fetch` reads an order on standard input (addresses are secrets, so never a command line), checks space, starts the unit
or joins the one at work, and tells where it stands; `fetch-state` tells again; `fetch-run` is the unit. It ends with

    0  every file was hashed and the folder has its name
    1  it cannot go on; the state's `message` says why, and what is there is kept
    4  some addresses are not, or no longer, served: bring fresh ones with another `fetch`

An order: `staging`, `directory`, `manifest` (its text), `files` (path, size, sha256, sources), `contents` (base64 of
small files, by path), `structure` (whether headers and index are checked at last), and `terms` of the download.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import checkpoint
from .chunks import NOTES, allocated
from .unit import show

__all__ = ["FRESH_ADDRESSES", "begin_main", "prepare", "run_main", "state", "state_main", "unit_name", "write"]

FRESH_ADDRESSES = 4
RUN = Path("/run/heavylift")  # in memory: an order's addresses never reach a disk
SPARE = 0.10
PROPERTIES = ("Nice=10", "IOWeight=50", "LimitNOFILE=65536", "UMask=0022")
HASHED = "hashed"


def unit_name(directory: str) -> str:
    """Return the unit that brings a folder: one a folder, whoever asks."""
    return f"heavylift-fetch-{hashlib.sha256(directory.encode()).hexdigest()[:12]}"


def begin_main(_: dict[str, Any]) -> dict[str, Any]:
    """Start the unit for the order on standard input, or join the one at work; return the state."""
    order = json.load(sys.stdin)
    unit = unit_name(order["directory"])
    home = RUN / unit
    if _active(unit):
        _must_be_same(home, order)
        return state(order["directory"])
    memory = prepare(order, home)
    shutil.copyfile(sys.argv[0], home / "program")
    subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
    command = ["systemd-run", "--quiet", f"--unit={unit}", *(f"--property={value}" for value in PROPERTIES)]
    command += [sys.executable, str(home / "program"), "fetch-run", json.dumps({"home": str(home)})]
    started = subprocess.run(command, capture_output=True, text=True, check=False)
    if started.returncode != 0:
        raise RuntimeError(f"systemd-run: {started.stderr.strip()}")
    return {**state(order["directory"]), "memory": memory}


def prepare(order: dict[str, Any], home: Path) -> int:
    """Check space, lay down what came with the order, and write the order for the unit; return the host's memory."""
    staging, directory = Path(order["staging"]), Path(order["directory"])
    _check_space(order, staging, directory)
    staging.mkdir(parents=True, exist_ok=True)
    for name, content in order.pop("contents", {}).items():
        _lay(staging / name, base64.b64decode(content))
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    write(home / "order.json", json.dumps(order), 0o600)
    _write_state(home, {"state": "running", "bytes": 0, "moved": 0})
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def write(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def state_main(query: dict[str, Any]) -> dict[str, Any]:
    """Wait until the unit that brings `directory` has ended, `wait_s` at most, and tell where it stands."""
    until = time.monotonic() + float(query.get("wait_s", 0))
    while _active(unit_name(query["directory"])) and time.monotonic() < until:
        time.sleep(0.2)
    return state(query["directory"])


def state(directory: str) -> dict[str, Any]:
    """Return `state` (running, done, failed, addresses, stopped or none), bytes, total, rate, message."""
    unit = unit_name(directory)
    active = _active(unit)  # first, so that a last word spoken in between is not missed
    try:
        found: dict[str, Any] = json.loads((RUN / unit / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        staging = Path(f"{directory}.partial")
        return {"state": "stopped", "bytes": _there(staging)} if staging.is_dir() else {"state": "none"}
    if found["state"] == "running" and not active:
        found["state"] = "stopped"  # killed, or the host went down
    return found


def run_main(query: dict[str, Any]) -> None:
    """Be the unit: adopt what is there, bring the rest, give the folder its name; exit as the module says."""
    home = Path(query["home"])
    order = json.loads((home / "order.json").read_text(encoding="utf-8"))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    report = _Report(home, sum(entry["size"] for entry in order["files"]))
    try:
        refused = _run(order, report)
    except (OSError, ValueError, RuntimeError) as error:
        report.end("failed", message=str(error))
        raise
    if refused:
        report.end("addresses", refused=refused)
        raise SystemExit(FRESH_ADDRESSES)
    (home / "order.json").unlink()
    report.end("done")


class _Report:
    """The state file: what `fetch-state` and `weights status` show."""

    def __init__(self, home: Path, total: int) -> None:
        self._home = home
        self._began = time.monotonic()
        self._at = [(self._began, 0)]
        self.known: dict[str, Any] = {"total": total, "bytes": 0, "moved": 0, "step": "checking", "note": ""}

    def tell(self, progress: dict[str, Any], before: int) -> None:
        """Take the downloader's progress; `before` is what was there already."""
        now = time.monotonic()
        self._at = [*self._at[-9:], (now, progress["moved"])]
        since, moved = self._at[0]
        span = max(now - since, 0.001)
        self.known.update(
            progress, bytes=before + progress["bytes"], rate=(progress["moved"] - moved) / span, step="bringing"
        )
        with contextlib.suppress(OSError, RuntimeError):
            _write_state(self._home, {"state": "running", **self.known, "seconds": now - self._began})

    def end(self, state: str, **more: Any) -> None:
        """Write the last word."""
        _write_state(self._home, {**self.known, "state": state, "seconds": time.monotonic() - self._began, **more})


def _run(order: dict[str, Any], report: _Report) -> dict[str, str]:
    """Return the files that need a fresh address, with what was said; none when the folder has its name."""
    from .download import Outcome, Terms, download  # http and ssl: all other commands start without them

    staging, directory = Path(order["staging"]), Path(order["directory"])
    notes = _Notes(staging / NOTES / HASHED)
    stamps = _adopt(order["files"], staging, directory, notes)
    rest = [entry for entry in order["files"] if entry["path"] not in stamps]
    before = report.known["total"] - sum(entry["size"] for entry in rest)
    terms = Terms(**{"lanes": max(4, min(16, len(os.sched_getaffinity(0)))), **order.get("terms", {})})
    outcome = Outcome(0, {}, {})
    if rest:
        outcome = download(staging, rest, terms, lambda progress: report.tell(progress, before), notes.add)
    stamps.update(outcome.stamps)
    if outcome.refused:
        return outcome.refused
    _publish(order, staging, directory, stamps)
    report.known.update(bytes=report.known["total"], moved=outcome.moved, note="")
    return {}


class _Notes:
    """Which files were hashed, with the stamps they had then: a line each, so that a killed run hashes none twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last line may have been cut
                    name, sha256, stamp = json.loads(line)
                    self._known[name] = [sha256, stamp]

    def add(self, name: str, sha256: str, stamp: list[int]) -> None:
        """Note a file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps([name, sha256, stamp])}")

    def holds(self, name: str, sha256: str, stamp: list[int]) -> bool:
        """Whether this very file was hashed."""
        return bool(self._known.get(name) == [sha256, stamp])


def _adopt(files: list[dict[str, Any]], staging: Path, directory: Path, notes: _Notes) -> dict[str, list[int]]:
    """Return the stamps of files that are there and right: hashed in an earlier run, or hashed now."""
    stamps: dict[str, list[int]] = {}
    for entry in files:
        path, older = staging / entry["path"], directory / entry["path"]
        if not path.is_file() and older.is_file() and older.stat().st_size == entry["size"]:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(older, path)
        if not path.is_file():
            continue
        stamp = checkpoint.stamp(path)
        if notes.holds(entry["path"], entry["sha256"], stamp):
            stamps[entry["path"]] = stamp
        elif checkpoint.digest(path) == entry["sha256"]:
            notes.add(entry["path"], entry["sha256"], stamp)
            stamps[entry["path"]] = stamp
        else:
            path.unlink()
    return stamps


def _publish(order: dict[str, Any], staging: Path, directory: Path, stamps: dict[str, list[int]]) -> None:
    """Give a folder its name whose files are all hashed: nothing is read again."""
    wrong = checkpoint.structure(staging) if order.get("structure", True) else []
    if wrong:
        raise RuntimeError(f"weights: equal to the hub's, but no whole checkpoint: {'; '.join(wrong)}")
    names = {entry["path"] for entry in order["files"]}
    shutil.rmtree(staging / NOTES, ignore_errors=True)
    for path in sorted(staging.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir() if not any(path.iterdir()) else path.chmod(0o755)
        elif str(path.relative_to(staging)) not in names:
            path.unlink()
    verified = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write(staging / checkpoint.MANIFEST, order["manifest"], 0o644)
    stamped = json.dumps({"verified": verified, "files": stamps}, indent=1, sort_keys=True) + "\n"
    write(staging / checkpoint.STAMP, stamped, 0o644)
    old = directory.with_name(directory.name + ".replaced")
    shutil.rmtree(old, ignore_errors=True)
    if directory.is_dir():
        directory.rename(old)
    staging.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
    _sync(directory.parent)


def _check_space(order: dict[str, Any], staging: Path, directory: Path) -> None:
    """Raise unless what is missing fits, and a tenth of all of this model's commits is left over."""
    root = staging.parent
    while not root.is_dir():
        root = root.parent
    missing = sum(_missing(entry, staging, directory) for entry in order["files"])
    others = [path for path in staging.parent.glob("*") if path.name not in {staging.name, directory.name}]
    kept = sum(allocated(path) for other in others for path in other.rglob("*"))
    needed = missing + SPARE * (sum(entry["size"] for entry in order["files"]) + kept) if missing else 0
    free = shutil.disk_usage(root).free
    if free < needed:
        parts = f"{missing / 1e9:.2f} GB to come, 10 % of all commits of the model to spare"
        need = f"{free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB needed ({parts})"
        raise RuntimeError(f"{root}: {need}; free some, or choose another paths.models")


def _missing(entry: dict[str, Any], staging: Path, directory: Path) -> int:
    name, size = entry["path"], int(entry["size"])
    if any(path.is_file() and path.stat().st_size == size for path in (staging / name, directory / name)):
        return 0
    return max(0, size - allocated(staging / f"{name}.incomplete"))


def _lay(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)


def _there(staging: Path) -> int:
    return sum(min(path.stat().st_size, allocated(path)) for path in staging.rglob("*") if path.is_file())


def _must_be_same(home: Path, order: dict[str, Any]) -> None:
    try:
        running = json.loads((home / "order.json").read_text(encoding="utf-8"))["manifest"]
    except (OSError, ValueError):
        return  # it ends just now
    if running != order["manifest"]:
        raise RuntimeError(f"{order['directory']}: other files are being fetched into it; wait until that has ended")


def _active(unit: str) -> bool:
    return show(unit)["ActiveState"] in {"active", "activating", "deactivating"}


def _write_state(home: Path, document: dict[str, Any]) -> None:
    write(home / "state.json", json.dumps({**document, "at": time.time()}), 0o600)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
