"""A small model hub and its store for tests: real HTTP on loopback, the real ones' answers, faults on demand.

The hub lists commits and redirects requests for large files to the store, another origin, at a signed address; it
serves plain git files itself. Every request is recorded; every fault is counted down, so that the next try succeeds.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["COMMIT", "REPO", "HubServer", "Request", "serve"]

REPO, COMMIT = "org/tiny", "4c1f" + "0" * 35 + "a"
BLOCK = 1 << 16


@dataclass(frozen=True)
class Request:
    """What was asked: of which server, for what, with which range and credentials, and what was answered."""

    server: str
    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int


@dataclass
class HubServer:
    """One repository at one commit; `plain` files live in git, all others in the store. Faults are attributes."""

    files: dict[str, bytes]
    plain: tuple[str, ...] = ()
    xet: tuple[str, ...] = ()
    commit: str = COMMIT
    token: str | None = None  # who does not send it gets 401
    limits: list[dict[str, str]] = field(default_factory=list)  # headers of the next answers of the hub, all 429
    page: int = 1000  # entries of a page of the list
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)  # what the list says otherwise, by path
    sent_commit: str | None = None
    redirects: bool = True  # False: the hub serves large files itself, as some mirrors do
    generation: int = 0  # addresses signed before it was raised are expired
    expire_after: int | None = None  # requests to the store until all addresses that are out expire
    refuses: bool = False  # the store refuses every address
    flipped: Counter[str] = field(default_factory=Counter)  # answers with one wrong byte
    short: Counter[str] = field(default_factory=Counter)  # answers that end after half of their bytes
    stalled: Counter[str] = field(default_factory=Counter)  # answers that send half of their bytes, then nothing
    failing: list[int] = field(default_factory=list)  # statuses of the store's next answers
    without_ranges: bool = False
    hold_at: int | None = None  # bytes after which the store sends no more until `go` is set
    requests: list[Request] = field(default_factory=list)
    sent: int = 0  # bytes of bodies that the store handed to its sockets
    url: str = ""
    store: str = ""

    def __post_init__(self) -> None:
        self.go, self.held, self.lock = threading.Event(), threading.Event(), threading.Lock()

    def rows(self) -> list[dict[str, Any]]:
        """Return the list as the hub's API gives it."""
        folders = sorted({path.partition("/")[0] for path in self.files if "/" in path})
        return [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in folders] + [
            {**self._row(path, content), **self.listed.get(path, {})} for path, content in self.files.items()
        ]

    def _row(self, path: str, content: bytes) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "oid": git_id(content), "size": len(content), "path": path}
        if path not in self.plain:
            row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 135}
        if path in self.xet:
            row["xetHash"] = hashlib.sha256(b"xet" + content).hexdigest()
        return row

    def asked(self, server: str, method: str | None = None) -> list[Request]:
        """Return what one of the servers was asked."""
        with self.lock:
            return [seen for seen in self.requests if seen.server == server and method in {None, seen.method}]

    def once(self, counter: Counter[str], path: str) -> bool:
        """Count a fault down; return whether it happens."""
        with self.lock:
            counter[path] -= 1
            return counter[path] >= 0


