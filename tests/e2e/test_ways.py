"""The ways in which a deployment can differ: whose hosts, whose weights, which address; and how it goes away again.

The engine is the stand-in of `stub_vllm.py`: real engines serve in `test_main.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heavylift import assets
from heavylift.run import Completed, run

from .support import FIRST, RUNS_S, Site, repaired, serves, stream, until, verdicts

pytestmark = pytest.mark.lab

KEY = "e2e-key-0f8a7b3c5d"


@pytest.fixture
def agent(site: Site, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run an SSH agent that holds the lab's key."""
    said = run(["ssh-agent", "-a", str(tmp_path / "agent")]).stdout
    environment = dict(re.findall(r"(SSH_\w+)=([^;]+);", said))
    run(["ssh-add", "-q", str(site.lab.key)], env=environment)
    yield environment
    run(["ssh-agent", "-k"], env=environment)


def test_hosts_of_ones_own_as_a_user_with_sudo(site: Site, agent: dict[str, str]) -> None:
    """No inventory, no root login, a key from the agent: the deployment's own list, and sudo there."""
    hosts = [
        {"name": host.name, "address": host.address, "user": "ops", "host_key": host.host_key}
        for host in site.lab.inventory().hosts
    ]
    shutil.rmtree(site.folder / ".heavylift")
    site.change(hosts={"from": "owned", "list": hosts, "count": None}, engine={"devices": "cpu"})
    site.change(access={"key": "E2E_KEY"})
    site.environment |= {**agent, "E2E_KEY": KEY}
    done = site.heavylift("up", within_s=RUNS_S + 15)
    assert (verdicts(done)[:2], done.returncode) == ([f"h1: {FIRST}", f"h2: {FIRST}"], 0)
    assert done.stdout.splitlines() == [f"http://{site.address(host)}:8000" for host in ("h1", "h2")]
    assert stream(site.address("h1"), tokens=4, key=KEY)[:2] == (200, 4)
    assert verdicts(site.heavylift("apply")) == ["h1: nothing to change", "h2: nothing to change"]
    assert site.heavylift("status").returncode == 0
    assert "h2  " in site.heavylift("logs", "--host", "h2").stdout
    assert site.on("h2", "find /tmp /home -newer /etc/hostname -type f") == ""
    purged = site.heavylift("down", "--purge", within_s=RUNS_S)
    assert purged.returncode == 0


def test_weights_that_are_on_the_hosts(site: Site, model: Path) -> None:
    """They are checked there, left where they are, and checked again when they changed."""
    for host in ("h1", "h2"):
        shutil.copytree(model, site.tree(host) / "data/model")
    site.change(model={"path": "/data/model", "place": "host"})
    checked = FIRST.replace("write the", "write the")
    done = site.heavylift("apply", within_s=RUNS_S)
    assert (verdicts(done), done.returncode) == ([f"h1: {checked}", f"h2: {checked}"], 0)
    assert not list(site.tree("h1").glob("srv/models/*"))
    shard = min((site.tree("h2") / "data/model").glob("*.safetensors"))
    os.truncate(shard, shard.stat().st_size - 1)
    again = site.heavylift("apply", within_s=RUNS_S)
    size = shard.stat().st_size
    line = f"error: h2: weights: {shard.name}: is {size} bytes, its header says {size + 1}"
    assert (verdicts(again), again.returncode) == (["h1: nothing to change", line], 1)
    shutil.copyfile(model / shard.name, shard)
    repaired(site, "h1: nothing to change", "h2: changed: place and verify the checkpoint")
    site.heavylift("down", "--purge")
    assert (site.tree("h1") / "data/model" / shard.name).is_file()


