"""One host: an overlay over the base, a namespace on the bridge, and a systemd-nspawn container that boots in them."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from heavylift.errors import LabError
from heavylift.lab.base import CERTIFICATE_VARIABLES, SYSTEM_BUNDLE, certificates
from heavylift.lab.cgroup import Cgroup
from heavylift.lab.mounts import mount_overlay, mount_tmpfs, mounts_below, remove_tree, unmount_below
from heavylift.lab.network import Network
from heavylift.lab.state import HostRecord
from heavylift.run import run, start

__all__ = ["NSPAWN_ENVIRONMENT", "NSPAWN_NOISE", "Disk", "LabHost", "make_key", "pip_conf"]

SSH_PORT = 22
BANNER_TIMEOUT_S = 1.0
# Under --keep-unit a reboot inside ends nspawn with 133; `poweroff` ends it with 0.
LOOP = 'while :; do "$@"; status=$?; [ "$status" = 133 ] || exit "$status"; done'
NSPAWN_ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    "SYSTEMD_NSPAWN_LOCK": "0",
    "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # /tmp on disk as on a real host; the default tmpfs is a tenth of the memory
    "TERM": "dumb",
}
# What nspawn says at its end where /run is no tmpfs; it would hide the true last words.
NSPAWN_NOISE = 'Attempted to remove disk file system under "/run/systemd/nspawn'
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Disk:
    """What one host's files need to know about its lab."""

    base: Path
    engines: Path
    authorized: str
    neighbours: tuple[HostRecord, ...]


