"""A lab: real Debian hosts on this machine, by name. Everything that it made is gone after `down`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from heavylift.errors import LabError
from heavylift.fleet.inventory import Host, Inventory
from heavylift.lab import fault, need
from heavylift.lab.base import Base
from heavylift.lab.boot import boot, raise_proxy, wait
from heavylift.lab.cgroup import Cgroup
from heavylift.lab.engine import Workshop
from heavylift.lab.host import Disk, LabHost, make_key
from heavylift.lab.machine import HOSTS_AT_MOST, claim, forget_containers, release, taken_numbers
from heavylift.lab.mounts import remove_tree, unmount_below
from heavylift.lab.network import Network, close_filter, numbers_in_use, open_filter
from heavylift.lab.state import HostRecord, LabRecord, boot_id, locked, write_whole

__all__ = ["HostStatus", "Lab", "default_root"]

NAME = re.compile(r"(?!cache$)[a-z][a-z0-9-]{0,30}")
Lines = Callable[[str], None]


def default_root() -> Path:
    """Where labs lie unless told otherwise."""
    return Path(os.environ.get("HEAVYLIFT_LAB_DIR", "/var/lib/heavylift-lab"))


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host as it is now: `on`, `paused`, `cut` or `off`."""

    name: str
    address: str
    state: str


def _ignore(_line: str) -> None:
    """Take progress lines that nobody wants."""