def test_an_engine_that_listens_on_loopback(site: Site) -> None:
    """Nothing answers from outside, the gate does inside, and `up` says how to reach it."""
    site.change(access={"bind": "loopback"})
    done = site.heavylift("up", within_s=RUNS_S)
    assert done.returncode == 0
    ways = [f"  reach it with: ssh -L 8000:127.0.0.1:8000 -p 22 root@{site.address(host)}" for host in ("h1", "h2")]
    assert [line for line in verdicts(done) if "reach" in line] == ways
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((site.address("h1"), 8000), 2)
    assert site.on("h1", "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8000/health") == "200"
    assert site.heavylift("status").returncode == 0


def test_a_dry_run_changes_nothing(site: Site) -> None:
    """On a fresh host it shows every step and file; on a finished one it says that nothing is left."""
    before = _files(site, "h1")
    dry = site.heavylift("apply", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.splitlines()[1:3] == [
        "  make the service user heavylift",
        "  make /opt/heavylift (root, 755)",
    ] or ("  make the service user heavylift" in dry.stdout)
    assert f"  +++ /etc/systemd/system/{site.unit}" in dry.stdout.splitlines()
    assert "  +KillMode=mixed" in dry.stdout.splitlines()
    assert _files(site, "h1") == before
    assert not (site.folder / ".heavylift/run").exists()
    assert site.heavylift("apply", within_s=RUNS_S).returncode == 0
    dry = site.heavylift("apply", "--dry-run")
    assert re.fullmatch(r"h1: release (\w+)\n  nothing to change\nh2: release \1\n  nothing to change\n", dry.stdout)


def test_a_host_that_is_rebooted(site: Site) -> None:
    """The engine comes back by itself."""
    assert site.heavylift("apply", within_s=RUNS_S).returncode == 0
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = site.on("h2", boot)
    site.on("h2", "systemctl reboot", check=False)
    until(lambda: site.on("h2", boot, check=False) not in {"", before})
    until(lambda: site.on("h2", f"systemctl is-active {site.unit}", check=False) == "active")
    assert serves(site, "h2")
    assert verdicts(site.heavylift("apply")) == ["h1: nothing to change", "h2: nothing to change"]


def test_down_and_up_again(site: Site) -> None:
    """Stopped is stopped, also after a reboot; files stay, so that only the start is left to do."""
    assert site.heavylift("apply", within_s=RUNS_S).returncode == 0
    down = site.heavylift("down", within_s=RUNS_S)
    assert (down.stderr, down.returncode) == ("h1: stopped\nh2: stopped\n", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((site.address("h1"), 8000), 2)
    assert site.on("h1", f"systemctl is-enabled {site.unit}", check=False) == "disabled"
    status = site.heavylift("status")
    assert (status.stdout.splitlines()[1].split()[:2], status.returncode) == (["h1", "inactive"], 1)
    repaired(site, "h1: changed: start the engine", "h2: changed: start the engine")


def test_purge_leaves_the_host_as_it_was(fresh: Callable[..., Site], stub: Path) -> None:
    """Every file that heavylift placed is gone, every other one is there, unchanged; a second time is no error."""
    site = fresh(2)
    site.on("h1", "rm -r /opt/heavylift; install -d /srv/models/other /opt/mine; touch /srv/models/other/a /opt/mine/a")
    site.on("h2", "rm -r /opt/heavylift")
    site.change(access={"key": "E2E_KEY"})
    site.environment["E2E_KEY"] = KEY
    before = [_files(site, "h1"), _files(site, "h2")]
    site.lay(stub)
    assert site.heavylift("apply", within_s=RUNS_S).returncode == 0
    purged = site.heavylift("down", "--purge", within_s=RUNS_S)
    assert re.fullmatch(r"h1: stopped, removed \d+ paths\nh2: stopped, removed \d+ paths\n", purged.stderr)
    assert purged.returncode == 0
    assert [_files(site, "h1"), _files(site, "h2")] == before
    again = site.heavylift("down", "--purge", within_s=RUNS_S)
    assert (again.stderr, again.returncode) == ("h1: stopped, removed 0 paths\nh2: stopped, removed 0 paths\n", 0)


def test_the_key_is_nowhere_to_be_seen(site: Site) -> None:
    """As loud as pyinfra gets, the key is in no output, file, process or journal but its own place."""
    site.change(access={"key": "E2E_KEY"})
    site.environment["E2E_KEY"] = KEY
    said = _pyinfra(site, "deploy.all", "-y", "-vv", "--debug-operations")
    done = _pyinfra(site, "deploy.all", "-y", "-vvv", "--debug", "--diff")
    assert done.returncode == 0
    assert stream(site.address("h1"), tokens=4)[0] == 401
    assert stream(site.address("h1"), tokens=4, key=KEY)[:2] == (200, 4)
    assert verdicts(site.heavylift("apply")) == ["h1: nothing to change", "h2: nothing to change"]
    assert not any(KEY in text for text in (said.stdout, said.stderr, done.stdout, done.stderr))
    assert [path for path in site.folder.rglob("*") if path.is_file() and KEY in path.read_text(errors="replace")] == []
    place = "/etc/heavylift/tiny/api-key"
    assert site.on("h1", f"stat -c '%a %U' {place}; stat -c %a /etc/heavylift/tiny") == "600 root\n700"
    search = "grep -rlsFf - / --exclude-dir=proc --exclude-dir=sys --exclude-dir=run"
    assert site.on("h1", search, input=KEY) == place
    assert site.on("h1", "grep -lsFf - /proc/[0-9]*/cmdline", input=KEY, check=False) == ""
    assert site.on("h1", "cat > /run/key; journalctl -q | grep -cFf /run/key", input=KEY, check=False) == "0"


def test_pyinfra_alone_does_what_apply_does(site: Site) -> None:
    """`deploy.all` brings hosts up, and `apply` finds nothing left; run again it changes nothing but lock and gate."""
    first = _pyinfra(site, "deploy.all", "-y", "--json")
    assert (first.returncode, json.loads(first.stdout)["results"]["failed_hosts"]) == (0, [])
    assert serves(site, "h1", "h2")
    assert verdicts(site.heavylift("apply")) == ["h1: nothing to change", "h2: nothing to change"]
    second = json.loads(_pyinfra(site, "deploy.all", "-y", "--json").stdout)["results"]["operations"]
    changing = {name for operation in second for name in operation["names"] if operation["success"]}
    assert changing == {"Service | Gate"}


def test_pyinfra_alone_installs_the_engine(site: Site) -> None:
    """One noun of `deploy/` by itself touches nothing else."""
    done = _pyinfra(site, "deploy.engine.install", "-y", "--json")
    operations = json.loads(done.stdout)["results"]["operations"]
    assert [name for operation in operations for name in operation["names"]] == [
        "Engine | Install the engine environment"
    ]
    assert site.on("h1", "ls /opt/heavylift") == "engines"


def _pyinfra(site: Site, function: str, *flags: str) -> Completed:
    argv = [
        str(Path(sys.executable).with_name("pyinfra")),
        str(assets.folder("inventories") / "lab.py"),
        function,
        *flags,
    ]
    environment = {"PYTHONPATH": str(assets.project()), "PYINFRA_PROGRESS": "off", **site.environment}
    return run(argv, cwd=site.folder, env=environment, check=False, timeout_s=60)


def _files(site: Site, host: str) -> list[str]:
    """List every file of a host with mode, owner and size, and its users; what the system itself writes is left out."""
    places = ("proc", "sys", "run", "dev", "tmp", "root", "var/log", "var/tmp", "var/lib/systemd", "var/cache/ldconfig")
    skip = " -o ".join([*(f"-path /{place}" for place in places), "-path '/etc/*-'"])  # useradd's own copies
    find = rf"find / \( {skip} \) -prune -o -type d -printf '%p %m %u\n' -o -printf '%p %m %u %s\n'"
    return site.on(host, f"{find}; getent passwd; getent group").splitlines()
