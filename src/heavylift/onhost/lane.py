"""One keep-alive connection that brings ranges of files over HTTP, and what an answer means for the next try.

No credentials are ever sent: an address that needs one is signed by whoever handed it over. Addresses are secrets
themselves, so no message holds more of one than its host's name.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Any, Union
from urllib.parse import urljoin, urlsplit

__all__ = ["Fault", "Lane", "NoRangesError", "RefusedError", "wait_s"]

BLOCK = 1 << 18
SLOWEST_BYTES_PER_S = 10_000  # slower than this over a whole watchdog's time counts as stalled
REDIRECTS = {301, 302, 303, 307, 308}
REFUSALS = {401, 403, 404, 410}  # expired, withdrawn, or never good: only another address helps
LONGEST_WAIT_S = 600.0
Headers = Union[Mapping[str, str], Message]  # not `|`: evaluated by Python 3.9


class Fault(Exception):
    """Something went wrong on the way that another try may mend, after `wait_s` seconds if the other end says so."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class RefusedError(Exception):
    """The other end does not serve this address, or no longer: a fresh one is needed."""


class NoRangesError(Exception):
    """The other end sends whole files only."""


def wait_s(headers: Headers) -> float | None:
    """Return how long to wait before the next try in seconds, by `RateLimit` or `Retry-After`, if one says so."""
    limit = re.search(r'"\w+"\s*;\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)', headers.get("RateLimit") or "")
    if limit and int(limit[1]) == 0:
        return min(float(limit[2]) + 1, LONGEST_WAIT_S)
    after = (headers.get("Retry-After") or "").strip()
    if after.isdigit():
        return min(float(after), LONGEST_WAIT_S)
    return None


class Lane:
    """Asks for one range after the other; a silence of `stall_s` seconds, or a trickle, is a `Fault`."""

    def __init__(self, stall_s: float) -> None:
        self.stall_s = stall_s
        self._origin: tuple[str, str] = ("", "")
        self._connection: http.client.HTTPConnection | None = None

    def blocks(self, source: dict[str, Any], begin: int, end: int, size: int) -> Iterator[bytes]:
        """Yield the bytes from `begin` up to `end` of a file of `size` bytes, in order; all of it has no range."""
        url = source.get("moved", source["url"])
        headers = {} if (begin, end) == (0, size) else {"Range": f"bytes={begin}-{end - 1}"}
        try:
            response, source["moved"] = self._follow(url, headers)
            self._judge(response, url, begin, end, size)
            yield from self._read(response, end - begin)
        except BaseException as error:
            self.close()  # what is left of an answer must not be taken for the next one
            source.pop("moved", None)
            if isinstance(error, RefusedError) and url != source["url"]:
                raise Fault(str(error)) from None  # where we were sent last time, not the address that we were given
            if isinstance(error, (OSError, http.client.HTTPException)):
                raise Fault(f"{urlsplit(url).hostname}: {self._reason(error)}") from None
            raise

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """From another thread: let whoever waits for bytes here wait no longer."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _follow(self, url: str, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, str]:
        for _ in range(6):
            response = self._ask(url, headers)
            if response.status not in REDIRECTS:
                return response, url
            response.read()
            url = urljoin(url, response.headers.get("Location") or "")
            if urlsplit(url).scheme not in {"http", "https"}:
                break
        raise Fault(f"{urlsplit(url).hostname}: sends from one address to the next")

    def _ask(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kept = self._connection is not None and self._origin == (parts.scheme, parts.netloc)
        if not kept:
            self._connect(parts.scheme, parts.netloc)
        try:
            return self._send(target, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            if not kept:
                raise
        self._connect(parts.scheme, parts.netloc)  # a kept connection may have been ended meanwhile: that is no failure
        return self._send(target, headers)

    def _connect(self, scheme: str, netloc: str) -> None:
        self.close()
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        self._connection = kind(netloc, timeout=self.stall_s)
        self._origin = (scheme, netloc)

    def _send(self, target: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        assert self._connection is not None
        self._connection.request("GET", target, headers={"Accept-Encoding": "identity", **headers})
        return self._connection.getresponse()

    def _judge(self, response: http.client.HTTPResponse, url: str, begin: int, end: int, size: int) -> None:
        """Raise unless the answer is exactly what was asked for."""
        host, status = urlsplit(url).hostname, response.status
        if status in REFUSALS:
            said = response.read(200).decode("utf-8", "replace").split("\n")[0]
            raise RefusedError(f"{host}: {status} {said or response.reason}"[:160])
        length = int(response.headers.get("Content-Length") or -1)
        if status == 200 and (begin, end) != (0, size):
            raise NoRangesError
        if status == 200 and length in {size, -1}:
            return
        told = response.headers.get("Content-Range") or ""
        if status == 206 and told == f"bytes {begin}-{end - 1}/{size}":
            return
        if status in {200, 206}:
            raise Fault(f"{host}: has {told.rpartition('/')[2] or length} bytes, {size} are promised")
        raise Fault(f"{host}: answers {status} {response.reason}", wait_s(response.headers))

    def _read(self, response: http.client.HTTPResponse, wanted: int) -> Iterator[bytes]:
        since, got = time.monotonic(), 0
        while wanted > 0:
            block = response.read1(min(BLOCK, wanted))
            if not block:
                raise Fault("the answer ends early")
            wanted -= len(block)
            got += len(block)
            yield block
            now = time.monotonic()
            if wanted > 0 and now - since >= self.stall_s:
                if got < SLOWEST_BYTES_PER_S * (now - since):
                    raise Fault(f"{got} bytes in {now - since:.0f} s")
                since, got = now, 0
        response.close()  # the answer, not the connection: not every Python's read1 sees the end by itself

    def _reason(self, error: Exception) -> str:
        if isinstance(error, (socket.timeout, TimeoutError)):
            return f"no bytes for {self.stall_s:g} s"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({error.verify_message}); install ca-certificates on this host"
        return str(error) or type(error).__name__
