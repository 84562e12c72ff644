"""Weights from a hub onto hosts: each host fetches for itself, from addresses that are signed here and shared by all.

The work on a host is a unit of its own; what runs here looks in on it, brings fresh addresses when old ones expire,
and may go away at any time: the same command finds the transfer where it is then.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heavylift.errors import FleetError, HeavyliftError, WeightsError
from heavylift.fleet.inventory import Host
from heavylift.fleet.question import ask
from heavylift.fleet.ssh import each
from heavylift.weights.hub import Hub
from heavylift.weights.manifest import Checkpoint
from heavylift.weights.select import RemoteFile, Wish

__all__ = ["Addresses", "Fetched", "Job", "fetch", "fetch_all"]

LOOK_S = 5.0
MISSED = 6  # looks in a row that may fail before a host counts as lost
FRESH = 3  # rounds of fresh addresses that may bring nothing
ROOM = 1.3  # memory over checkpoint from which on its files stay in the page cache beside the engine

Report = Callable[[str], None]
Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one host: bytes that moved, seconds, and whether all was there already."""

    moved: int
    seconds: float
    unchanged: bool


class Addresses:
    """Signed addresses of a commit's files, asked for once for all hosts, and again when a host says they are stale."""

    def __init__(self, hub: Hub, wish: Wish) -> None:
        self._hub, self._wish = hub, wish
        self._known: dict[str, str] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, rows: Sequence[tuple[str, int, str]], stale: dict[str, str]) -> dict[str, str]:
        """Return the address of each file; `stale` are addresses that were tried in vain."""
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda row: self._one(RemoteFile(row[0], row[1], row[2], None), stale.get(row[0])), rows)
            return dict(zip((path for path, _, _ in rows), found, strict=True))

    def _one(self, file: RemoteFile, stale: str | None) -> str:
        with self._lock:
            lock = self._locks.setdefault(file.path, threading.Lock())
        with lock:
            if self._known.get(file.path) in {None, stale}:
                self._known[file.path] = self._hub.address(self._wish.repo, self._wish.commit, file)
            return self._known[file.path]


@dataclass(frozen=True, slots=True)
class Job:
    """One checkpoint for one folder, the same on all hosts."""

    checkpoint: Checkpoint
    directory: str
    addresses: Addresses
    known_hosts: Path
    structure: bool = True
    terms: dict[str, Any] = field(default_factory=dict)
    ask: Ask = ask

    @property
    def query(self) -> dict[str, Any]:
        """What a host is asked to find out where it stands."""
        return {"directory": self.directory, "manifest": self.checkpoint.manifest.sha256}

    @property
    def remote(self) -> list[tuple[str, int, str]]:
        """The files that a host fetches; all others are here, and come with the order."""
        here = self.checkpoint.directory
        return [row for row in self.checkpoint.manifest.files if not (here / row[0]).is_file()]

    def order(self, addresses: dict[str, str]) -> str:
        """Return what a host is told: every file with its sources, and the content of the small ones."""
        files, contents = [], {}
        for path, size, sha256 in self.checkpoint.manifest.files:
            sources = [{"url": addresses[path], "begin": 0, "end": size}] if path in addresses else []
            files.append({"path": path, "size": size, "sha256": sha256, "sources": sources})
            if not sources:
                contents[path] = base64.b64encode((self.checkpoint.directory / path).read_bytes()).decode("ascii")
        where = {"staging": f"{self.directory}.partial", "directory": self.directory, "structure": self.structure}
        manifest = self.checkpoint.manifest.text
        return json.dumps({**where, "manifest": manifest, "files": files, "contents": contents, "terms": self.terms})


def fetch_all(hosts: Iterable[Host], job: Job, report: Report) -> dict[str, Fetched | HeavyliftError]:
    """Fetch on all hosts at the same time; a host's own failure is its result, the others go on."""
    return each(hosts, lambda host: fetch(host, job, report))


