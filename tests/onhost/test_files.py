"""Placing, locking, looking and removing: the parts of the host program that touch files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from heavylift.onhost import look, place, remove


def names(folder):
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_files_are_placed_whole_with_their_mode(tmp_path):
    """Folders are made, modes are exact whatever the umask, text is UTF-8, and links are replaced in one step."""
    (tmp_path / "current").symlink_to("releases/old")
    (tmp_path / "current.new").symlink_to("left over")
    old = os.umask(0o077)
    try:
        answer = place.main({
            "files": [{"path": str(tmp_path / "a" / "serve"), "text": "é\n", "mode": "755"}],
            "links": {str(tmp_path / "current"): "releases/new"},
        })  # fmt: skip
    finally:
        os.umask(old)
    placed = tmp_path / "a" / "serve"
    assert answer == {"files": 1, "links": 1}
    assert (placed.read_bytes(), placed.stat().st_mode & 0o7777, placed.stat().st_uid) == (
        "é\n".encode(),
        0o755,
        os.getuid(),
    )
    assert (tmp_path / "current").readlink() == Path("releases/new")
    assert names(tmp_path) == ["a", "current"]


def test_a_key_that_was_uploaded_is_moved_into_place(tmp_path):
    """It becomes root's alone before it has its name."""
    (tmp_path / "key.new").write_text("s")
    (tmp_path / "key.new").chmod(0o644)
    place.main({"moves": [[str(tmp_path / "key.new"), str(tmp_path / "key")]]})
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["key"]


def test_a_full_disk_leaves_the_old_content(tmp_path, monkeypatch):
    """The error names the file; what was there is there still, and nothing half-written is left."""
    path = tmp_path / "unit"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place.os, "fsync", full)
    with pytest.raises(RuntimeError) as refused:
        place.main({"files": [{"path": str(path), "text": "new", "mode": "644"}]})
    assert str(refused.value) == f"{path}: No space left on device"
    assert (path.read_text(), names(tmp_path)) == ("old", ["unit"])


class Holder:
    """A process that holds a lock as the host program does."""

    def __init__(self, path, owner="me@here", patience_s=30.0, silent_s=12.0):
        query = json.dumps({"path": str(path), "owner": owner, "patience_s": patience_s, "silent_s": silent_s})
        argv = [sys.executable, "-m", "heavylift.onhost", "lock", query]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self):
        """Close the operator's end; return exit status, output and errors."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


def test_one_lock_one_holder(tmp_path):
    """The second is told who is at work; when the first's line is cut, the lock is free again at once."""
    path = tmp_path / "run" / "lock"
    first = Holder(path)
    assert first.process.stdout.readline() == "held\n"
    since = json.loads(path.read_text())["since"]
    status, out, err = Holder(path, "other").end()
    assert (status, out) == (1, "")
    assert err == f"heavylift: me@here (since {since}) is at work on this host; wait until that has ended\n"
    assert first.end() == (0, "", "")
    assert path.read_text() == ""
    third = Holder(path)
    assert third.process.stdout.readline() == "held\n"
    third.process.kill()
    third.end()
    assert Holder(path).end() == (0, "held\n", "")


def test_a_holder_that_falls_silent_loses_the_lock(tmp_path):
    """A cable that was cut sends nothing, not even an end: after `patience_s` the lock is free."""
    holder = Holder(tmp_path / "lock", patience_s=0.05)
    assert holder.process.wait(timeout=20) == 0
    assert holder.end() == (0, "held\n", "")


def test_who_comes_while_the_holder_is_silent_waits_for_its_end(tmp_path):
    """A holder that has not been heard of is given its patience, then the next one has the lock."""
    first = Holder(tmp_path / "lock", patience_s=1.0)
    assert first.process.stdout.readline() == "held\n"
    second = Holder(tmp_path / "lock", "next", silent_s=0.0)
    assert second.process.stdout.readline() == "held\n"
    assert first.end() == (0, "", "")
    assert json.loads((tmp_path / "lock").read_text())["owner"] == "next"
    assert second.end() == (0, "", "")


def test_a_file_as_a_look_shows_it(tmp_path):
    """sha256, mode, owner, and the text only where everybody could read it anyway."""
    path = tmp_path / "f"
    path.write_text("x\n")
    path.chmod(0o644)
    digest = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    assert look.file(path) == {"sha256": digest, "mode": "644", "owner": os.getuid(), "text": "x\n"}
    path.chmod(0o600)
    assert look.file(path) == {"sha256": digest, "mode": "600", "owner": os.getuid(), "text": None}
    assert look.file(tmp_path / "none") is None
    assert look.file(path / "below a file") is None