@dataclass(frozen=True, slots=True)
class Lab:
    """Some hosts below one folder; several labs live side by side and share the base image and engines."""

    name: str = "lab"
    root: Path = field(default_factory=default_root)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise LabError(f"lab name {self.name!r}: should be lower-case letters, digits and dashes, and not 'cache'")
        object.__setattr__(self, "root", self.root.absolute())

    @property
    def folder(self) -> Path:
        """What is the lab's own; gone after `down`."""
        return self.root / self.name

    @property
    def cache(self) -> Path:
        """What all labs share; it outlives them."""
        return self.root / "cache"

    @property
    def key(self) -> Path:
        """The private key that opens every host."""
        return self.folder / "key"

    @property
    def ssh_config(self) -> Path:
        """A file for `ssh -F`: every host by name, with strict host keys."""
        return self.folder / "ssh_config"

    def why_not(self) -> str | None:
        """Say in one line what this machine lacks; None if the lab can run."""
        return need.why_not(need.look(self.root))

    def build_base(self, on_line: Lines = _ignore) -> Path:
        """Make the base image unless it is there."""
        self._require()
        return Base(self.cache).build(on_line)

    def up(
        self,
        count: int,
        *,
        share_engines: bool = True,
        bind: Collection[str] = (),
        disk: str | None = None,
        memory: str | None = None,
        on_line: Lines = _ignore,
    ) -> Inventory:
        """See that hosts h1 … h<count> run; the options are for hosts that are new. Further hosts stay as they are.

        Whatever ends this early (Ctrl-C too) takes the hosts that it was making away again.
        """
        if not 1 <= count <= HOSTS_AT_MOST:
            raise LabError(f"{count} hosts: a lab has 1 to {HOSTS_AT_MOST}")
        self._require()
        pattern = HostRecord("", 0, "", share_engines, tuple(bind), disk, memory)
        with locked(self._lock):
            before = self._living()
            try:
                record = self._enlarge(before, count, pattern, on_line)
                self._raise(record, count, on_line)
            except BaseException:
                self._take_back(before)
                raise
        return self.inventory()

    def down(self, names: Collection[str] | None = None) -> None:
        """Take hosts away, or all that the lab is; a lab that is gone or half made is no error."""
        self._require()
        with locked(self._lock):
            record = self._record() if names is not None else None
            if record is None or names is None:
                self._clear()
                return
            for name in names:
                self._pick(record, name)
            self._keep_only(record, [host for host in record.hosts if host.name not in names])

    def purge(self) -> None:
        """Take the lab away, and the base image, the packages and the engines that labs share."""
        self.down()
        Base(self.cache).remove()

    def status(self) -> tuple[HostStatus, ...]:
        """Look at every host; empty where there is no lab."""
        record = self._living()
        hosts = self._hosts(record) if record is not None else ()
        return tuple(HostStatus(host.name, host.address, fault.state(host)) for host in hosts)

    def inventory(self) -> Inventory:
        """List the hosts for the rest of heavylift."""
        hosts = [(host, host.record.host_key.rsplit(" ", 1)[0]) for host in self._hosts(self._present())]
        key = str(self.key)
        return Inventory(
            "lab",
            tuple(Host(host.name, host.address, host.address, host_key=public, key=key) for host, public in hosts),
        )

    def build_engine(self, name: str, script: str, on_line: Lines = _ignore) -> None:
        """Build `/opt/heavylift/engines/<name>` for all hosts, unless its `engine.json` exists."""
        self._workshop(on_line).build_engine(name, script, on_line)

    def run_in_base(self, script: str, on_line: Lines = _ignore) -> None:
        """Run a shell script as root in a throwaway copy of the base image, with `/opt/heavylift` kept."""
        self._workshop(on_line).run(script, on_line)

    def pause(self, name: str) -> None:
        """Hang a host."""
        fault.pause(self._host(name))

    def resume(self, name: str) -> None:
        """Let a hung host go on."""
        fault.resume(self._host(name))

    def cut(self, name: str) -> None:
        """Pull a host's network cable."""
        fault.cut(self._host(name))

    def heal(self, name: str) -> None:
        """Plug a host's network cable in again."""
        fault.heal(self._host(name))

    def power_off(self, name: str) -> None:
        """End a host in one blow; its disk stays."""
        fault.power_off(self._host(name))

    def power_on(self, name: str) -> None:
        """Boot a host that is off, and wait for its sshd."""
        with locked(self._lock):
            record = self._present()
            self._boot(record, [self._pick(record, name)], _ignore)

    @property
    def _lock(self) -> Path:
        return self.root / f"{self.name}.lock"

    @property
    def _file(self) -> Path:
        return self.folder / "lab.json"

    def _require(self) -> None:
        if lacking := self.why_not():
            raise LabError(lacking)

    def _workshop(self, on_line: Lines) -> Workshop:
        return Workshop(self.cache, self.build_base(on_line))

    def _record(self) -> LabRecord | None:
        return LabRecord.load(self._file)

    def _living(self) -> LabRecord | None:
        """Read the lab of this boot: the machine's own reboot leaves nothing of it but files."""
        record = self._record()
        return record if record is not None and record.boot == boot_id() else None

    def _present(self) -> LabRecord:
        record = self._living()
        if record is None:
            raise LabError(f"lab {self.name!r} does not run", hint="`heavylift lab up --hosts 2` starts it")
        return record

    def _hosts(self, record: LabRecord) -> tuple[LabHost, ...]:
        network = Network(record.number)
        return tuple(LabHost(host, self.folder / "hosts" / host.name, network) for host in record.hosts)

    def _host(self, name: str) -> LabHost:
        return self._pick(self._present(), name)

    def _pick(self, record: LabRecord, name: str) -> LabHost:
        found = next((host for host in self._hosts(record) if host.name == name), None)
        if found is None:
            has = ", ".join(host.name for host in record.hosts)
            raise LabError(f"lab {self.name!r} has no host {name!r}, it has {has}")
        return found

    def _enlarge(self, before: LabRecord | None, count: int, pattern: HostRecord, on_line: Lines) -> LabRecord:
        """Write down what will be made before any of it is."""
        base = Path(before.base) if before is not None else Base(self.cache).build(on_line)
        if before is None:
            self._clear()
        present = before.hosts if before is not None else ()
        number = claim(
            self.folder, max(count, len(present)), in_use=numbers_in_use() if before is None else frozenset()
        )
        make_key(self.key, "heavylift-lab")
        new = [replace(pattern, name=f"h{index}", number=index) for index in range(1, count + 1)]
        new = [host for host in new if host.name not in {old.name for old in present}]
        with ThreadPoolExecutor() as pool:
            keys = pool.map(lambda host: make_key(self.folder / "hosts" / host.name / "host_key", host.name), new)
            made = [replace(host, host_key=key) for host, key in zip(new, keys, strict=True)]
        hosts = tuple(sorted((*present, *made), key=lambda host: host.number))
        rules = Network(number).rules_needed() if before is None else before.rules
        record = LabRecord(self.name, number, boot_id(), str(base), hosts, rules)
        if record != before:
            record.save(self._file)
        return record

    def _raise(self, record: LabRecord, count: int, on_line: Lines) -> None:
        network = Network(record.number)
        network.raise_bridge()
        open_filter(record.rules)
        hosts = self._hosts(record)
        off = [host for host in hosts if host.record.number <= count and not host.is_on]
        if len(hosts) > count:
            on_line(f"{len(hosts)} hosts exist, {count} asked for: the others stay (`heavylift lab down` removes all)")
        self._boot(record, off, on_line)
        for host in hosts:
            if host not in off and host.tree.is_dir():
                host.introduce(record.hosts)
        self._write_ssh_files(hosts)

    def _boot(self, record: LabRecord, hosts: Collection[LabHost], on_line: Lines) -> None:
        network = Network(record.number)
        disk = Disk(
            base=Path(record.base),
            engines=self.cache / "opt" / "engines",
            authorized=self.key.with_name("key.pub").read_text(encoding="ascii"),
            neighbours=record.hosts,
        )
        with ThreadPoolExecutor(1) as pool:
            proxy = pool.submit(raise_proxy, network, self.folder, self.cache)
            network.connect((host.name, host.record.number) for host in hosts)
            boot(tuple(hosts), disk)
            wait(tuple(hosts), on_line)
            for host in hosts:
                host.configure_pip(proxy.result().pip)

    def _write_ssh_files(self, hosts: tuple[LabHost, ...]) -> None:
        known = self.folder / "known_hosts"
        write_whole(known, "".join(f"{host.name},{host.address} {host.record.host_key}\n" for host in hosts))
        names = "".join(f"Host {host.name} {host.address}\n    HostName {host.address}\n" for host in hosts)
        options = {
            "User": "root",
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": known,
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": 10,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
        }
        write_whole(self.ssh_config, f"{names}Host *\n" + "".join(f"    {key} {val}\n" for key, val in options.items()))

    def _take_back(self, before: LabRecord | None) -> None:
        if before is None:
            self._clear()
            return
        record = self._record() or before
        self._keep_only(record, list(before.hosts))

    def _keep_only(self, record: LabRecord, kept: list[HostRecord]) -> None:
        if not kept:
            self._clear()
            return
        for host in self._hosts(record):
            if host.record not in kept:
                host.remove(within=self.root)
        smaller = replace(record, hosts=tuple(kept))
        smaller.save(self._file)
        claim(self.folder, len(kept), in_use=frozenset())
        self._write_ssh_files(self._hosts(smaller))

    def _clear(self) -> None:
        """Take away whatever carries the lab's name or number, written down or not."""
        Workshop(self.cache, self.cache).clear()
        rules: tuple[tuple[str, ...], ...] = ()
        number = taken_numbers().get(str(self.folder))
        try:
            record = self._living()
        except LabError:
            record = None  # damaged: what it made is found by its claim
        if record is not None:
            number, rules = record.number, record.rules
        if number is not None:
            network = Network(number)
            Cgroup(f"heavylift-{network.tag}").remove()
            unmount_below(self.folder)
            network.remove()
            close_filter(rules)
            forget_containers(f"{network.tag}-")
        unmount_below(self.folder)
        remove_tree(self.folder, within=self.root)
        release(self.folder)
