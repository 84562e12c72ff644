"""The gate: a replica is up when it streamed real tokens and its own counters moved by them.

A 200 from /health proves nothing. Tokens are counted from `usage`, never from chunks: one chunk may carry several.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["GateFailed", "main", "prove", "wait"]

PROMPT = "Count the stars."
TOKENS = 16
COUNTER = "vllm:generation_tokens_total"


class GateFailed(RuntimeError):
    """The engine answered, but not with what was asked; the message says what it did."""


def main(query: dict[str, Any]) -> dict[str, Any]:
    """Wait until the engine answers (while `pid` lives, `timeout_s` at most), then let it prove itself.

    `record` names a file that keeps the result for whoever asks later.
    """
    replica = Replica(query)
    wait(replica, query.get("timeout_s", 60.0), query.get("pid") or int(os.environ.get("MAINPID", "0")))
    proof = {**prove(replica), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    if query.get("record"):
        record = Path(query["record"])
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(proof, sort_keys=True) + "\n", encoding="utf-8")
    return proof


class Replica:
    """How to reach one engine: `address`, `port`, `model`, and the key's file or variable."""

    def __init__(self, query: dict[str, Any]) -> None:
        self.address = str(query.get("address") or os.environ["HEAVYLIFT_ADDRESS"])
        self.port = int(query.get("port") or os.environ["HEAVYLIFT_PORT"])
        self.model = str(query["model"])
        self.key = _key(query.get("key_file"))

    def get(self, path: str, timeout_s: float = 10.0) -> tuple[int, str]:
        """GET a path; return status and body."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()


def wait(replica: Replica, timeout_s: float, pid: int = 0) -> None:
    """Return once the engine says it is ready; raise when its process is gone or the time is over."""
    until, last = time.monotonic() + timeout_s, "nothing listens"
    while True:
        try:
            status, _ = replica.get("/health")
            if status == 200:
                return
            last = f"/health says {status}"
        except (OSError, http.client.HTTPException) as error:
            last = str(error) or type(error).__name__
        if pid and not _alive(pid):
            raise GateFailed("the engine ended before it served")
        if time.monotonic() > until:
            raise GateFailed(f"not ready within {timeout_s:g} s ({last})")
        time.sleep(0.25)


def prove(replica: Replica, timeout_s: float = 120.0) -> dict[str, Any]:
    """Stream one chat completion; return tokens, time to the first of them and in all (seconds), counter's move."""
    before = counter(replica)
    began = time.monotonic()
    first, tokens, text = _stream(replica, timeout_s)
    seconds = time.monotonic() - began
    if tokens < 1 or first is None or not text:
        raise GateFailed(f"answered without tokens ({tokens} in usage, {len(text)} characters)")
    moved = _moved(replica, before, tokens)
    return {
        "tokens": tokens,
        "ttft_s": round(first - began, 4),
        "seconds": round(seconds, 4),
        "counter": moved,
        "text": text,
    }


def counter(replica: Replica) -> float:
    """Return the sum of `vllm:generation_tokens_total` over all engines behind the port."""
    status, body = replica.get("/metrics")
    rows = [line for line in body.splitlines() if line.startswith((COUNTER + "{", COUNTER + " "))]
    if status != 200 or not rows:
        raise GateFailed(f"/metrics says {status} and has no {COUNTER}")
    return sum(float(row.rpartition(" ")[2]) for row in rows)


def _moved(replica: Replica, before: float, tokens: int) -> int:
    """Return by how much the counter moved; it may lag the stream by a moment, and other traffic moves it too."""
    until = time.monotonic() + 5.0
    while True:
        moved = counter(replica) - before
        if moved >= tokens:
            return int(moved)
        if time.monotonic() > until:
            raise GateFailed(f"streamed {tokens} tokens but {COUNTER} moved by {moved:g}")
        time.sleep(0.05)


def _stream(replica: Replica, timeout_s: float) -> tuple[float | None, int, str]:
    body = {
        "model": replica.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Content-Type": "application/json"}
    if replica.key:
        headers["Authorization"] = f"Bearer {replica.key}"
    connection = http.client.HTTPConnection(replica.address, replica.port, timeout=timeout_s)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise GateFailed(f"the chat completion says {answer.status}: {answer.read(300).decode('utf-8', 'replace')}")
        return _read(answer)
    except (OSError, http.client.HTTPException) as error:
        raise GateFailed(f"the stream broke off: {error}") from None
    finally:
        connection.close()


def _read(answer: http.client.HTTPResponse) -> tuple[float | None, int, str]:
    first, tokens, text = None, 0, ""
    for raw in answer:
        line = raw.decode("utf-8", "replace").strip()
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = _event(line)
        if "error" in event:
            raise GateFailed(f"the stream carried an error: {json.dumps(event['error'])[:300]}")
        for choice in event.get("choices", []):
            delta = choice.get("delta", {})
            piece = delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content") or ""
            if piece and first is None:
                first = time.monotonic()
            text += piece
        if event.get("usage"):
            tokens = int(event["usage"].get("completion_tokens", 0))
    return first, tokens, text


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line[6:])
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise GateFailed(f"the stream carried no event: {line[:200]}")
    return event


def _key(path: str | None) -> str:
    """Return the API key: from a file, from systemd's credentials, or from the environment; empty without one."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(path) if path else Path(credentials) / "api-key" if credentials else None
    if file is not None and file.is_file():
        return file.read_text(encoding="utf-8").strip()
    return os.environ.get("VLLM_API_KEY", "")


def _alive(pid: int) -> bool:
    """Return whether a process runs; one that ended but was not waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
