"""What the tests of the whole path share: a deployment on a lab, a client, and what to wait for."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from heavylift import assets
from heavylift.catalog.environment import engine_environment
from heavylift.lab import Lab
from heavylift.run import Completed, end, run, start

HEAVYLIFT = str(Path(sys.executable).with_name("heavylift"))
STEP = re.compile(r" *\d+\.\d s  ")
RUNS_S = 30.0  # an apply whose hosts all answer
SILENT = "no answer for 30 s: the host hangs, or the way to it is cut"
FIRST = (
    "changed: make the service user, make folders, place heavylift-host, place and verify the checkpoint, "
    "write the release's files, activate the release, start the engine"
)


@dataclass
class Site:
    """One deployment file in a folder of its own, and the lab that it is about."""

    lab: Lab
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _begun: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def more(self, count: int, **options: Any) -> None:
        """Add hosts, with a disk or memory of their own size."""
        self.lab.up(count, share_engines=False, **options).save(self.folder / ".heavylift/inventory.json")
        self.change(hosts={"count": count})

    def lay(self, engine: Path) -> None:
        """Put a finished engine environment where heavylift looks for it."""
        name = engine_environment("0.32.0", "cpu").name
        for host in self.lab.inventory().hosts:
            shutil.copytree(engine, self.tree(host.name) / "opt/heavylift/engines" / name, dirs_exist_ok=True)

    @property
    def file(self) -> Path:
        """The deployment file."""
        return self.folder / "deployment.yaml"

    @property
    def document(self) -> dict[str, Any]:
        """What the file says."""
        document: dict[str, Any] = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        return document

    def change(self, **sections: dict[str, Any]) -> None:
        """Set keys of sections; None takes a key away."""
        document = self.document
        for section, keys in sections.items():
            merged = {**document.get(section, {}), **keys}
            document[section] = {key: value for key, value in merged.items() if value is not None}
        self.file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def heavylift(self, *words: str, within_s: float = 120.0, **environment: str) -> Completed:
        """Run a command in the folder to its end; past `within_s` the test fails."""
        return run([HEAVYLIFT, *words], cwd=self.folder, env=self._all(environment), check=False, timeout_s=within_s)

    def begin(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that the test wants to disturb; its output is in `said`."""
        log = self.folder / "said.log"
        log.write_bytes(b"")
        process = start(
            [HEAVYLIFT, *words], log=log, cwd=self.folder, env=self._all(environment), preexec=_heed_interrupts
        )
        self._begun.append(process)
        return process

    def end(self) -> None:
        """End what was begun and still runs."""
        for process in self._begun:
            end(process)

    @property
    def said(self) -> str:
        """What the command that was begun has printed."""
        return (self.folder / "said.log").read_text(encoding="utf-8")

    def on(self, host: str, command: str, *, check: bool = True, input: str | None = None) -> str:
        """Run a command on a host as root and return its output."""
        done = run(["ssh", "-F", str(self.lab.ssh_config), host, command], timeout_s=60, check=check, input=input)
        return done.stdout.strip()

    def tree(self, host: str) -> Path:
        """Return the host's root file system as this machine sees it: to watch it without asking it."""
        return self.lab.folder / "hosts" / host / "tree"

    def address(self, host: str) -> str:
        """Return the host's address."""
        return next(entry.address for entry in self.lab.inventory().hosts if entry.name == host)

    def pid(self, host: str) -> str:
        """Return the engine's process."""
        return self.on(host, f"systemctl show -P MainPID {self.unit}")

    @property
    def unit(self) -> str:
        """The unit's name."""
        return f"heavylift-{self.document['name']}.service"

    @property
    def log(self) -> str:
        """The whole log of the last pyinfra run."""
        return (self.folder / ".heavylift/run/pyinfra.log").read_text(encoding="utf-8")

    def _all(self, environment: dict[str, str]) -> dict[str, str]:
        return {"HEAVYLIFT_LAB": self.lab.name, "NO_COLOR": "1", **self.environment, **environment}


def _heed_interrupts() -> None:
    """Undo what a shell does to its background jobs: this very test may be one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def deployment(lab: Lab, folder: Path, model: Path, count: int) -> Site:
    """Write the lab's example deployment, with a checkpoint of its own, into `folder`."""
    site = Site(lab, folder)
    shutil.copyfile(assets.folder("deployments") / "lab.yaml", site.file)
    shutil.copytree(model, folder / "model")
    site.change(hosts={"count": count})
    return site


def until(true: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"not within {within_s:g} s"
        time.sleep(0.01)


def stream(address: str, *, port: int = 8000, tokens: int = 16, key: str | None = None) -> tuple[int, int, str]:
    """Stream a chat completion; return the status, the tokens that `usage` counts, and the text."""
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection = http.client.HTTPConnection(address, port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        return (answer.status, *_read(answer.read().decode())) if answer.status == 200 else (answer.status, 0, "")
    finally:
        connection.close()


def counter(address: str, *, port: int = 8000) -> float:
    """Return how many tokens the engine says it has generated."""
    connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        rows = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return sum(float(row.rpartition(" ")[2]) for row in rows if row.startswith("vllm:generation_tokens_total{"))


def verdicts(done: Completed) -> list[str]:
    """Return what a command said about hosts, without the steps on the way."""
    return [line for line in done.stderr.splitlines() if not STEP.match(line)]


def serves(site: Site, *hosts: str) -> bool:
    """Tell whether all these hosts stream tokens."""
    return all(stream(site.address(host), tokens=5)[:2] == (200, 5) for host in hosts)


def repaired(site: Site, *expected: str) -> None:
    """See that the next apply, nothing else done, brings both hosts up."""
    again = site.heavylift("apply", within_s=RUNS_S)
    assert (verdicts(again), again.returncode) == (list(expected), 0)
    assert serves(site, "h1", "h2")


def finish(process: subprocess.Popen[bytes], *, within_s: float) -> int:
    """Return the exit status of a command that was begun; it must end by itself."""
    try:
        return process.wait(within_s)
    finally:
        end(process)


def where(site: Site, host: str) -> str:
    """Name a host as messages about its connection do."""
    return f"{host} (root@{site.address(host)}:22)"


def hold(site: Site, *hosts: str) -> None:
    """Let the engine's start take until `let_go`."""
    for host in hosts:
        site.on(host, "touch /run/hold")


def let_go(site: Site, *hosts: str) -> None:
    """End what `hold` began."""
    for host in hosts:
        site.on(host, "rm -f /run/hold")


def enlarge(site: Site, mib: int) -> None:
    """Add a shard to the checkpoint whose copy takes a while."""
    folder, name = site.folder / "model", "model-extra.safetensors"
    size = mib << 20
    header = json.dumps({"extra": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (folder / name).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["extra"] = name
    index.write_text(json.dumps(document))


def copied(site: Site, host: str) -> int:
    """How much of a copy under way lies on the host."""
    files = site.tree(host).glob("srv/models/*/*.partial/.*extra*")
    return max((file.stat().st_size for file in files), default=0)


def flip(path: Path) -> None:
    """Change one bit in the middle, and nothing about the size."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _read(text: str) -> tuple[int, str]:
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert text.rstrip().endswith("data: [DONE]"), "the stream broke off"
    words = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    usage = [event["usage"]["completion_tokens"] for event in events if event.get("usage")]
    return usage[-1], "".join(words)
