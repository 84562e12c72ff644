"""The gate against a real HTTP server on loopback, which answers as vLLM does, well and badly."""

from __future__ import annotations

import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from heavylift.onhost import gate, status


class Engine(ThreadingHTTPServer):
    """A stand-in engine: `events` are streamed in order, each scrape of the counter takes the next of `counts`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.events, self.cut = [*chunks("one", " two"), usage(7)], False
        self.counts, self.health, self.code = [100, 107], [200], 200
        self.asked, self.authorization = {}, None
        self.metrics = 'vllm:generation_tokens_total{{engine="0"}} {}.0\n'

    @property
    def query(self):
        """What the gate is told."""
        return {"address": "127.0.0.1", "port": self.server_port, "model": "tiny", "timeout_s": 5}


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing on stderr."""

    def do_GET(self):
        """Answer /health and /metrics; the last of several answers stays."""
        if self.path == "/health":
            self._send(_next(self.server.health), b"")
        else:
            self._send(200, b"# HELP x\n" + self.server.metrics.format(_next(self.server.counts)).encode())

    def do_POST(self):
        """Stream the events, or refuse."""
        self.server.authorization = self.headers.get("Authorization")
        self.server.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.code != 200:
            self._send(self.server.code, b'{"error": "no"}')
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self.server.events:
            self.wfile.write(f"{len(event.encode()):x}\r\n{event}\r\n".encode())
        if self.server.cut:
            self.wfile.write(b"ff\r\ndata: {")
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _next(answers):
    return answers.pop(0) if len(answers) > 1 else answers[0]


def chunks(*texts):
    """Return one streamed event per text; how many tokens each carries, it does not say."""
    return [event({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in texts]


def usage(tokens):
    """Return the last event, which has usage and no choice."""
    return event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})


def event(document):
    """Return one server-sent event."""
    return f"data: {json.dumps(document)}\n\n"


@pytest.fixture
def engine(monkeypatch):
    """Run an engine; the gate's patience is cut to a moment."""
    real = gate.time.monotonic
    monkeypatch.setattr(gate.time, "sleep", lambda _seconds: None)
    server = Engine()
    server.now = real
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def refusal(engine, **query):
    """Return why the gate stays shut."""
    with pytest.raises(gate.GateFailed) as refused:
        gate.main({**engine.query, **query})
    return str(refused.value)


def test_a_replica_that_streams_passes(engine, tmp_path):
    """Tokens come from usage, not from chunks; the proof is kept where it is asked for, and nothing is sampled."""
    record = tmp_path / "run" / "gate.json"
    proof = gate.main({**engine.query, "record": str(record)})
    assert (proof["tokens"], proof["counter"], proof["text"]) == (7, 7, "one two")
    assert 0 <= proof["ttft_s"] <= proof["seconds"] < 5
    assert json.loads(record.read_text()) == proof
    assert engine.asked == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Count the stars."}],
        "max_tokens": 16,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert engine.authorization is None


def test_reasoning_is_text_too(engine):
    """Models that think first stream under another name."""
    engine.events = [
        event({"choices": [{"delta": {"role": "assistant"}}]}),
        event({"choices": [{"delta": {"reasoning": "hm"}}]}),
    ]
    engine.events += [event({"choices": [{"delta": {"content": None, "reasoning_content": "!"}}]}), usage(2)]
    assert gate.main(engine.query)["text"] == "hm!"


def test_an_engine_that_is_slow_to_start_is_waited_for(engine):
    """503 until it is ready; what it said last is told where the time is over."""
    engine.health = [503, 503, 503, 200]
    assert gate.main(engine.query)["tokens"] == 7
    engine.health = [503]
    assert refusal(engine, timeout_s=0.05) == "not ready within 0.05 s (/health says 503)"


def test_nobody_listens(engine):
    """A closed port is told from an engine that is not ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert (
            refusal(engine, port=free.getsockname()[1], timeout_s=0.05)
            == "not ready within 0.05 s ([Errno 111] Connection refused)"
        )


def test_an_engine_that_ended_is_not_waited_for(engine):
    """Its process is gone, so nothing will come; the gate says so at once instead of after the time limit."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    engine.health = [503]
    assert refusal(engine, timeout_s=600, pid=child) == "the engine ended before it served"


def test_an_answer_without_tokens(engine):
    """A 200 that streams nothing, counts nothing, or says nothing, proves nothing."""
    engine.events = ["data: [DONE]\n\n"]
    assert refusal(engine) == "answered without tokens (0 in usage, 0 characters)"
    engine.events = [usage(3)]
    assert refusal(engine) == "answered without tokens (3 in usage, 0 characters)"
    engine.events = chunks("one")
    assert refusal(engine) == "answered without tokens (0 in usage, 3 characters)"


