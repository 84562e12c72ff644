"""The lab's only way out: a small HTTP proxy on the bridge address, run as `python -m heavylift.lab.proxy`.

It serves an allow-list of package registries and answers 403 to anything else: a tunnel (CONNECT) for TLS, and plain
HTTP for apt, whose packages are kept so that many hosts download one once. A process of its own; stdlib only.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import os
import resource
import selectors
import shutil
import socket
import sys
import threading
import urllib.request
from collections import defaultdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Proxy", "is_lasting", "main"]

CONNECT_TIMEOUT_S = 20.0
IDLE_S = 600.0
CHUNK = 1 << 16
PASSED_ON = ("Accept", "Cache-Control", "If-Modified-Since", "If-None-Match", "Range", "User-Agent")
PASSED_BACK = ("Content-Type", "Last-Modified", "ETag", "Location", "Content-Range")


class Proxy(ThreadingHTTPServer):
    """The server, with its allow-list of `host:port` and its package cache."""

    daemon_threads = True
    request_queue_size = 512
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], *, allow: frozenset[str], cache: Path) -> None:
        super().__init__(address, Handler)
        self.allow = allow
        self.cache = cache
        self.downloads: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        cache.mkdir(parents=True, exist_ok=True)


class Handler(BaseHTTPRequestHandler):
    """One client connection."""

    server: Proxy
    begun = False
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        """Tunnel to an allowed host."""
        host, _, port = self.path.rpartition(":")
        if not self._is_allowed(host, int(port) if port.isdigit() else 0):
            return
        try:
            upstream = _connect(host.strip("[]"), int(port))
        except OSError as error:
            self._refuse(HTTPStatus.BAD_GATEWAY, f"{self.path}: {error}")
            return
        with upstream:
            self.send_response(HTTPStatus.OK, "Connection established")
            self.end_headers()
            _shovel(self.connection, upstream)
        self.close_connection = True

    def do_GET(self) -> None:
        """Fetch an allowed plain-HTTP address; packages come from the cache once they are in it."""
        parts = urlsplit(self.path)
        if not self._is_allowed(parts.hostname or "", parts.port or 80):
            return
        self.begun = False
        try:
            if self.command == "GET" and is_lasting(parts.path):
                self._serve_kept(self.path)
            else:
                self._pass_through(self.path, None)
        except (OSError, http.client.HTTPException) as error:
            self.log_error("%s: %s", self.path, error)
            self.close_connection = True
            if not self.begun:
                self._refuse(HTTPStatus.BAD_GATEWAY, f"{self.path}: {error}")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _is_allowed(self, host: str, port: int) -> bool:
        if f"{host.lower()}:{port}" in self.server.allow:
            return True
        self._refuse(
            HTTPStatus.FORBIDDEN, f"{host}:{port} is not among the registries of the machine that runs the lab"
        )
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        body = f"heavylift lab: {reason}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def _serve_kept(self, url: str) -> None:
        kept = self.server.cache / hashlib.sha256(url.encode()).hexdigest()
        with self.server.downloads[url]:
            if not kept.exists():
                self._pass_through(url, kept)
                return
        with kept.open("rb") as source:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(os.fstat(source.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(source, self.wfile, CHUNK)

    def _pass_through(self, url: str, keep: Path | None) -> None:
        """Send the origin's answer on; with `keep`, a complete 200 is also written there."""
        passed = {name: value for name in PASSED_ON if (value := self.headers.get(name))}
        if keep is not None:
            passed.pop("Range", None)
        connection, target, login = _origin(url)
        try:
            connection.request(self.command, target, headers={**passed, **login, "Host": urlsplit(url).netloc})
            answer = connection.getresponse()
            length = answer.headers.get("Content-Length")
            self._answer_head(answer, length)
            beside = keep.with_name(f"{keep.name}.{os.getpid()}") if keep and length and answer.status == 200 else None
            try:
                _copy(answer, self.wfile, beside)
                if answer.length:
                    raise http.client.IncompleteRead(b"", answer.length)  # closed, so that the client notices too
                if keep is not None and beside is not None:
                    beside.replace(keep)
            finally:
                if beside is not None:
                    beside.unlink(missing_ok=True)
        finally:
            connection.close()

    def _answer_head(self, answer: http.client.HTTPResponse, length: str | None) -> None:
        self.begun = True
        self.send_response(answer.status)
        for name in PASSED_BACK:
            if value := answer.headers.get(name):
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", length)
        elif answer.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()


def is_lasting(path: str) -> bool:
    """Whether an address of an apt archive never changes its content."""
    return unquote(path).endswith((".deb", ".udeb")) or "/by-hash/" in path


def main(argv: list[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m heavylift.lab.proxy", description=__doc__)
    parser.add_argument("--listen", required=True, help="address:port")
    parser.add_argument("--cache", required=True, type=Path, help="folder for packages")
    parser.add_argument("--allow", action="append", default=[], help="host:port; may be given many times")
    options = parser.parse_args(argv)
    host, _, port = options.listen.rpartition(":")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two a tunnel, and pip and uv open dozens
    with Proxy((host, int(port)), allow=frozenset(options.allow), cache=options.cache) as server:
        server.serve_forever()


def _connect(host: str, port: int) -> socket.socket:
    """Open a connection, through the machine's own proxy where it has one."""
    parent = _parent("https", host)
    if parent is None:
        return socket.create_connection((host, port), CONNECT_TIMEOUT_S)
    connection = http.client.HTTPConnection(parent[0], timeout=CONNECT_TIMEOUT_S)
    connection.set_tunnel(host, port, parent[1])
    connection.connect()
    return connection.sock


def _origin(url: str) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """Choose whom to ask for a plain-HTTP address, and how to put it."""
    parts = urlsplit(url)
    parent = _parent("http", parts.hostname or "")
    if parent is not None:
        return http.client.HTTPConnection(parent[0], timeout=CONNECT_TIMEOUT_S), url, parent[1]
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    return http.client.HTTPConnection(parts.netloc, timeout=CONNECT_TIMEOUT_S), target, {}


def _parent(scheme: str, host: str) -> tuple[str, dict[str, str]] | None:
    url = urllib.request.getproxies().get(scheme)
    if not url or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    login, _, address = parts.netloc.rpartition("@")
    headers = {"Proxy-Authorization": f"Basic {base64.b64encode(unquote(login).encode()).decode()}"} if login else {}
    return address, headers


def _copy(source: http.client.HTTPResponse, client: BufferedIOBase, beside: Path | None) -> None:
    if beside is None:
        shutil.copyfileobj(source, client, CHUNK)
        return
    with beside.open("wb") as copy:
        while chunk := source.read(CHUNK):
            copy.write(chunk)
            client.write(chunk)


def _shovel(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either end closes or nothing moves for a long time."""
    pairs = {one: other, other: one}
    for side in pairs:
        side.settimeout(IDLE_S)
    with selectors.PollSelector() as selector:  # select() ends at descriptor 1024
        for side in pairs:
            selector.register(side, selectors.EVENT_READ)
        while ready := selector.select(IDLE_S):
            for key, _ in ready:
                source = one if key.fileobj is one else other
                if not _carry(source, pairs[source]):
                    return


def _carry(source: socket.socket, target: socket.socket) -> bool:
    try:
        data = source.recv(CHUNK)
        target.sendall(data)
    except OSError:
        return False
    return bool(data)


if __name__ == "__main__":
    main(sys.argv[1:])