@dataclass(frozen=True, slots=True)
class LabHost:
    """One host of a lab, on or off."""

    record: HostRecord
    folder: Path
    network: Network

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def address(self) -> str:
        """Its address."""
        return self.network.address(self.record.number)

    @property
    def tree(self) -> Path:
        """Its root file system, as the machine sees it."""
        return self.folder / "tree"

    @property
    def log(self) -> Path:
        """What its console printed."""
        return self.folder / "console.log"

    @property
    def cgroup(self) -> Cgroup:
        """The cgroup that holds everything it runs."""
        return Cgroup(f"heavylift-{self.network.tag}/{self.name}")

    @property
    def is_on(self) -> bool:
        """Whether it runs."""
        return self.cgroup.is_populated

    def make(self, disk: Disk) -> None:
        """Mount its file system, unless it is, and write what makes it this host."""
        if self.tree not in mounts_below(self.tree):
            upper = self.folder / "disk"
            if self.record.disk is not None:
                mount_tmpfs(upper, self.record.disk)
            mount_overlay(disk.base, upper / "upper", upper / "work", self.tree)
        self._write("etc/hostname", f"{self.name}\n")
        self._write("etc/ssh/authorized_keys", disk.authorized)
        self._write("etc/ssh/ssh_host_ed25519_key", (self.folder / "host_key").read_text(encoding="ascii"), mode=0o600)
        self._write("etc/ssh/ssh_host_ed25519_key.pub", f"{self.record.host_key}\n")
        self._write("etc/apt/apt.conf.d/90proxy", f'Acquire::http::Proxy "{self.network.proxy}";\n')
        self.introduce(disk.neighbours)
        disk.engines.mkdir(parents=True, exist_ok=True)

    def introduce(self, neighbours: tuple[HostRecord, ...]) -> None:
        """Tell it the names of all hosts, and what not to send through the proxy."""
        addresses = {host.name: self.network.address(host.number) for host in neighbours}
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"{self.network.gateway} lab"]
        self._write("etc/hosts", "\n".join([*lines, *(f"{where} {name}" for name, where in addresses.items())]) + "\n")
        direct = ["localhost", "127.0.0.1", self.network.subnet, self.network.gateway]
        variables = {
            "http_proxy": self.network.proxy,
            "https_proxy": self.network.proxy,
            "no_proxy": ",".join([*direct, *addresses, *addresses.values()]),
        }
        if certificates():
            variables |= dict.fromkeys(CERTIFICATE_VARIABLES, str(SYSTEM_BUNDLE))
        self._write("etc/environment", "".join(f"{key}={value}\n" for key, value in variables.items()))

    def configure_pip(self, lines: tuple[str, ...]) -> None:
        """Point its pip at the indexes of this machine."""
        self._write("etc/pip.conf", pip_conf(lines))

    def start(self, engines: Path) -> None:
        """Boot it, in its own cgroup and its own session; nothing of it hangs on this process."""
        loop, box = (Cgroup(f"{self.cgroup.name}/{part}") for part in ("loop", "box"))
        for part in (loop, box):
            part.make()
        if self.record.memory is not None:
            self.cgroup.limit_memory(self.record.memory)
        loop_argv = ["sh", "-c", LOOP, "host", *box.enter(self._nspawn(engines))]
        # Entering comes before the fork: once that has returned, the host counts as on.
        argv = loop.enter(["setsid", "--fork", *loop_argv])
        if start(argv, log=self.log, env=NSPAWN_ENVIRONMENT, cwd=Path("/")).wait() != 0:
            raise LabError(f"{self.name}: does not start: {self.last_line()}")

    def answers(self) -> bool:
        """Whether sshd greets; raise if the host has ended instead."""
        try:
            with socket.create_connection((self.address, SSH_PORT), BANNER_TIMEOUT_S) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            if not self.is_on:
                raise LabError(f"{self.name}: ended while it booted: {self.last_line()}") from None
            return False

    def last_line(self) -> str:
        """Quote what its console printed last."""
        if not self.log.is_file():
            return "its console printed nothing"
        text = CONTROL.sub("", self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n"))
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(NSPAWN_NOISE)]
        return lines[-1] if lines else "its console printed nothing"

    def remove(self, *, within: Path) -> None:
        """End it and delete everything that it was."""
        self.cgroup.remove()
        unmount_below(self.folder)
        self.network.disconnect(self.name)
        remove_tree(self.folder, within=within)

    def _nspawn(self, engines: Path) -> list[str]:
        machine = self.network.link(self.name)
        shared = [f"--bind-ro={engines}:/opt/heavylift/engines"] if self.record.share_engines else []
        return [
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.tree}", f"--machine={machine}"),
            *(f"--hostname={self.name}", "--register=no", "--keep-unit", "--link-journal=no", "--timezone=off"),
            *(f"--network-namespace-path={self.network.namespace(self.name)}", "--resolv-conf=off"),
            *("--console=read-only", *shared, *map(_bind, self.record.bind)),
        ]

    def _write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        file = self.tree / path
        if not file.parent.resolve().is_relative_to(self.tree.resolve()):
            raise LabError(f"{self.name}: /{path} lies behind a link that leads out of the host")
        if file.is_file() and not file.is_symlink() and file.read_text(encoding="utf-8") == text:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # a link inside must not lead a write of ours out of the tree
        file.touch(mode)
        file.write_text(text, encoding="utf-8")


def pip_conf(lines: tuple[str, ...]) -> str:
    """Write a pip.conf; where TLS is re-signed, pip must trust the system's bundle instead of its own."""
    trust = (f"cert = {SYSTEM_BUNDLE}",) if certificates() else ()
    return "\n".join(["[global]", "disable-pip-version-check = true", *trust, *lines]) + "\n"


def make_key(file: Path, comment: str) -> str:
    """Make an ed25519 key pair, unless it is there, and return the public half."""
    public = file.with_name(f"{file.name}.pub")
    if not public.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)])
    return public.read_text(encoding="ascii").strip()


def _bind(path: str) -> str:
    """Turn `/a`, `/a:/b` or `/a:/b:ro` into nspawn's option."""
    return f"--bind-ro={path.removesuffix(':ro')}" if path.endswith(":ro") else f"--bind={path}"
