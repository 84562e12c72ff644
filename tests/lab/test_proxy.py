"""The proxy, against an origin on this machine."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from heavylift.lab.proxy import Proxy, is_lasting


class Origin(BaseHTTPRequestHandler):
    """Answers with the path, and counts requests."""

    asked: list[str] = []  # noqa: RUF012 - shared by all connections on purpose

    def do_GET(self) -> None:
        """Answer with the path."""
        self.asked.append(self.path)
        body = f"content of {self.path}".encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(body) + (5 if "short" in self.path else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Give the ports of the proxy and of an origin that it allows."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    Origin.asked.clear()
    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Origin)) as origin:
        allow = frozenset({f"127.0.0.1:{origin}"})
        proxy = Proxy(("127.0.0.1", 0), allow=allow, cache=tmp_path / "cache")
        with _serving(proxy) as port:
            yield port, origin


def _get(port: int, url: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_other_hosts_are_refused(ports: tuple[int, int]) -> None:
    """A host or a port that is not listed gets 403 and a reason."""
    proxy, origin = ports
    reason = "is not among the registries of the machine that runs the lab\n"
    assert _get(proxy, "http://other.example/x") == (403, f"heavylift lab: other.example:80 {reason}")
    assert _get(proxy, f"http://127.0.0.1:{origin + 1}/x") == (403, f"heavylift lab: 127.0.0.1:{origin + 1} {reason}")
    assert Origin.asked == []


def test_tunnel_to_another_host_is_refused(ports: tuple[int, int]) -> None:
    """CONNECT is held to the same list."""
    connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=5)
    connection.set_tunnel("other.example", 443)
    with pytest.raises(OSError, match="Tunnel connection failed: 403"):
        connection.connect()
    connection.close()


def test_tunnel_carries_both_ways(ports: tuple[int, int]) -> None:
    """Through an allowed tunnel the origin answers as if asked directly."""
    proxy, origin = ports
    connection = http.client.HTTPConnection("127.0.0.1", proxy, timeout=5)
    connection.set_tunnel("127.0.0.1", origin)
    connection.request("GET", "/through")
    assert connection.getresponse().read() == b"content of /through"
    connection.close()


def test_packages_are_fetched_once(ports: tuple[int, int]) -> None:
    """The second request for a .deb does not reach the origin; other files always do."""
    proxy, origin = ports
    for path in ("/a.deb", "/a.deb", "/InRelease", "/InRelease"):
        assert _get(proxy, f"http://127.0.0.1:{origin}{path}") == (200, f"content of {path}")
    assert Origin.asked == ["/a.deb", "/InRelease", "/InRelease"]


def test_failures_are_not_kept(ports: tuple[int, int], tmp_path: Path) -> None:
    """A 404 and an answer that was cut short are passed on but never stored."""
    proxy, origin = ports
    assert _get(proxy, f"http://127.0.0.1:{origin}/missing.deb")[0] == 404
    with pytest.raises(http.client.IncompleteRead):
        _get(proxy, f"http://127.0.0.1:{origin}/short.deb")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pool/a_1%2b2_amd64.deb", True),
        ("/dists/bookworm/main/by-hash/SHA256/00", True),
        ("/dists/bookworm/InRelease", False),
        ("/x.deb.asc", False),
    ],
)
def test_what_lasts(path: str, expected: bool) -> None:
    """Only packages and files named by their own hash never change."""
    assert is_lasting(path) is expected
