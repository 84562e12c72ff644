"""`pyinfra … deploy.all` as a whole, with pyinfra's own order and state, on hosts that `fake.py` answers for."""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from pathlib import Path

import pytest

from heavylift import assets
from heavylift.apply.apply import targets
from heavylift.fleet.inventory import Host, Inventory
from heavylift.fleet.onhost import PATH
from heavylift.run import run
from heavylift.workspace import Workspace
from tests.apply.hosts import done, fresh

SPEC = """\
name: tiny
model: {path: /srv/m, place: host}
engine: {version: 0.32.0, arguments: {enforce-eager: true, max-model-len: 1024}}
hosts: {from: lab, count: 2}
"""
NAMES = ("@fake/h1", "@fake/h2")
# `Lock | Take …` and `Service | Gate` run every time and change nothing.
STEPS = [
    "Lock | Take the host's lock",
    "Host | Check what the host can carry",
    "Host | Install packages",
    "Host | Make the service user",
    "Host | Make folders",
    "Host | Place heavylift-host",
    "Engine | Install the engine environment",
    "Weights | Place and verify the checkpoint",
    "Release | Write the release's files",
    "Service | Activate the release",
    "Service | Start the engine",
    "Service | Gate",
]


class Fleet:
    """Two fake hosts with a deployment; `deploy` runs everything and returns what pyinfra did."""

    def __init__(self, folder):
        self.folder = folder
        self.spec = folder / "deployment.yaml"
        self.spec.write_text(SPEC)
        hosts = tuple(Host(name, f"10.0.0.{n}", f"10.0.0.{n}") for n, name in enumerate(NAMES, 1))
        Inventory("lab", hosts).save(folder / ".heavylift" / "inventory.json")
        self.targets = dict(zip(NAMES, targets(Workspace.open(self.spec)), strict=True))
        self.commands, self.said = {}, ""

    def deploy(self, looks, *data, fail=None):
        """Run `deploy.all` where the hosts show `looks`; return pyinfra's document, or None."""
        answers = {name: {"look": look, "fail": (fail or {}).get(name)} for name, look in looks.items()}
        file = self.folder / "answers.json"
        file.write_text(json.dumps(answers))
        log = Path(f"{file}.log")
        log.write_text("")
        words = [
            sys.executable,
            "-m",
            "pyinfra",
            str(Path(__file__).with_name("fake.py")),
            "deploy.all",
            "-y",
            "--json",
            *data,
        ]
        path = os.pathsep.join([str(assets.project()), *sys.path])
        environment = {
            "HEAVYLIFT_FAKE": str(file),
            "HEAVYLIFT_DEPLOYMENT": str(self.spec),
            "PYTHONPATH": path,
            "PYINFRA_PROGRESS": "off",
        }
        ended = run(words, env=environment, cwd=self.folder, check=False, timeout_s=120)
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        self.commands = {name: [shortened(command) for host, command in rows if host == name] for name in looks}
        self.said = ended.stderr
        return json.loads(ended.stdout)["results"] if ended.stdout else None


def shortened(command):
    """Return a command's first words: the host program's name and command, whatever brought it there."""
    brought = re.search(r'python3 "\$t" (\w+) ', command)
    return f"(brought along) {brought[1]}" if brought else command


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """One fleet for all tests here; each run says itself what the hosts show."""
    return Fleet(tmp_path_factory.mktemp("fleet"))


def steps(results, host, *kinds):
    """Return the names of operations that a host took part in, as one of these kinds."""
    return [
        ", ".join(row["names"]) for row in results["operations"] if any(host in row.get(kind, []) for kind in kinds)
    ]


def test_two_unequal_hosts_take_the_same_steps_in_the_same_order(fleet):
    """One is fresh, one lacks a package and its release: all steps stand for both, each does what it lacks."""
    looks = {NAMES[0]: fresh(fleet.targets[NAMES[0]]), NAMES[1]: done(fleet.targets[NAMES[1]])}
    second, wanted = looks[NAMES[1]], fleet.targets[NAMES[1]]
    second["libraries"]["numa"] = False
    second["files"][wanted.release.file("serve").path] = None
    results = fleet.deploy(looks)
    assert results["failed_hosts"] == []
    for name in NAMES:
        assert steps(results, name, "success", "no_change") == STEPS, fleet.said
    assert steps(results, NAMES[0], "no_change") == [STEPS[0], STEPS[1]]
    assert steps(results, NAMES[1], "success") == [
        "Host | Install packages",
        "Release | Write the release's files",
        "Service | Gate",
    ]
    first = fleet.commands[NAMES[0]]
    marks = [
        "(brought along) look",
        "command -v apt-get",
        "useradd",
        "install -d",
        "upload /opt/heavylift/bin/heavylift-host.new",
    ]
    marks += [f"{PATH} {command} '" for command in ("job", "check", "place", "start", "gate")]
    found = [next(index for index, command in enumerate(first) if command.startswith(mark)) for mark in marks]
    assert found == sorted(found), first
    assert ["useradd" in command for command in fleet.commands[NAMES[1]]].count(True) == 0


def test_a_run_without_change_is_a_look_and_a_gate(fleet):
    """Two hosts as wanted: no step changes anything, and each host sees three commands at most."""
    results = fleet.deploy({name: done(fleet.targets[name]) for name in NAMES})
    for name in NAMES:
        assert steps(results, name, "success") == ["Service | Gate"]
        own = [command for command in fleet.commands[name] if not command.startswith("uname")]
        assert [re.sub(r" '.*", "", command) for command in own] == [
            "(brought along) look",
            "/opt/heavylift/bin/heavylift-host gate",
        ]
        assert len(fleet.commands[name]) <= 3


def test_a_host_that_fails_takes_no_further_step(fleet):
    """One is refused at the beginning, the other's engine does not start: each stops there, for its own reason."""
    looks = {name: fresh(fleet.targets[name]) for name in NAMES}
    looks[NAMES[0]]["system"]["systemd"] = False
    results = fleet.deploy(looks, fail={NAMES[0]: "systemd is not running there", NAMES[1]: f"{PATH} start"})
    assert results is None  # without any host left, pyinfra prints no document at all
    first, second = (fleet.commands[name] for name in NAMES)
    assert (
        first[-1]
        == "echo 'heavylift: systemd is not running there; heavylift runs engines as systemd units' >&2; exit 1"
    )
    assert second[-1].startswith(f"{PATH} start '")
    said = re.sub(r"\x1b\[[0-9;]*m", "", fleet.said)
    assert [said.count(f"[{name}] heavylift: it broke") for name in NAMES] == [1, 1]


def test_what_serves_something_else_is_not_stopped_unless_told_so(fleet):
    """Without `restart` the unit, the link and the start stay as they are; with it they change, the start last."""
    looks = {name: done(fleet.targets[name]) for name in NAMES}
    for name in NAMES:
        looks[name]["links"][fleet.targets[name].link] = "releases/000000000000"
    results = fleet.deploy(copy.deepcopy(looks))
    assert steps(results, NAMES[0], "success") == ["Service | Gate"]
    results = fleet.deploy(looks, "--data", "restart=1")
    assert steps(results, NAMES[0], "success") == [
        "Service | Activate the release",
        "Service | Start the engine",
        "Service | Gate",
    ]
    start = next(command for command in fleet.commands[NAMES[0]] if command.startswith(f"{PATH} start"))
    assert '"mode": "restart"' in start
