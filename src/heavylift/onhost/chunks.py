"""One file on its way to this host: which of its chunks are there, and how far it is hashed.

A chunk's number is appended to the file's journal after its bytes were written, so a killed transfer knows what it
has. The journal is only worth bytes: a file gets its name when the sha256 of all of it, read back, is right.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import heapq
import os
import struct
import threading
from pathlib import Path
from typing import Any

from .checkpoint import stamp

__all__ = ["NOTES", "Part", "allocated"]

NOTES = ".fetch"  # folder of the journals, within the staging folder
KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE: a reserved file never looks longer than what was written
PIECE = 1 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)


class Part:
    """A file of `size` bytes in chunks of `chunk` bytes; chunks may come in any order and from any source."""

    def __init__(self, folder: Path, entry: dict[str, Any], chunk: int) -> None:
        self.name: str = entry["path"]
        self.size: int = entry["size"]
        self.sha256: str = entry["sha256"]
        self.sources: list[dict[str, Any]] = list(entry["sources"])
        self.final = folder / self.name
        self.partial = folder / f"{self.name}.incomplete"
        self.journal = folder / NOTES / f"{self.name}.chunks"
        self.chunk = chunk
        self.done = bytearray()
        self.left = 0  # chunks that are not there
        self.have = 0  # bytes that are there
        self.lanes = 0
        self.failed = 0  # how often all of it was there and was not what it should be
        self.ranged = True
        self._file = self._notes = -1
        self._hasher = hashlib.sha256()
        self._hashed = 0  # chunks
        self._hashing = threading.Lock()
        self._free: list[int] = []

    def open(self) -> None:
        """Take up what an earlier run left."""
        for path in (self.partial, self.journal):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o644)
        self._notes = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._recall()

    def reserve(self) -> None:
        """Take the file's space on the disk now, so that a full disk shows before the first byte moves."""
        if _LIBC.fallocate(self._file, KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(self.size)) != 0:
            number = ctypes.get_errno()
            if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise OSError(number, os.strerror(number), str(self.partial))

    def close(self) -> None:
        """Let go of the file; what is there stays."""
        for handle in (self._file, self._notes):
            if handle >= 0:
                os.close(handle)
        self._file = self._notes = -1

    def take(self) -> int | None:
        """Return the number of a chunk that nobody brings yet, the lowest first, so that hashing can follow."""
        return heapq.heappop(self._free) if self._free else None

    def give_back(self, number: int) -> None:
        """Make a chunk free again that was not brought."""
        heapq.heappush(self._free, number)

    @property
    def free(self) -> int:
        """How many chunks nobody brings yet."""
        return len(self._free)

    def extent(self, number: int) -> tuple[int, int]:
        """Return where a chunk begins and ends."""
        return number * self.chunk, min((number + 1) * self.chunk, self.size)

    def write(self, block: bytes, offset: int) -> None:
        """Write bytes at their place."""
        view = memoryview(block)
        while view:
            count = os.pwrite(self._file, view, offset)
            view, offset = view[count:], offset + count

    def arrived(self, number: int) -> None:
        """Note that a chunk is there."""
        os.write(self._notes, struct.pack("<I", number))
        begin, end = self.extent(number)
        self.done[number] = 1
        self.left -= 1
        self.have += end - begin

    def follow(self, *, wait: bool) -> None:
        """Hash what is there without a hole; one thread at a time does, others go on, or `wait` for their turn."""
        while self._hashed < len(self.done) and self.done[self._hashed]:
            if not self._hashing.acquire(blocking=wait):
                return
            try:
                while self._hashed < len(self.done) and self.done[self._hashed]:
                    self._hash(*self.extent(self._hashed))
                    self._hashed += 1
            finally:
                self._hashing.release()

    def name_it(self) -> str:
        """Give a complete file its name if it is what it should be; return its sha256 either way."""
        self.follow(wait=True)
        found = self._hasher.hexdigest()
        if found != self.sha256:
            self.failed += 1
            self._forget()
            return found
        os.fchmod(self._file, 0o644)
        os.ftruncate(self._file, self.size)
        os.fsync(self._file)
        self.close()
        self.partial.replace(self.final)
        self.journal.unlink()
        return found

    @property
    def stamp(self) -> list[int]:
        """The named file's stamp: as long as it stays, so does what was verified."""
        return stamp(self.final)

    def _hash(self, begin: int, end: int) -> None:
        """Hash by reading back: it was written a moment ago, so this costs no access to the disk."""
        while begin < end:
            piece = os.pread(self._file, min(PIECE, end - begin), begin)
            if not piece:
                piece = bytes(min(PIECE, end - begin))  # a hole where the journal promised bytes: the digest will tell
            self._hasher.update(piece)
            begin += len(piece)

    def _recall(self) -> None:
        notes = os.pread(self._notes, os.fstat(self._notes).st_size, 0)
        known = struct.unpack_from("<I", notes)[0] if len(notes) >= 4 else 0
        if known:
            self.chunk = known
        else:
            notes = self._renew()
        self._reset()
        length = os.fstat(self._file).st_size
        for (number,) in struct.iter_unpack("<I", notes[4 : len(notes) // 4 * 4]):
            if number < len(self.done) and self.extent(number)[1] <= length and not self.done[number]:
                begin, end = self.extent(number)
                self.done[number] = 1
                self.left -= 1
                self.have += end - begin
        os.ftruncate(self._notes, len(notes) // 4 * 4)
        self._free = [number for number, there in enumerate(self.done) if not there]

    def _forget(self) -> None:
        os.ftruncate(self._file, 0)
        self._renew()
        self._reset()

    def _renew(self) -> bytes:
        notes = struct.pack("<I", self.chunk)
        os.ftruncate(self._notes, 0)
        os.write(self._notes, notes)
        return notes

    def _reset(self) -> None:
        count = -(-self.size // self.chunk)
        self.done = bytearray(count)
        self.left, self.have, self._hashed = count, 0, 0
        self._free = list(range(count))
        self._hasher = hashlib.sha256()


def allocated(path: Path) -> int:
    """Return how many bytes of the disk a file has, 0 where it is not there."""
    with contextlib.suppress(OSError):
        return path.stat().st_blocks * 512
    return 0
