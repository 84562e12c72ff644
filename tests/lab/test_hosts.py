"""Two real hosts: what works inside, what they reach, and what can happen to them."""

from __future__ import annotations

import socket
import time

import pytest

from heavylift.lab import Lab
from heavylift.run import Completed, run

pytestmark = pytest.mark.lab

WITHIN_S = 30.0
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def _ssh(lab: Lab, host: str, command: str, *, check: bool = True, wait_s: float = 120.0) -> Completed:
    return run(["ssh", "-F", str(lab.ssh_config), host, command], timeout_s=wait_s, check=check)


def _says(lab: Lab, host: str, command: str) -> str:
    return _ssh(lab, host, command).stdout.strip()


def _greets(address: str) -> bool:
    """Whether sshd sends its banner within a second."""
    try:
        with socket.create_connection((address, 22), 1.0) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _greets_in_time(address: str) -> bool:
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        if _greets(address):
            return True
    return False


def test_hosts_are_listed_with_what_ssh_needs(lab: Lab) -> None:
    """The inventory holds address, strict host key and the private key of every host."""
    inventory = lab.inventory()
    assert (inventory.source, [host.name for host in inventory.hosts]) == ("lab", ["h1", "h2"])
    for host in inventory.hosts:
        assert host.address == host.private_address
        assert host.key == str(lab.key)
        assert host.host_key is not None
        scanned = run(["ssh-keyscan", "-t", "ed25519", host.address]).stdout.split()
        assert " ".join(scanned[1:3]) == host.host_key


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_systemd_runs_as_pid_1(lab: Lab, host: str) -> None:
    """Every unit that a host starts with has started, under the host's own name."""
    assert _ssh(lab, host, "systemctl is-system-running --wait", check=False).stdout.strip() == "running"
    assert _says(lab, host, "systemctl --failed --plain --no-legend") == ""
    assert _says(lab, host, "hostname; cat /proc/1/comm") == f"{host}\nsystemd"


def test_a_wrong_host_key_is_refused(lab: Lab) -> None:
    """Host keys are strict: h2 under the name of h1 is turned away."""
    address = lab.inventory().hosts[1].address
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", f"HostName={address}", "-o", "HostKeyAlias=h1", "h1", "true"]
    refused = run(argv, check=False, timeout_s=20)
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


def test_users(lab: Lab) -> None:
    """One user has sudo without a password, the other with the known one only."""
    assert _says(lab, "ops@h1", "sudo -n id -u") == "0"
    assert _ssh(lab, "opspw@h1", "sudo -n id -u", check=False).returncode == 1
    assert _says(lab, "opspw@h1", "echo lab | sudo -S id -u 2>/dev/null") == "0"


def test_apt_works_inside(lab: Lab) -> None:
    """A package comes through the proxy and runs."""
    assert _says(lab, "h1", "apt-get update -q >&2 && apt-get install -qy hello >&2 && hello") == "Hello, world!"


def test_pip_works_inside(lab: Lab) -> None:
    """A wheel comes through the proxy and imports."""
    script = "python3 -m venv v && v/bin/pip install -q iniconfig >&2 && v/bin/python -c 'import iniconfig; print(1)'"
    assert _says(lab, "h1", f"cd $(mktemp -d) && {script}") == "1"


def test_hosts_reach_each_other_by_name(lab: Lab) -> None:
    """Traffic between hosts goes straight over the bridge, and past the proxy."""
    assert " 0% packet loss" in _says(lab, "h1", "ping -c 2 -i 0.05 h2")
    serve = "systemd-run -q --unit=web --working-directory=/etc python3 -m http.server 8000"
    fetch = "curl -sS --retry 20 --retry-connrefused --retry-delay 1 http://h2:8000/hostname"
    _ssh(lab, "h2", serve)
    assert _says(lab, "h1", fetch) == "h2"
    _ssh(lab, "h2", "systemctl stop web")


def test_nothing_else_is_reachable(lab: Lab) -> None:
    """The proxy refuses a host that is no registry, and past the proxy there is no route."""
    code = "curl -s -o /dev/null -w '%{http_code} %{http_connect}' -m 10"
    assert _ssh(lab, "h1", f"{code} http://example.com", check=False).stdout == "403 000"
    assert _ssh(lab, "h1", f"{code} https://example.com", check=False).stdout == "000 403"
    assert _says(lab, "h1", "ip -4 route show default") == ""
    assert _ssh(lab, "h1", "curl -s --noproxy '*' -m 5 http://192.0.2.1", check=False).returncode == 7


def test_shared_memory_suits_an_engine(lab: Lab) -> None:
    """The engine refuses to start with less than 160 MiB in /dev/shm."""
    assert int(_says(lab, "h1", "df --output=avail -BM /dev/shm | tail -1").rstrip("M")) >= 160