def test_a_listener_is_found_with_its_process():
    """A real socket of this process, by its port alone; a free port has none."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert look.listener(port) is None
        listening.listen()
        found = look.listener(port)
    assert found["pid"] == os.getpid()
    assert "pytest" in found["command"]
    assert look.listener(port) is None


def test_a_listener_on_ipv6_is_found():
    """The kernel keeps those in a table of their own."""
    if not socket.has_ipv6 or not Path("/proc/net/tcp6").exists():
        pytest.skip("this machine has no IPv6")
    with socket.socket(socket.AF_INET6) as listening:
        try:
            listening.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        listening.listen()
        assert look.listener(listening.getsockname()[1])["pid"] == os.getpid()


def test_a_whole_look_at_this_machine(tmp_path, stub):
    """Every part that a deploy decides on, in one document that JSON can carry."""
    stub("systemctl", 'echo "ActiveState=inactive"; echo "SubState=dead"; echo "MainPID=0"')
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "engine.json").write_text('{"engine": "0.32.0"}')
    (tmp_path / "link").symlink_to("releases/1")
    query = {
        "user": "root",
        "files": [str(tmp_path / "engine" / "engine.json"), "/nowhere"],
        "links": [str(tmp_path / "link"), "/nowhere"],
        "directories": [str(tmp_path), "/nowhere"],
        "libraries": ["c", "nosuchlibrary"],
        "programs": ["sh", "nosuchprogram"],
        "unit": "x.service",
        "weights": str(tmp_path / "none"),
        "manifest": "0" * 64,
        "engine": str(tmp_path / "engine"),
    }
    seen = json.loads(json.dumps(look.main(query)))
    assert seen["user"] is True
    assert seen["files"]["/nowhere"] is None
    assert seen["links"] == {str(tmp_path / "link"): "releases/1", "/nowhere": None}
    assert seen["directories"][str(tmp_path)]["readonly"] is False
    assert seen["directories"]["/nowhere"] is None
    assert seen["libraries"]["nosuchlibrary"] is False
    assert seen["programs"] == {"sh": True, "nosuchprogram": False}
    assert seen["unit"] == {"ActiveState": "inactive", "SubState": "dead", "MainPID": "0"}
    assert (seen["listener"], seen["weights"]) == (None, {"status": "absent", "files": []})
    assert seen["engine"] == {"engine": "0.32.0"}
    system = seen["system"]
    assert system["cores"] >= 1
    assert system["memory"] > 1 << 20
    assert system["python"] == ".".join(map(str, sys.version_info[:3]))


def test_gpus_are_what_the_driver_names(stub):
    """One line a device; a driver that fails has none."""
    stub("nvidia-smi", "echo 'NVIDIA H200'; echo 'NVIDIA H200'")
    assert look.gpus() == ["NVIDIA H200", "NVIDIA H200"]
    stub("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert look.gpus() == []


@pytest.fixture
def host(tmp_path, monkeypatch, stub):
    """Make a host's folders, below a root of our own: two deployments that share weights, and engines."""
    for tool in ("systemctl", "userdel"):
        stub(tool, "exit 0")

    class Rooted(type(Path())):
        """A path whose absolute forms lie below the root."""

        def __new__(cls, *parts):
            text = str(Path(*parts))
            return super().__new__(cls, text if text.startswith(str(tmp_path)) else f"{tmp_path}{text}")

    monkeypatch.setattr(remove, "Path", Rooted)
    monkeypatch.setattr(remove, "HOME", Rooted("/opt/heavylift"))
    weights = tmp_path / "srv/models/org--m/abc"
    for name in ("one", "two"):
        for root in ("opt/heavylift", "etc/heavylift", "var/lib/heavylift", "run/heavylift", "var/cache/heavylift"):
            (tmp_path / root / name).mkdir(parents=True)
        release = tmp_path / "opt/heavylift" / name / "releases/1"
        release.mkdir(parents=True)
        (release / "release.json").write_text(json.dumps({"model": {"directory": str(weights)}}))
        unit = tmp_path / "etc/systemd/system" / f"heavylift-{name}.service"
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text("[Unit]\n")
    for name in ("bin", "engines/0.33.0-abc", "cache", "uv"):
        (tmp_path / "opt/heavylift" / name).mkdir(parents=True)
    weights.mkdir(parents=True)
    (weights / "stamp.json").write_text("{}")
    (tmp_path / "srv/models/mine").mkdir()
    (tmp_path / "etc/systemd/system/other.service").write_text("")
    return tmp_path, {"cache": "/var/cache/heavylift", "weights": "/srv/models/org--m/abc", "user": "heavylift"}


def left(root):
    """Return what lies below the root."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_relative_to(root / "bin"))


def test_a_deployment_leaves_and_the_other_stays(host):
    """What the other still uses, weights and engines, stays; nothing of the first is left."""
    root, query = host
    before = left(root)
    remove.main({**query, "name": "one"})
    gone = set(before) - set(left(root))
    assert gone == {
        *(
            "opt/heavylift/one",
            "opt/heavylift/one/releases",
            "opt/heavylift/one/releases/1",
            "opt/heavylift/one/releases/1/release.json",
        ),
        *("etc/heavylift/one", "var/lib/heavylift/one", "run/heavylift/one", "var/cache/heavylift/one"),
        "etc/systemd/system/heavylift-one.service",
    }


def test_with_the_last_deployment_everything_goes_and_nothing_else(host):
    """Engines, program, weights that heavylift placed and its folders; the user's own files stay."""
    root, query = host
    remove.main({**query, "name": "one"})
    removed = remove.main({**query, "name": "two"})["removed"]
    assert "user heavylift" in removed
    assert [path for path in left(root) if "heavylift" in path] == []
    assert "etc/systemd/system/other.service" in left(root)
    assert "srv/models/mine" in left(root)
    assert "srv/models/org--m" not in left(root)
    again = remove.main({**query, "name": "two"})["removed"]
    assert again == ["user heavylift"]


def test_weights_that_heavylift_did_not_place_stay(host):
    """Without its stamp a directory is somebody else's."""
    root, query = host
    (root / "srv/models/org--m/abc/stamp.json").unlink()
    remove.main({**query, "name": "one"})
    remove.main({**query, "name": "two"})
    assert "srv/models/org--m/abc" in left(root)
