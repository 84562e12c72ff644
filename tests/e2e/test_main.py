"""The main job with real engines: one file, two hosts, tokens; then looked at, changed, and restarted."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from heavylift.lab import Lab
from heavylift.run import run

from .support import Site, counter, deployment, finish, stream, until, verdicts

pytestmark = pytest.mark.lab

KEY = "e2e-main-key-7d1f"
HOSTS = ("h1", "h2")
START_S = 180  # two engines at once on two cores


@pytest.fixture(scope="module")
def served(ready: None, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two real engines behind a key, brought up by one `heavylift up`, whose words are kept in `up.log`."""
    lab = Lab("e2e")
    lab.down()
    site = deployment(lab, tmp_path_factory.mktemp("main"), model, 2)
    site.change(access={"key": "HEAVYLIFT_API_KEY"}, monitoring={"labels": {"team": "search"}})
    site.environment["HEAVYLIFT_API_KEY"] = KEY
    up = site.heavylift("up", within_s=START_S)
    assert up.returncode == 0, up.stderr
    (site.folder / "up.log").write_text(up.stderr)
    (site.folder / "up.out").write_text(up.stdout)
    yield site
    site.end()
    lab.down()


def test_up_ends_with_urls_and_a_curl_line_that_works(served: Site) -> None:
    """Standard output is the URLs alone; the last line can be pasted as it is, and holds no key."""
    urls = [f"http://{served.address(host)}:8000" for host in HOSTS]
    assert (served.folder / "up.out").read_text().splitlines() == urls
    line = (served.folder / "up.log").read_text().splitlines()[-1]
    assert line.startswith("try: curl -s http://")
    assert "Bearer $HEAVYLIFT_API_KEY" in line
    said = json.loads(run(["sh", "-c", line.removeprefix("try: ")], env=served.environment).stdout)
    assert said["usage"]["completion_tokens"] > 0
    assert said["choices"][0]["message"]["content"]


def test_both_stream_and_their_counters_move_by_it(served: Site) -> None:
    """Tokens are what `usage` says, and the engine's own counter moves by exactly that."""
    addresses = [served.address(host) for host in HOSTS]
    before = [counter(address) for address in addresses]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda address: stream(address, tokens=64, key=KEY), addresses))
    assert [answer[:2] for answer in answers] == [(200, 64), (200, 64)]
    assert answers[0][2] == answers[1][2] != ""
    until(
        lambda: [counter(address) - was for address, was in zip(addresses, before, strict=True)] == [64, 64], within_s=5
    )


def test_without_the_key_nothing_is_answered(served: Site) -> None:
    """The key is wanted by both, and is on no command line and in no environment file."""
    assert [stream(served.address(host))[0] for host in HOSTS] == [401, 401]
    assert stream(served.address("h1"), key="another")[0] == 401
    search = "grep -lsFf - /proc/[0-9]*/cmdline /etc/heavylift/*/*.env /opt/heavylift/tiny/releases/*/*"
    assert served.on("h1", search, input=KEY, check=False) == ""


def test_a_second_apply_changes_nothing(served: Site) -> None:
    """It says so, and both engines are the same processes as before."""
    before = [served.pid(host) for host in HOSTS]
    again = served.heavylift("apply")
    assert (verdicts(again), again.returncode) == (["h1: nothing to change", "h2: nothing to change"], 0)
    assert [served.pid(host) for host in HOSTS] == before


def test_status_shows_what_is_generated(served: Site) -> None:
    """Tokens per second are those of the last second; `--json` has the same and the gate's proof."""
    over = threading.Event()
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(_use, served.address("h1"), over, tokens=100, pause_s=0)
        try:
            document = json.loads(served.heavylift("status", "--json").stdout)
        finally:
            over.set()
        assert busy.result().broken == []
    assert (document["schema"], document["version"], document["deployment"]) == ("heavylift/status", 1, "tiny")
    first, second = document["replicas"]
    assert first["tokens_per_s"] > 0
    assert first["running"] in {0, 1}
    assert second["tokens_per_s"] == 0
    assert (second["state"], second["release"], second["error"]) == ("active", document["release"], None)
    assert (second["gate"]["tokens"], second["gate"]["counter"]) == (16, 16)
    table = served.heavylift("status")
    assert table.returncode == 0
    row = table.stdout.splitlines()[2].split()
    assert row[:3] == ["h2", "active", document["release"]]
    assert row[-1] == f"http://{served.address('h2')}:8000"