def git_id(content: bytes) -> str:
    """Return a file's name in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


@contextmanager
def serve(hub: HubServer, host: str = "127.0.0.1") -> Iterator[HubServer]:
    """Run the hub and its store on free ports until the end of the block."""
    servers = [_Server((host, 0), handler, hub) for handler in (_Hub, _Store)]
    hub.url, hub.store = (f"http://{host}:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.go.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], hub: HubServer) -> None:
        self.hub = hub
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that was killed is no error of the server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    server_name = ""
    timeout = 30

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str | None) -> None:
        """Send a whole answer; underscores in header names are dashes."""
        given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        self.record(status)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **given}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def record(self, status: int) -> None:
        seen = (self.headers.get("Range"), self.headers.get("Authorization"), status)
        with self.hub.lock:
            self.hub.requests.append(Request(self.server_name, self.command, self.path, *seen))


class _Hub(_Handler):
    server_name = "hub"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, url = self.hub, urlsplit(self.path)
        with hub.lock:
            limit = hub.limits.pop(0) if hub.limits else None
        if limit is not None:
            self.answer(429, **limit)
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            wrong = "Invalid credentials in Authorization header" if self.headers.get("Authorization") else None
            code = None if wrong else "GatedRepo"
            self.answer(401, X_Error_Code=code, X_Error_Message=wrong)
        elif url.path.startswith(f"/api/models/{REPO}/revision/"):
            self._revision(unquote(url.path.rpartition("/")[2]))
        elif url.path.startswith(f"/api/models/{REPO}/tree/"):
            self._tree(url.path.rpartition("/")[2], int(parse_qs(url.query).get("cursor", ["0"])[0]))
        elif url.path.startswith(f"/{REPO}/resolve/{hub.commit}/"):
            self._file(unquote(url.path.removeprefix(f"/{REPO}/resolve/{hub.commit}/")))
        else:
            self.answer(404, X_Error_Code="RepoNotFound")

    def _revision(self, revision: str) -> None:
        if revision in {"main", self.hub.commit}:
            self.answer(200, json.dumps({"id": REPO, "sha": self.hub.commit, "siblings": []}).encode())
        else:
            self.answer(404, X_Error_Code="RevisionNotFound")

    def _tree(self, revision: str, first: int) -> None:
        if revision != self.hub.commit:
            self.answer(404, X_Error_Code="RevisionNotFound")
            return
        rows, last = self.hub.rows(), first + self.hub.page
        more = f'<{self.hub.url}/api/models/{REPO}/tree/{revision}?recursive=true&cursor={last}>; rel="next"'
        self.answer(200, json.dumps(rows[first:last]).encode(), Link=more if last < len(rows) else None)

    def _file(self, path: str) -> None:
        hub = self.hub
        content = hub.files.get(path)
        if content is None:
            self.answer(404, X_Error_Code="EntryNotFound")
            return
        commit = hub.sent_commit or hub.commit
        if path in hub.plain:
            if hub.once(hub.flipped, path):
                content = _flip(content)
            self.answer(200, content, ETag=f'W/"{git_id(hub.files[path])}"', X_Repo_Commit=commit)
            return
        linked = {"X_Linked_Size": str(len(content)), "X_Linked_Etag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if not hub.redirects:
            self.answer(200, content, X_Repo_Commit=commit, **linked)
            return
        there = f"{hub.store}/{path}?Signature={hub.generation}"
        xet = "0" * 64 if path in hub.xet else None
        self.answer(302, b"", Location=there, X_Repo_Commit=commit, X_Xet_Hash=xet, **linked)


class _Store(_Handler):
    server_name = "store"

    def do_GET(self) -> None:
        hub, url = self.hub, urlsplit(self.path)
        path, status = unquote(url.path[1:]), self._status(parse_qs(url.query).get("Signature"))
        if status != 200:
            self.answer(status, b"<Error>Request has expired</Error>" if status == 403 else b"")
            return
        content = hub.files[path]
        begin, end = 0, len(content)
        asked = self.headers.get("Range")
        if asked and not hub.without_ranges:
            begin, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            end += 1
        partial = asked is not None and not hub.without_ranges
        self.record(206 if partial else 200)
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        if partial:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.end_headers()
        self._body(path, content[begin:end])

    def _status(self, signature: list[str] | None) -> int:
        hub = self.hub
        with hub.lock:
            if hub.expire_after is not None:
                hub.expire_after -= 1
                if hub.expire_after < 0:
                    hub.generation, hub.expire_after = hub.generation + 1, None
            if hub.refuses or signature != [str(hub.generation)]:
                return 403
            return hub.failing.pop(0) if hub.failing else 200

    def _body(self, path: str, body: bytes) -> None:
        hub, half = self.hub, len(body) // 2
        if hub.once(hub.flipped, path):
            body = _flip(body)
        if hub.once(hub.short, path):
            self._send(body[:half])
            self.close_connection = True
        elif hub.once(hub.stalled, path):
            self._send(body[:half])
            hub.go.wait(20)
            self.close_connection = True
        else:
            self._send(body)

    def _send(self, body: bytes) -> None:
        hub = self.hub
        for first in range(0, len(body), BLOCK):
            block = body[first : first + BLOCK]
            with hub.lock:
                over = hub.hold_at is not None and hub.sent + len(block) > hub.hold_at
                hub.sent += 0 if over else len(block)
            if over:
                hub.held.set()
                hub.go.wait(20)
                self.close_connection = True
                return
            self.wfile.write(block)


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
