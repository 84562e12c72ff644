"""Bring files in ranges over HTTP, several at a time, until each has its name; a cut or killed run is taken up again.

Each lane keeps to a file of its own as long as there are enough of them, so that hashing follows in order; at the end
several share one. A file's `sources` are `{url, begin, end}`: whoever has a part of it may serve that part.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chunks import Part
from .lane import Fault, Lane, NoRangesError, RefusedError

__all__ = ["Outcome", "Terms", "chunk_bytes", "download"]

FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Terms:
    """How many lanes, what counts as a stall, how long and how often to try again without progress."""

    lanes: int = 8
    stall_s: float = 60.0
    pause_s: float = 1.0
    tries: int = 5
    tick_s: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a run came to: bytes that moved, files that need a fresh address (with what was said), files by stamp."""

    moved: int
    refused: dict[str, str]
    stamps: dict[str, list[int]]


class Stop(Exception):
    """Nothing more can be done here; the message says what to do."""


def chunk_bytes(total: int, lanes: int) -> int:
    """Return the size of a chunk: all that a kill can cost, one chunk a lane, stays below 1 % of the whole."""
    return max(16 << 10, min(32 << 20, total // (128 * lanes)))


def download(
    folder: Path,
    entries: list[dict[str, Any]],
    terms: Terms,
    tell: Callable[[dict[str, Any]], None],
    named: Callable[[str, str, list[int]], None],
) -> Outcome:
    """Bring `entries` into `folder`; raise `RuntimeError` where that cannot go on.

    `tell` is called with the progress every `tick_s` seconds, `named` with path, sha256 and stamp of each file in turn.
    """
    total = sum(entry["size"] for entry in entries)
    parts = [Part(folder, entry, chunk_bytes(total, terms.lanes)) for entry in entries]
    board = _Board(parts, named)
    lanes = [Lane(terms.stall_s) for _ in range(terms.lanes)]
    threads = [threading.Thread(target=_work, args=(board, lane, terms), daemon=True) for lane in lanes]
    try:
        for part in parts:
            part.open()
            part.reserve()
        for thread in threads:
            thread.start()
        while not board.ended.wait(terms.tick_s):
            tell(board.progress())
    except OSError as error:
        board.stop(_about_disk(error, folder, board))
    _end(parts, lanes, [thread for thread in threads if thread.is_alive()])
    tell(board.progress())
    if board.error is not None:
        raise RuntimeError(board.error)
    return Outcome(board.moved, board.refused, board.stamps)


def _end(parts: list[Part], lanes: list[Lane], threads: list[threading.Thread]) -> None:
    """Close files once no lane can write any more; one that hangs keeps them, as its number may be another's soon."""
    for lane in lanes:
        lane.abort()
    for thread in threads:
        thread.join(5)
    if not any(thread.is_alive() for thread in threads):
        for part in parts:
            part.close()


class _Board:
    """Which lane brings what: all that lanes share, behind one lock."""

    def __init__(self, parts: list[Part], named: Callable[[str, str, list[int]], None]) -> None:
        self.parts = parts
        self._tell_named = named
        self.error: str | None = None
        self.note = ""
        self.moved = 0
        self.refused: dict[str, str] = {}
        self.stamps: dict[str, list[int]] = {}
        self.ended = threading.Event()
        self._changed = threading.Condition()

    def take(self, last: Part | None) -> tuple[Part, int | None] | None:
        """Return a chunk to bring, of this lane's `last` file if it can be; without a number, it is all of the file.

        None when all is over. A file of which nothing is `left` to bring lacks only its name.
        """
        with self._changed:
            while not self.ended.is_set():
                part = self._choose(last)
                if part is not None:
                    part.lanes += 1
                    return part, part.take() if part.ranged else None
                if not any(part.lanes for part in self.parts):
                    self.ended.set()
                    self._changed.notify_all()
                    break
                self._changed.wait()
        return None

    def release(self, part: Part, number: int | None = None) -> None:
        """Say that a lane left a file; `number` is the chunk that it did not bring."""
        with self._changed:
            part.lanes -= 1
            if number is not None:
                part.give_back(number)
            self._changed.notify_all()

    def arrived(self, part: Part, number: int) -> bool:
        """Note a chunk; return whether it was the file's last."""
        with self._changed:
            part.arrived(number)
            return part.left == 0

    def count(self, length: int) -> None:
        """Count bytes that came over the wire."""
        with self._changed:
            self.moved += length

    def named(self, part: Part) -> None:
        """Note that a file has its name."""
        with self._changed:
            self._tell_named(part.name, part.sha256, part.stamp)
            self.stamps[part.name] = part.stamp

    def refuse(self, part: Part, why: str) -> None:
        """Leave a file alone until somebody has a fresh address for it."""
        with self._changed:
            self.refused[part.name] = why

    def stop(self, why: str) -> None:
        """End the run; the first reason counts."""
        with self._changed:
            self.error = self.error or why
            self.ended.set()
            self._changed.notify_all()

    def progress(self) -> dict[str, Any]:
        """Return where the run stands."""
        with self._changed:
            named = sum(part.size for part in self.parts if part.name in self.stamps)
            rest = sum(part.have for part in self.parts if part.name not in self.stamps)
            return {"bytes": named + rest, "moved": self.moved, "named": len(self.stamps), "note": self.note}

    def _choose(self, last: Part | None) -> Part | None:
        open_parts = [part for part in self.parts if self._wants_a_lane(part)]
        return min(open_parts, key=lambda part: (part.lanes, part is not last), default=None)

    def _wants_a_lane(self, part: Part) -> bool:
        if part.name in self.stamps or part.name in self.refused:
            return False
        if not part.ranged or not part.left:  # all of it by one lane; or all there, and only its name is missing
            return part.lanes == 0
        return part.free > 0


def _work(board: _Board, lane: Lane, terms: Terms) -> None:
    """Be one lane until nothing is left to bring."""
    part = None
    try:
        while (task := board.take(part)) is not None:
            part, number = task
            _serve(board, lane, part, number, terms)
    except Stop as error:
        board.stop(str(error))
    except OSError as error:
        board.stop(_about_disk(error, part.final.parent if part else Path(), board))
    except Exception as error:  # a lane that vanished without a word would leave the run waiting
        board.stop(f"{type(error).__name__}: {error}")
    finally:
        lane.close()


def _serve(board: _Board, lane: Lane, part: Part, number: int | None, terms: Terms) -> None:
    rest = number
    try:
        complete = _bring(board, lane, part, number, terms) if part.left else True
        rest = None
        if complete:
            _name(board, part)
    except RefusedError as error:
        board.refuse(part, str(error))
    except NoRangesError:
        part.ranged = False
    finally:
        board.release(part, rest)


def _bring(board: _Board, lane: Lane, part: Part, number: int | None, terms: Terms) -> bool:
    """Bring a chunk, or all of a file; after a fault go on where it stopped. Return whether it was the last one."""
    tries, (at, end) = 0, (0, part.size) if number is None else part.extent(number)
    while not board.ended.is_set():
        before, source = at, _source(part, at, end, tries)
        try:
            if number is None:
                return _bring_all(board, part, lane.blocks(source, 0, part.size, part.size))
            for block in lane.blocks(source, at, end, part.size):
                part.write(block, at)
                at += len(block)
                board.count(len(block))
            last = board.arrived(part, number)
            part.follow(wait=False)
        except Fault as fault:
            tries = 1 if at > before else tries + 1
            _wait(board, part, fault, tries, terms)
        except RefusedError:
            if len(part.sources) < 2:
                raise
            part.sources.remove(source)
        else:
            return last
    return False


def _bring_all(board: _Board, part: Part, blocks: Iterator[bytes]) -> bool:
    """Take a file from its beginning to its end."""
    at = number = 0
    for block in blocks:
        part.write(block, at)
        at += len(block)
        board.count(len(block))
        while number < len(part.done) and part.extent(number)[1] <= at:
            if not part.done[number]:
                board.arrived(part, number)
            number += 1
        part.follow(wait=False)
    return True


def _source(part: Part, begin: int, end: int, tries: int) -> dict[str, Any]:
    """Return who is asked: after each fault the next of those who have these bytes."""
    serving = [source for source in part.sources if source["begin"] <= begin and end <= source["end"]]
    if not serving:
        raise RefusedError("no address")
    return serving[tries % len(serving)]


def _wait(board: _Board, part: Part, fault: Fault, tries: int, terms: Terms) -> None:
    if tries > terms.tries:
        kept = "what is there is kept, run the same command again to continue"
        raise Stop(f"{part.name}: {fault}, {tries} times in a row; {kept}")
    pause_s = fault.wait_s if fault.wait_s is not None else terms.pause_s * 2.0 ** min(tries - 1, 3)
    board.note = f"{part.name}: {fault}; waiting {pause_s:g} s ({tries} of {terms.tries})"
    board.ended.wait(pause_s)


def _name(board: _Board, part: Part) -> None:
    found = part.name_it()
    if found == part.sha256:
        board.named(part)
        return
    wrong = f"{part.name}: sha256 {found[:12]}…, the hub says {part.sha256[:12]}…"
    if part.failed > 1:
        raise Stop(f"{wrong}, fetched twice; not published; try another origin (HF_ENDPOINT)")
    board.note = f"{wrong}; fetching it once more"


def _about_disk(error: OSError, folder: Path, board: _Board) -> str:
    if error.errno in FULL:
        short = sum(part.size - part.have for part in board.parts if part.name not in board.stamps)
        lack = f"no space left on the disk, {short / 1e9:.2f} GB are still to come"
        return f"{folder}: {lack}; free some and run the same command again, what is there is kept"
    return f"{error.filename or folder}: {error.strerror or error}"
