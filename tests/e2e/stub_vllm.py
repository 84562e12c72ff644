#!/usr/bin/python3
"""Stands for vLLM in tests whose fault is the host's, not the engine's: same command line, same four paths, no model.

It is laid on lab hosts as `/opt/heavylift/engines/<name>/bin/vllm`. Nothing outside `tests/e2e/` knows of it; what is
claimed about real engines is tested with real engines.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COUNTER = "vllm:generation_tokens_total"
HOLD = "/run/hold"  # while a test keeps this file, the start takes longer
KEY = os.environ.get("VLLM_API_KEY")
LOCK = threading.Lock()
GENERATED = {"tokens": 0}


class Handler(BaseHTTPRequestHandler):
    """Answers /health, /metrics and streamed chat completions."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say that it is well, or how much was generated."""
        body = f'{COUNTER}{{engine="0"}} {GENERATED["tokens"]}\n' if self.path == "/metrics" else ""
        self._answer(200, body.encode(), "text/plain")

    def do_POST(self) -> None:
        """Stream `max_tokens` words and their usage."""
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if KEY and self.headers.get("Authorization") != f"Bearer {KEY}":
            self._answer(401, b'{"error": "Unauthorized"}', "application/json")
            return
        tokens = int(query["max_tokens"])
        events: list[dict[str, object]] = [{"choices": [{"delta": {"content": "star "}}]}] * tokens
        events.append({"choices": [], "usage": {"completion_tokens": tokens}})
        with LOCK:
            GENERATED["tokens"] += tokens
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self._answer(200, body.encode(), "text/event-stream")

    def log_message(self, *_: object) -> None:
        """Keep the journal short."""

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until SIGTERM."""
    words = sys.argv[1:]
    with open(f"{words[1]}/config.json", encoding="utf-8") as config:  # noqa: PTH123
        json.load(config)
    address, port = words[words.index("--host") + 1], int(words[words.index("--port") + 1])
    while os.path.exists(HOLD):  # noqa: PTH110
        time.sleep(0.1)
    server = ThreadingHTTPServer((address, port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(f"stands for vLLM on {address}:{port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