def test_logs(served: Site) -> None:
    """Each line with its host; a host that does not exist is named; following ends at once with Ctrl-C."""
    lines = served.heavylift("logs", "--lines", "5").stdout.splitlines()
    assert sorted(line[:4] for line in lines) == ["h1  "] * 5 + ["h2  "] * 5
    wrong = served.heavylift("logs", "--host", "h9")
    assert (wrong.stderr, wrong.returncode) == ("error: no host 'h9'; the inventory has h1, h2\n", 1)
    following = served.begin("logs", "--follow", "--lines", "1")
    until(lambda: {line[:2] for line in served.said.splitlines()} >= {"h1", "h2"})
    following.send_signal(signal.SIGINT)
    assert finish(following, within_s=5) == 130


def test_the_unit_is_what_systemd_expects(served: Site) -> None:
    """Its own checker has nothing to say, and its limits stand in the right order."""
    assert served.on("h1", f"systemd-analyze verify /etc/systemd/system/{served.unit} 2>&1") == ""
    properties = "TimeoutStartUSec,TimeoutStopUSec,KillMode,Restart,User,UMask,OOMPolicy"
    shown = served.on("h1", f"systemctl show {served.unit} -p {properties}").splitlines()
    expected = {
        "KillMode=mixed",
        "Restart=always",
        "User=heavylift",
        "UMask=0077",
        "OOMPolicy=stop",
        "TimeoutStopUSec=1min 30s",
    }
    assert expected <= set(shown)
    shutdown = served.on("h1", r"grep -o 'shutdown-timeout [0-9]*' /opt/heavylift/tiny/current/serve")
    assert 60 < int(shutdown.split()[1]) < 90  # longest request < engine < systemd


def test_limits_are_raised(served: Site) -> None:
    """What the kernel says, since systemd repeats what was asked even where it could not."""
    limits = served.on("h1", f"cat /proc/{served.pid('h1')}/limits")
    files = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files"))
    possible = served.on("h1", "ulimit -Hn")
    if int(possible) < 1048576:
        pytest.skip(f"this machine's hosts cannot raise limits above {possible}")
    assert files == "1048576"


def test_prometheus_can_be_attached(served: Site) -> None:
    """The scrape file names every replica with its labels, and each answers there."""
    document = yaml.safe_load((served.folder / ".heavylift/prometheus.yml").read_text())
    rows = document["scrape_configs"][0]["static_configs"]
    assert [row["targets"] for row in rows] == [[f"{served.address(host)}:8000"] for host in HOSTS]
    labels = {"deployment": "tiny", "host": "h1", "model": "tiny", "team": "search"}
    assert {key: rows[0]["labels"][key] for key in labels} == labels


def test_a_changed_argument_waits_for_a_decision(served: Site) -> None:
    """The release is staged, what serves is not disturbed, and the line says what to do."""
    before = [served.pid(host) for host in HOSTS]
    _lessen(served)
    dry = served.heavylift("apply", "--dry-run")
    assert "  +  --max-num-seqs 12" in "\n".join(dry.stdout.splitlines()).replace(" \\", "")
    done = served.heavylift("apply")
    old = served.on("h1", "basename $(readlink /opt/heavylift/tiny/current)")
    line = f"release {old} serves; `heavylift apply --restart` changes one host after the other"
    assert (verdicts(done), done.returncode) == ([f"h1: {line}", f"h2: {line}"], 0)
    assert [served.pid(host) for host in HOSTS] == before
    assert len(served.on("h1", "ls /opt/heavylift/tiny/releases").split()) == 2
    assert served.heavylift("status").stdout.splitlines()[1].split()[3:6] == ["(not", "this", "file's)"]


def test_a_restart_loses_no_stream(served: Site) -> None:
    """One host after the other: while one restarts the other serves, and a stream that runs is finished first."""
    _lessen(served)
    over = threading.Event()
    process = served.begin("apply", "--restart")
    with ThreadPoolExecutor() as pool:
        users = {host: pool.submit(_use, served.address(host), over) for host in HOSTS}
        try:
            through = {host: _stream_through(served, host) for host in HOSTS}
            assert finish(process, within_s=START_S) == 0, served.said
        finally:
            over.set()
        seen = {host: user.result() for host, user in users.items()}
    assert re.findall(r"(h\d): restarting into release \w+", served.said) == ["h1", "h2"]
    for host in HOSTS:
        assert through[host] == (200, 600)
        assert (seen[host].broken, seen[host].finished > 0, len(seen[host].down) > 0) == ([], True, True)
        assert served.on(host, "grep -c 'max-num-seqs 12' /proc/*/cmdline", check=False) != "0"
    assert seen["h1"].down & seen["h2"].down == set()


