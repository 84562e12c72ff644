"""What is wrong on a host itself: said in one line, the other host served, repaired without stopping what serves.

The engine is the stand-in of `stub_vllm.py`: it is not the engine that fails here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .support import FIRST, RUNS_S, Site, enlarge, flip, repaired, serves, stream, verdicts

pytestmark = pytest.mark.lab

PLACED = "changed: place and verify the checkpoint"


def test_a_port_that_somebody_else_has(site: Site) -> None:
    """The process is named; h2 gets nothing that could disturb it."""
    site.on("h2", "systemd-run -q --unit=web --working-directory=/etc python3 -m http.server 8000")
    site.on("h2", "curl -sS --retry 20 --retry-connrefused --retry-delay 1 -o /dev/null http://127.0.0.1:8000/hostname")
    pid = site.on("h2", "systemctl show -P MainPID web")
    done = site.heavylift("apply", within_s=RUNS_S)
    who = f"process {pid} (/usr/bin/python3 -m http.server 8000)"
    line = f"error: h2: port 8000 is taken by {who}; stop it, or choose another access.port"
    assert (verdicts(done), done.returncode) == ([f"h1: {FIRST}", line], 1)
    assert site.on("h2", "systemctl is-active web; ls /opt/heavylift") == "active\nengines"
    site.on("h2", "systemctl stop web")
    repaired(site, "h1: nothing to change", f"h2: {FIRST}")


@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flipped", "removed"])
def test_a_shard_that_is_damaged_on_the_host(site: Site, damage: Callable[[Path], None]) -> None:
    """The next apply sees it by the file's stamps and puts the right one there, while the engine goes on serving."""
    assert site.heavylift("apply", within_s=RUNS_S).returncode == 0
    before = [site.pid("h1"), site.pid("h2")]
    shard = sorted(site.tree("h2").glob("srv/models/*/*/*.safetensors"))[1]
    right = shard.read_bytes()
    damage(shard)
    dry = site.heavylift("apply", "--dry-run")
    release = dry.stdout.split()[2]
    assert dry.stdout == (
        f"h1: release {release}\n  nothing to change\n"
        f"h2: release {release}\n  place the checkpoint {'/' + str(shard.parent.relative_to(site.tree('h2')))}\n"
    )
    repaired(site, "h1: nothing to change", f"h2: {PLACED}")
    assert shard.read_bytes() == right
    assert [site.pid("h1"), site.pid("h2")] == before


def test_a_disk_that_is_too_small(fresh: Callable[..., Site], stub: Path) -> None:
    """Said before anything is copied."""
    site = fresh(1)
    site.more(2, disk="100M")
    site.lay(stub)
    enlarge(site, 150)
    done = site.heavylift("apply", within_s=RUNS_S)
    assert verdicts(done)[0] == f"h1: {FIRST}"
    line = "error: h2: /srv/models/local--model: 0.1 GB free, 0.2 GB needed for the weights"
    assert verdicts(done)[1:] == [line]
    assert done.returncode == 1
    assert serves(site, "h1")
    assert not list(site.tree("h2").glob("srv/models/*/*/*.safetensors"))


def test_a_host_without_python(site: Site) -> None:
    """What heavylift itself needs there is named."""
    python = site.tree("h2") / "usr/bin/python3"
    python.rename(python.with_name("python3-away"))
    done = site.heavylift("apply", within_s=RUNS_S)
    assert (verdicts(done), done.returncode) == ([f"h1: {FIRST}", "error: h2: python3 is missing; install it"], 1)
    assert site.heavylift("status").stderr == "error: h2: python3 is missing; install it\n"
    python.with_name("python3-away").rename(python)
    repaired(site, "h1: nothing to change", f"h2: {FIRST}")


def test_a_host_with_too_little_shared_memory(site: Site) -> None:
    """The engine would refuse to start; the line says how to enlarge it."""
    site.on("h2", "mount -o remount,size=64m /dev/shm")
    done = site.heavylift("apply", within_s=RUNS_S)
    line = "error: h2: /dev/shm has 64 MiB free, vLLM needs 160; `mount -o remount,size=1g /dev/shm`"
    assert (verdicts(done), done.returncode) == ([f"h1: {FIRST}", line], 1)


def test_files_that_somebody_changed(site: Site) -> None:
    """Files of the release are put right at once; the unit of a serving engine waits for a decision."""
    assert site.heavylift("apply", within_s=RUNS_S).returncode == 0
    before = site.pid("h1")
    site.on("h1", "echo X=1 >> /opt/heavylift/tiny/current/engine.env")
    site.on("h1", f"echo '# mine' >> /etc/systemd/system/{site.unit}")
    done = site.heavylift("apply", within_s=RUNS_S)
    release = site.on("h1", "basename $(readlink /opt/heavylift/tiny/current)")
    waits = (
        f"release {release} with other settings serves; `heavylift apply --restart` changes one host after the other"
    )
    assert (verdicts(done), done.returncode) == ([f"h1: {waits}", "h2: nothing to change"], 0)
    assert site.pid("h1") == before
    assert site.on("h1", "grep -c X=1 /opt/heavylift/tiny/current/engine.env", check=False) == "0"
    restarted = site.heavylift("apply", "--restart", within_s=2 * RUNS_S)
    assert restarted.returncode == 0
    assert verdicts(restarted)[1:] == ["h2: nothing to change"]
    assert site.pid("h1") != before
    assert stream(site.address("h1"), tokens=3)[:2] == (200, 3)
