"""How long the commands that touch nothing take, and how much memory: wall seconds, CPU seconds, peak MiB."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAVYLIFT = [sys.executable, "-m", "heavylift"]


def main() -> None:
    """Run each command several times and print the least of each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        for words in (["init", "--lab"], ["lab", "model", "model"]):
            subprocess.run([*HEAVYLIFT, *words], cwd=folder, check=True, capture_output=True)
        for words in (["--help"], ["check"], ["render"]):
            measured = [measure(words, Path(folder)) for _ in range(runs)]
            wall, cpu, memory = (min(row[index] for row in measured) for index in range(3))
            print(
                json.dumps({"command": " ".join(words), "wall_s": wall, "cpu_s": cpu, "peak_mib": memory, "runs": runs})
            )


def measure(words: list[str], folder: Path) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak resident MiB of one run."""
    began = time.perf_counter()
    pid = os.posix_spawnp(
        "env",
        ["env", "-C", str(folder), *HEAVYLIFT, *words],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise SystemExit(f"{words}: status {status}")
    return (
        round(time.perf_counter() - began, 3),
        round(usage.ru_utime + usage.ru_stime, 3),
        round(usage.ru_maxrss / 1024, 1),
    )


main()