def test_the_engine_says_why_it_does_not_start(served: Site, tmp_path: Path, model: Path) -> None:
    """An argument that fits the parser but not the model: the engine's own line, in time, and no restart loop."""
    before = served.pid("h1")
    site = _second(served, tmp_path, model)
    site.change(engine={"arguments": {**site.document["engine"]["arguments"], "kv-cache-memory-bytes": 65536}})
    done = site.heavylift("apply", within_s=90)
    assert done.returncode == 1
    lines = verdicts(done)
    assert len(lines) == 1
    why = "No available memory for the cache blocks"
    assert lines[0].startswith(f"error: h1: the engine did not start: ValueError: {why}.")
    advice = "raise gpu-memory-utilization or kv-cache-memory-bytes, or spread the weights over more GPUs"
    assert lines[0].endswith(f"({advice})")
    assert site.on("h1", f"systemctl is-active {site.unit}", check=False) in {"inactive", "failed"}
    assert served.pid("h1") == before
    assert stream(served.address("h1"), key=KEY)[:2] == (200, 16)


@pytest.mark.long
def test_a_config_that_the_engine_cannot_read(served: Site, tmp_path: Path, model: Path) -> None:
    """The decisive line is found although the engine goes on complaining after it."""
    site = _second(served, tmp_path, model)
    config = site.folder / "model/config.json"
    document = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in document.items() if key != "topk_method"}))
    done = site.heavylift("apply", within_s=90)
    assert done.returncode == 1
    assert re.match(
        r"error: h1: the engine did not start: .*e_score_correction_bias.*\(config.json lacks", verdicts(done)[0]
    )


def _lessen(served: Site) -> None:
    """Ask for something else than what serves."""
    served.change(engine={"arguments": {**served.document["engine"]["arguments"], "max-num-seqs": 12}})


def _second(served: Site, folder: Path, model: Path) -> Site:
    """Write another deployment for h1 alone, beside the one that serves there."""
    site = deployment(served.lab, folder, model, 1)
    document = {**site.document, "name": "second"}
    site.file.write_text(yaml.safe_dump(document))
    site.change(access={"port": 8100})
    inventory = json.loads((served.folder / ".heavylift/inventory.json").read_text())
    inventory["hosts"] = inventory["hosts"][:1]
    (folder / ".heavylift").mkdir()
    (folder / ".heavylift/inventory.json").write_text(json.dumps(inventory))
    return site


def _stream_through(served: Site, host: str) -> tuple[int, int]:
    """Stream without a pause until a host's engine is stopped; return what became of the stream that ran just then."""
    until(lambda: "Service | Activate" in served.said.partition(f"{host}: restarting")[2], within_s=START_S)
    streams: list[tuple[float, float, int, int]] = []
    with contextlib.suppress(ConnectionRefusedError):
        while not streams or streams[-1][2] == 200:
            began = time.time()
            status, tokens, _ = stream(served.address(host), tokens=600, key=KEY)
            streams.append((began, time.time(), status, tokens))
    journal = f"journalctl -u {served.unit} -o short-unix -g ^Stopping -n 1 -q"
    stopped = float(served.on(host, journal).split()[0])
    (through,) = [(status, tokens) for began, ended, status, tokens in streams if began < stopped < ended]
    return through


@dataclass
class Seen:
    """What one user met: short streams that were finished or broken off, and the seconds in which nobody answered."""

    finished: int = 0
    broken: list[str] = field(default_factory=list)
    down: set[int] = field(default_factory=set)


def _use(address: str, over: threading.Event, *, tokens: int = 8, pause_s: float = 1.0) -> Seen:
    """Stream a little, and again after a pause, until it is over."""
    seen = Seen()
    while not over.wait(pause_s):
        try:
            answer = stream(address, tokens=tokens, key=KEY)
        except ConnectionRefusedError:
            seen.down.add(int(time.monotonic()))
        except (OSError, http.client.HTTPException, AssertionError) as error:
            seen.broken.append(repr(error))
        else:
            if answer[:2] == (200, tokens):
                seen.finished += 1
            else:
                seen.down.add(int(time.monotonic()))
    return seen