def test_engines_are_seen_read_only_and_at_once(lab: Lab) -> None:
    """An engine built while hosts run shows up in them, and no host can change it; the rest of /opt is its own."""
    written: list[str] = []
    script = "mkdir -p /opt/heavylift/engines/probe && cd /opt/heavylift/engines/probe && echo 7 > seven && echo made"
    lab.build_engine("probe", f"{script} && echo '{{}}' > engine.json", written.append)
    lab.build_engine("probe", "echo again", written.append)
    try:
        assert written == ["made"]
        assert _says(lab, "h2", "cat /opt/heavylift/engines/probe/seven") == "7"
        denied = _ssh(lab, "h2", "touch /opt/heavylift/engines/probe/x", check=False)
        assert "Read-only file system" in denied.stderr
        assert _says(lab, "h2", "touch /opt/heavylift/own && echo ok") == "ok"
    finally:
        lab.run_in_base("rm -r /opt/heavylift/engines/probe")


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    """Same hosts, same boots; asking for fewer keeps them and says so."""
    before = [
        _says(lab, host, "cat /proc/sys/kernel/random/boot_id; ps -o pid= -C sshd | head -1") for host in ("h1", "h2")
    ]
    inventory = lab.inventory()
    lines: list[str] = []
    assert lab.up(2, on_line=lines.append) == inventory
    assert lines == []
    assert lab.up(1, on_line=lines.append) == inventory
    assert lines == ["2 hosts exist, 1 asked for: the others stay (`heavylift lab down` removes all)"]
    after = [
        _says(lab, host, "cat /proc/sys/kernel/random/boot_id; ps -o pid= -C sshd | head -1") for host in ("h1", "h2")
    ]
    assert after == before


def test_a_third_host_with_limits_comes_and_goes(lab: Lab) -> None:
    """More hosts join what runs, with a disk and a memory of their own size, and are known by name everywhere."""
    first = lab.inventory().hosts[:2]
    assert lab.up(3, disk="200M", memory="700M").hosts[:2] == first
    assert int(_says(lab, "h3", "df --output=size -BM / | tail -1").rstrip("M")) == 200
    assert " 0% packet loss" in _says(lab, "h1", "ping -c 1 h3")
    lab.down(["h3"])
    assert lab.inventory().hosts == first
    assert [(host.name, host.state) for host in lab.status()] == [("h1", "on"), ("h2", "on")]


def test_reboot_comes_back(lab: Lab) -> None:
    """`systemctl reboot` ends the boot and begins another, with the disk kept."""
    before = _says(lab, "h2", f"touch /var/kept; cat {BOOT_ID}")
    _ssh(lab, "h2", "systemctl reboot", check=False)
    until = time.monotonic() + WITHIN_S
    answer = _ssh(lab, "h2", f"cat {BOOT_ID}", check=False)
    while (answer.returncode != 0 or answer.stdout.strip() == before) and time.monotonic() < until:
        answer = _ssh(lab, "h2", f"cat {BOOT_ID}", check=False)
    assert answer.returncode == 0
    assert answer.stdout.strip() != before
    assert _says(lab, "h2", "ls /var/kept") == "/var/kept"


def test_a_paused_host_hangs(lab: Lab) -> None:
    """Its kernel accepts a connection, nobody greets; the other host does not notice."""
    one, two = (host.address for host in lab.inventory().hosts)
    lab.pause("h2")
    try:
        socket.create_connection((two, 22), 1.0).close()
        assert not _greets(two)
        assert _greets(one)
        assert lab.status()[1].state == "paused"
    finally:
        lab.resume("h2")
    assert _greets_in_time(two)


def test_a_cut_host_is_unreachable_and_runs_on(lab: Lab) -> None:
    """With the cable out nothing arrives; plugged in again it is the same boot."""
    address = lab.inventory().hosts[1].address
    before = _says(lab, "h2", f"cat {BOOT_ID}")
    lab.cut("h2")
    try:
        with pytest.raises(OSError, match=r"timed out|No route to host"):
            socket.create_connection((address, 22), 1.0)
        assert lab.status()[1].state == "cut"
    finally:
        lab.heal("h2")
    assert _greets_in_time(address)
    assert _says(lab, "h2", f"cat {BOOT_ID}") == before


def test_power_off_ends_a_host_and_power_on_boots_it(lab: Lab) -> None:
    """Peers are refused at once, a frozen host can be ended too, and its disk is as it was."""
    address = lab.inventory().hosts[1].address
    _ssh(lab, "h2", "echo kept > /var/power && sync")
    lab.pause("h2")
    lab.power_off("h2")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, 22), 1.0)
    assert lab.status()[1].state == "off"
    lab.power_on("h2")
    assert _says(lab, "h2", "cat /var/power") == "kept"
    assert lab.status()[1].state == "on"
