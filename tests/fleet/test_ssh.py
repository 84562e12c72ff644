"""OpenSSH and rsync as they are called, and what a user reads where a host cannot be reached."""

from __future__ import annotations

import os
import shlex
import shutil
from itertools import pairwise

import pytest

from heavylift.errors import CommandError, FleetError
from heavylift.fleet import ssh
from heavylift.fleet.inventory import Host

HOST = Host("g1", "192.0.2.1", "10.0.0.1", 2222, "me")


def test_the_command_is_strict_and_asks_nothing(tmp_path):
    """Host keys are checked, nobody is asked, a silent host is given up, one connection serves many commands."""
    words = ssh.words(HOST, tmp_path / "known")
    assert words[:5] == ["ssh", "-p", "2222", "-l", "me"]
    options = {word.partition("=")[0]: word.partition("=")[2] for before, word in pairwise(words) if before == "-o"}
    assert options.pop("ControlPath").endswith("/%C")
    assert options == {
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "StrictHostKeyChecking": "yes",
        "ControlMaster": "auto",
        "ControlPersist": "60",
        "LogLevel": "ERROR",
    }


def test_what_the_inventory_says_of_a_host_is_used(tmp_path):
    """Its key is the only one accepted, its jump host and private key are taken."""
    host = Host("g1", "h", "h", jump="bastion", host_key="ssh-ed25519 A", key="/k")
    words = ssh.words(host, tmp_path / "known")
    assert words[words.index("-J") + 1] == "bastion"
    assert words[words.index("-i") + 1] == "/k"
    assert "IdentitiesOnly=yes" in words


@pytest.mark.parametrize("folder", ["plain", "with blanks"])
def test_known_hosts_are_one_file_whatever_its_folder_is_called(tmp_path, folder):
    """OpenSSH takes blanks for the border between two files, unless the value has quotes of its own."""
    known = tmp_path / folder / "known"
    words = ssh.words(Host("g1", "h", "h", host_key="ssh-ed25519 A"), known)
    (value,) = [word.partition("=")[2] for word in words if word.startswith("UserKnownHostsFile=")]
    assert shlex.split(value) == [str(known)]
    assert "GlobalKnownHostsFile=/dev/null" in words


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("Host key verification failed.", "its host key is not the expected one"),
        ("me@h: Permission denied (publickey).", "it refuses our key"),
        ("ssh: connect to host h port 22: Connection refused", "nothing listens there"),
        ("ssh: connect to host h port 22: Connection timed out", "no answer"),
        ("ssh: connect to host h port 22: No route to host", "no route to it"),
        ("ssh: Could not resolve hostname h: Name or service not known", "its name does not resolve"),
        ("first\nsomething else", "something else"),
        ("", "the connection ended"),
    ],
)
def test_a_host_that_cannot_be_reached(said, what):
    """Which host, by which way, and what that means in plain words."""
    assert ssh.unreachable(HOST, said).message == f"g1 (me@192.0.2.1:2222): {what}"


def test_hosts_are_asked_at_once_and_fail_alone():
    """An expected failure is that host's answer; the order is the inventory's."""

    def work(host):
        if host.name == "b":
            raise FleetError("b: no")
        return host.name.upper()

    hosts = [Host(name, name, name) for name in "abc"]
    found = ssh.each(hosts, work)
    assert list(found) == ["a", "b", "c"]
    assert (found["a"], found["c"], str(found["b"])) == ("A", "C", "b: no")
    assert ssh.each([], work) == {}


@pytest.fixture
def near(tmp_path, monkeypatch):
    """Let `ssh` run its command on this machine; return a host that is reached so, and folders to copy from and to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    note, run = (
        f'printf "%s\\n" "$@" >{tmp_path}/words',
        'while [ "$1" != near ]; do shift; done; shift; exec sh -c "$*"',
    )
    (folder / "ssh").write_text(f"#!/bin/sh\n{note}\n{run}\n")
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    return Host("n", "near", "near", host_key="ssh-ed25519 A"), tmp_path / "from", tmp_path / "to"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync here")
def test_a_copy_takes_the_named_files_and_what_links_point_to(near, tmp_path):
    """A hub's cache is full of links; names may hold blanks; a folder of this machine may, too."""
    host, source, target = near
    (tmp_path / "blob").write_text("weights")
    (source / "a.safetensors").symlink_to(tmp_path / "blob")
    (source / "señor model.json").write_text("{}")
    (source / "not named").write_text("x")
    words = ssh.words(host, tmp_path / "known hosts")[1:]
    ssh.rsync(host, tmp_path / "known hosts", source, ["a.safetensors", "señor model.json"], str(target), timeout_s=20)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "a.safetensors": "weights",
        "señor model.json": "{}",
    }
    assert not (target / "a.safetensors").is_symlink()
    assert (target / "a.safetensors").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "words").read_text().splitlines()[: len(words)] == words


@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync here")
def test_a_copy_that_fails_is_one_line(near, tmp_path):
    """The last word of rsync, with the host's name."""
    host, source, target = near
    with pytest.raises(FleetError) as failed:
        ssh.rsync(host, tmp_path / "known", source, ["none"], str(target), timeout_s=20)
    assert failed.value.message.startswith("n: copying weights: ")


def test_a_command_past_its_limit_is_the_hosts_failure(tmp_path, monkeypatch):
    """No exception of a child process reaches the user."""

    def late(argv, **options):
        raise CommandError(argv, 124, "no end")

    monkeypatch.setattr(ssh, "run_process", late)
    with pytest.raises(FleetError) as failed:
        ssh.run(HOST, tmp_path, "true", timeout_s=5)
    assert str(failed.value) == "g1: no end within 5 s\n\nhint: is the host hung? run the same command again"