def fetch(host: Host, job: Job, report: Report) -> Fetched:
    """Bring the checkpoint onto one host and wait until its folder has its name; raise where that cannot be."""
    began = time.monotonic()
    if job.ask(host, job.known_hosts, "weights", job.query)["status"] == "verified":
        return Fetched(0, time.monotonic() - began, unchanged=True)
    rounds, stale, known = 0, dict[str, str](), -1
    while True:
        addresses = job.addresses.of(job.remote, stale)
        seen = _begin(host, job, addresses, report if known < 0 else None)
        seen = _attend(host, job, seen, report)
        if seen["state"] == "done":
            return Fetched(seen["moved"], time.monotonic() - began, unchanged=False)
        rounds = 0 if seen.get("bytes", 0) > known else rounds + 1
        known = seen.get("bytes", 0)
        refused: dict[str, str] = seen.get("refused", {})
        if seen["state"] not in {"addresses", "stopped"} or rounds >= FRESH:
            raise WeightsError(f"{host.name}: {_why(seen, refused)}")
        stale = {path: addresses[path] for path in refused}


def _begin(host: Host, job: Job, addresses: dict[str, str], report: Report | None) -> dict[str, Any]:
    seen = job.ask(host, job.known_hosts, "fetch", {}, input=job.order(addresses), timeout_s=600)
    size = job.checkpoint.manifest.size
    if report is not None and 0 < seen.get("memory", 0) < ROOM * size:
        room = f"{seen['memory'] / 1e9:.0f} GB of memory for {size / 1e9:.0f} GB of weights"
        report(f"{host.name}: warning: {room}: they do not stay in the page cache, every start reads the disk")
    return seen


def _attend(host: Host, job: Job, seen: dict[str, Any], report: Report) -> dict[str, Any]:
    """Look in until the unit has ended."""
    missed, told, query = 0, _Told(), {"directory": job.directory, "wait_s": LOOK_S}
    while seen["state"] == "running":
        try:
            seen = job.ask(host, job.known_hosts, "fetch-state", query, timeout_s=60)
            missed = 0
        except FleetError as error:
            missed += 1
            if missed >= MISSED:
                at = f"at {seen.get('bytes', 0) / max(1, job.checkpoint.manifest.size):.0%}"
                hint = "the host goes on by itself; run the same command to look in again"
                raise FleetError(f"{error.message}; lost sight of it {at}", hint=hint) from None
            time.sleep(LOOK_S)
        else:
            told.tell(host, seen, report)
    return seen


class _Told:
    """Says how far a host is: every tenth, every half minute, and whatever goes wrong."""

    def __init__(self) -> None:
        self._tenth, self._at, self._note = 0, time.monotonic(), ""

    def tell(self, host: Host, seen: dict[str, Any], report: Report) -> None:
        """Report what is new."""
        total = max(1, seen.get("total", 1))
        tenth, note = 10 * seen.get("bytes", 0) // total, seen.get("note", "")
        if note and note != self._note:
            report(f"{host.name}: {note}")
        if tenth > self._tenth or time.monotonic() - self._at > 30:
            report(f"{host.name}: {progress(seen)}")
            self._tenth, self._at = tenth, time.monotonic()
        self._note = note


def progress(seen: dict[str, Any]) -> str:
    """Return one line: how much of how much, how fast, how long still."""
    there, total, rate = seen.get("bytes", 0), seen.get("total", 0), seen.get("rate", 0.0)
    if not total:
        return f"{there / 1e9:.2f} GB are there"
    line = f"{there / total:.0%} of {total / 1e9:.2f} GB"
    if rate > 0 and there < total:
        left = (total - there) / rate
        line += (
            f", {rate / 1e6:.0f} MB/s, {left / 60:.0f} min left"
            if left > 90
            else f", {rate / 1e6:.0f} MB/s, {left:.0f} s left"
        )
    return line


def _why(seen: dict[str, Any], refused: dict[str, str]) -> str:
    if refused:
        path, said = min(refused.items())
        why = f"refused right after its address was signed ({said})"
        return f"{path}: {why}; may the token read this repository?"
    if seen["state"] == "stopped":
        return "the transfer was stopped and does not get further; see `journalctl -u 'heavylift-fetch-*'` there"
    return str(seen.get("message") or f"the transfer is {seen['state']}")
