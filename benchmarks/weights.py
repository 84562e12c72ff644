"""Weights on a host: verifying beside `sha256sum` on all cores, and what a fetch killed at half moves again.

`verify --deep` runs as on a host: the program's own process, with its start. Cold means that the files' pages were
dropped from the cache before. Fetching is from a small hub on loopback, beside curl without any hashing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heavylift.apply.fetch import Addresses, Job
from heavylift.fleet.onhost import application
from heavylift.onhost import checkpoint, fetch
from heavylift.weights import promise
from heavylift.weights.hub import Hub
from heavylift.weights.remote import look_up
from heavylift.weights.select import Wish
from tests.weights.checkpoints import shard
from tests.weights.hub_server import COMMIT, REPO, HubServer, serve

INDEX = "model.safetensors.index.json"


def main() -> None:
    """Measure in a temporary folder and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the checkpoint")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--in", dest="folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        files = repository(options.mib << 20, options.shards)
        program = Path(folder) / "heavylift-host"
        program.write_bytes(application())
        directory, manifest = lay(Path(folder) / "model", files)
        for cold in (False, True):
            verified(program, directory, manifest, cold=cold, runs=options.runs)
        subprocess.run(["rm", "-r", str(directory)], check=True)
        killed(program, Path(folder), files)
        fetched(program, Path(folder), files, options.runs)


def repository(size: int, count: int) -> dict[str, bytes]:
    """Return a model of `count` shards."""
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    files = {name: shard({name: os.urandom(size // count)}) for name in names}
    index = json.dumps({"weight_map": {name: name for name in names}}).encode()
    return {**files, INDEX: index, "config.json": b'{"model_type": "tiny"}'}


def lay(directory: Path, files: dict[str, bytes]) -> tuple[Path, str]:
    """Publish a checkpoint as `apply` does; return its folder and its manifest's sha256."""
    staging = directory.with_name("model.partial")
    staging.mkdir()
    for name, content in files.items():
        (staging / name).write_bytes(content)
    manifest = promise(staging)
    checkpoint.publish_main({"staging": str(staging), "directory": str(directory)})
    return directory, manifest.sha256


def verified(program: Path, directory: Path, manifest: str, *, cold: bool, runs: int) -> None:
    """Compare `verify --deep` with sha256sum, one beside the other in each pass."""
    names = sorted(path.name for path in directory.glob("*.safetensors"))
    size = sum((directory / name).stat().st_size for name in names)
    query = json.dumps({"directory": str(directory), "manifest": manifest, "deep": True})
    ours = [sys.executable, str(program), "verify", query]
    theirs = ["xargs", "-P", str(os.cpu_count()), "-n", "1", "sha256sum"]
    rows: list[tuple[float, float, float]] = []
    for _ in range(runs):
        seconds = []
        for argv in (ours, theirs, ["xargs", "-P", str(os.cpu_count()), "-n", "1", "cat"]):
            if cold:
                forget(directory)
            seconds.append(timed(lambda argv=argv: run(argv, directory, names)))  # type: ignore[misc]
        rows.append((seconds[0], seconds[1], seconds[2]))
    ratios = [sha256sum / verify for verify, sha256sum, _ in rows]
    report = {
        "measure": "verify --deep beside sha256sum",
        "cold": cold,
        "verify_mb_s": [round(size / verify / 1e6) for verify, _, _ in rows],
        "sha256sum_mb_s": [round(size / seconds / 1e6) for _, seconds, _ in rows],
        "read_mb_s": [round(size / seconds / 1e6) for _, _, seconds in rows],
        "times_as_fast_as_sha256sum": round(statistics.median(ratios), 2),
        "share_of_reading": round(statistics.median(read / verify for verify, _, read in rows), 2),
    }
    print(json.dumps({**report, "cores": os.cpu_count(), "mb": round(size / 1e6)}), flush=True)


def killed(program: Path, folder: Path, files: dict[str, bytes]) -> None:
    """Kill a fetch with -9 when half of its bytes were sent, and let another continue."""
    with serve(HubServer(files, plain=("config.json", INDEX))) as server:
        home, order, _ = prepared(server, folder / "killed")
        total = sum(len(content) for name, content in files.items() if name.endswith(".safetensors"))
        process = start(program, home)
        while server.sent < total // 2:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        fetch.prepare(order, home)
        if start(program, home).wait() != 0:
            raise SystemExit("the second fetch failed")
        again = server.sent - total
    print(
        json.dumps({"measure": "killed at half", "mb": round(total / 1e6), "moved_again": round(again / total, 5)}),
        flush=True,
    )


def fetched(program: Path, folder: Path, files: dict[str, bytes], runs: int) -> None:
    """Compare a fetch, every byte hashed and synced to the disk, with curl that writes the same files in parallel."""
    rows = []
    with serve(HubServer(files, plain=("config.json", INDEX))) as server:
        total = sum(len(content) for name, content in files.items() if name.endswith(".safetensors"))
        for number in range(runs):
            here = folder / f"run{number}"
            home, order, _ = prepared(server, here)
            urls = [entry["sources"][0]["url"] for entry in order["files"] if entry["sources"]]
            outputs = [word for at, url in enumerate(urls) for word in ("-o", str(here / f"{at}"), url)]
            before = os.times()
            ours = timed(start(program, home).wait)
            used = sum(os.times()[2:4]) - sum(before[2:4])
            script = 'curl -sZ --parallel-max 8 "$@" 2>/dev/null && sync -f "$0"'
            theirs = timed(subprocess.Popen(["sh", "-c", script, str(here), *outputs]).wait)
            rows.append((ours, theirs, used))
            subprocess.run(["rm", "-r", str(here)], check=True)
    report = {
        "measure": "fetch, hashed, beside curl and sync",
        "fetch_mb_s": [round(total / ours / 1e6) for ours, _, _ in rows],
        "curl_mb_s": [round(total / theirs / 1e6) for _, theirs, _ in rows],
        "ratio": round(statistics.median(theirs / ours for ours, theirs, _ in rows), 2),
        "cpu_s_per_gb": round(statistics.median(used / total * 1e9 for _, _, used in rows), 2),
    }
    print(json.dumps({**report, "mb": round(total / 1e6), "cores": os.cpu_count()}), flush=True)


def prepared(server: HubServer, folder: Path) -> tuple[Path, dict[str, Any], Path]:
    """Do the operator's part; return where the order lies, the order, and the folder to be."""
    hub, wish = Hub(server.url), Wish(REPO, COMMIT)
    found = look_up(hub, wish, folder / "manifests")
    directory = folder / "models" / COMMIT
    job = Job(found, str(directory), Addresses(hub, wish), folder)
    order = json.loads(job.order(job.addresses.of(job.remote, {})))
    fetch.prepare(json.loads(json.dumps(order)), folder / "run")
    return folder / "run", order, directory


def start(program: Path, home: Path) -> subprocess.Popen[bytes]:
    """Start what a host runs as a unit."""
    return subprocess.Popen([sys.executable, str(program), "fetch-run", json.dumps({"home": str(home)})])


def run(argv: list[str], directory: Path, names: list[str]) -> None:
    """Run a command in the folder, the files' names on its standard input."""
    subprocess.run(argv, cwd=directory, input="\n".join(names).encode(), stdout=subprocess.DEVNULL, check=True)


def forget(directory: Path) -> None:
    """Drop the files' pages from the cache, and nobody else's."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


main()