def test_an_error_in_a_stream_that_began_well(engine):
    """Once a stream runs, vLLM can only tell an error inside it; the status stays 200."""
    engine.events = [*chunks("one"), event({"error": {"message": "EngineCore died", "code": 500}})]
    assert refusal(engine) == 'the stream carried an error: {"message": "EngineCore died", "code": 500}'


@pytest.mark.parametrize("code", [400, 401, 404, 500, 503])
def test_a_refused_request(engine, code):
    """The status and the first words of the answer."""
    engine.code = code
    assert refusal(engine) == f'the chat completion says {code}: {{"error": "no"}}'


def test_a_counter_that_does_not_move(engine, monkeypatch):
    """Tokens that the engine's own counter does not know were not made by it."""
    engine.counts = [100, 104]
    ticks = iter(range(1000))
    monkeypatch.setattr(gate.time, "monotonic", lambda: float(next(ticks)))
    assert refusal(engine) == "streamed 7 tokens but vllm:generation_tokens_total moved by 4"


def test_a_counter_that_lags_or_counts_others_too(engine):
    """It is asked again until it moved by what was streamed; other traffic only adds."""
    engine.counts = [100, 100, 103, 121]
    assert gate.main(engine.query)["counter"] == 21


def test_several_engines_behind_one_port(engine):
    """Data-parallel ranks have a row each; their sum counts."""
    engine.metrics = (
        'vllm:generation_tokens_total{{engine="0"}} 50.0\nvllm:generation_tokens_total{{engine="1"}} {}.0\n'
    )
    assert gate.counter(gate.Replica(engine.query)) == 150
    engine.metrics = "other_total {}\n"
    with pytest.raises(gate.GateFailed, match="/metrics says 200 and has no vllm:generation_tokens_total"):
        gate.counter(gate.Replica(engine.query))


def test_a_stream_that_breaks_off(engine):
    """The engine dies in the middle of an event, or its proxy answers with something else: one line, no traceback."""
    engine.cut = True
    assert refusal(engine) == "the stream broke off: IncompleteRead(0 bytes read)"
    engine.cut, engine.events = False, [*chunks("one"), 'data: {"choices": [{"del\n\n']
    assert refusal(engine) == """the stream carried no event: data: {"choices": [{"del"""


@pytest.mark.parametrize("where", ["file", "credential", "variable"])
def test_the_key_comes_from_where_it_lies(engine, tmp_path, monkeypatch, where):
    """A file that is named, systemd's credential, or the environment; its line end is not part of it."""
    (tmp_path / "api-key").write_text("secret-1\n")
    if where == "credential":
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    if where == "variable":
        monkeypatch.setenv("VLLM_API_KEY", "secret-1")
    gate.main({**engine.query, **({"key_file": str(tmp_path / "api-key")} if where == "file" else {})})
    assert engine.authorization == "Bearer secret-1"


def test_address_and_pid_come_from_the_unit(engine, monkeypatch):
    """In ExecStartPost the query holds what all hosts share; the rest is in the unit's environment."""
    monkeypatch.setenv("HEAVYLIFT_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("HEAVYLIFT_PORT", str(engine.server_port))
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    assert gate.main({"model": "tiny", "timeout_s": 5})["tokens"] == 7


def test_status_scrapes_the_same_engine(engine, monkeypatch):
    """Sums over engines, the mean for the cache's use, rates between two scrapes."""
    engine.metrics = (
        'vllm:generation_tokens_total{{engine="0"}} {}.0\nvllm:kv_cache_usage_perc{{engine="0"}} 0.5\n'
        'vllm:kv_cache_usage_perc{{engine="1"}} 0.25\nvllm:num_requests_running{{engine="0"}} 3.0\n'
        "vllm:num_requests_waiting 1.0\n"
    )
    assert status.scrape("127.0.0.1", engine.server_port) == {
        "vllm:generation_tokens_total": 100.0,
        "vllm:kv_cache_usage_perc": 0.375,
        "vllm:num_requests_running": 3.0,
        "vllm:num_requests_waiting": 1.0,
    }
    ticks = iter([0.0, 2.0])
    monkeypatch.setattr(status.time, "monotonic", lambda: next(ticks))
    engine.counts = [100, 150]
    assert status._rates({"address": "127.0.0.1", "port": engine.server_port}) == {
        "tokens_per_s": 25.0,
        "kv_cache_use": 0.375,
        "running": 3,
        "waiting": 1,
    }
