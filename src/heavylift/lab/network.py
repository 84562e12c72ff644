"""The lab's network: one bridge, and a veth pair and a network namespace for each host. No route leads out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift.run import run

__all__ = ["PROXY_PORT", "Network", "close_filter", "numbers_in_use", "open_filter"]

PREFIX = "10.77"
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
NAMESPACES = Path("/run/netns")
FIRST_HOST = 10
PROXY_PORT = 3142


@dataclass(frozen=True, slots=True)
class Network:
    """Names and addresses of one lab, all derived from its subnet number."""

    number: int

    @property
    def tag(self) -> str:
        """The start of every name on the machine: 4 characters, for an interface name has at most 15."""
        return f"hv{self.number:02x}"

    @property
    def bridge(self) -> str:
        """The bridge's interface."""
        return f"{self.tag}-br"

    @property
    def gateway(self) -> str:
        """The bridge's address, where the proxy listens."""
        return f"{PREFIX}.{self.number}.1"

    @property
    def subnet(self) -> str:
        """All addresses of the lab."""
        return f"{PREFIX}.{self.number}.0/24"

    @property
    def proxy(self) -> str:
        """Where hosts find the proxy."""
        return f"http://{self.gateway}:{PROXY_PORT}"

    def address(self, number: int) -> str:
        """Give the address of host `number`."""
        return f"{PREFIX}.{self.number}.{FIRST_HOST + number}"

    def link(self, host: str) -> str:
        """Name the machine's end of a host's cable, which is also the name of its network namespace."""
        return f"{self.tag}-{host}"

    def namespace(self, host: str) -> Path:
        """Find the host's network namespace."""
        return NAMESPACES / self.link(host)

    def raise_bridge(self) -> None:
        """Create the bridge with the gateway's address, unless it is there."""
        if self.bridge in _links():
            return
        _batch(
            f"link add {self.bridge} type bridge",
            f"addr add {self.gateway}/24 dev {self.bridge}",
            f"link set {self.bridge} up",
        )

    def connect(self, hosts: Iterable[tuple[str, int]]) -> None:
        """Give each host (name, number) that has none a namespace and a cable to the bridge."""
        present = _links()
        for host, number in hosts:
            link = self.link(host)
            if link in present and self.namespace(host).exists():
                continue
            self.disconnect(host)
            _batch(
                f"netns add {link}",
                f"link add {link} type veth peer name host0 netns {link}",
                f"link set {link} master {self.bridge} up",
            )
            _batch(
                "link set lo up",
                f"addr add {self.address(number)}/24 dev host0",
                "link set host0 up",
                namespace=link,
            )

    def disconnect(self, host: str) -> None:
        """Take a host's cable and namespace away."""
        if self.link(host) in _links():
            run(["ip", "link", "delete", self.link(host)], check=False)
        if self.namespace(host).exists():
            run(["ip", "netns", "delete", self.link(host)], check=False)

    def set_cable(self, host: str, *, plugged: bool) -> None:
        """Plug a host's cable in, or pull it."""
        run(["ip", "link", "set", self.link(host), "up" if plugged else "down"])

    def is_cut(self, host: str) -> bool:
        """Whether the host's cable is pulled."""
        return "UP" not in _links().get(self.link(host), {}).get("flags", ["UP"])

    def remove(self) -> None:
        """Take away everything that carries the lab's tag, recorded or not."""
        for link in sorted(_links(), key=lambda name: name == self.bridge):
            if link.startswith(f"{self.tag}-"):
                run(["ip", "link", "delete", link], check=False)
        names = [path.name for path in NAMESPACES.glob(f"{self.tag}-*")]
        for name in names:
            run(["ip", "netns", "delete", name], check=False)

    def rules_needed(self) -> tuple[tuple[str, ...], ...]:
        """Which iptables rules this machine's filter makes necessary (dockerd sets FORWARD DROP, ufw INPUT DROP)."""
        if shutil.which("iptables") is None:
            return ()
        rules: list[tuple[str, ...]] = []
        if _is_on(BRIDGE_FILTER) and _drops("FORWARD"):
            rules.append(("FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT"))
        if _drops("INPUT"):
            rules.append(("INPUT", "-i", self.bridge, "-p", "tcp", "--dport", str(PROXY_PORT), "-j", "ACCEPT"))
        return tuple(rules)


def open_filter(rules: Sequence[tuple[str, ...]]) -> None:
    """Put the rules in front, unless they are there."""
    for rule in rules:
        if run(["iptables", "-w", "-C", *rule], check=False).returncode != 0:
            run(["iptables", "-w", "-I", *rule])


def close_filter(rules: Sequence[tuple[str, ...]]) -> None:
    """Take the rules away again."""
    for rule in rules:
        run(["iptables", "-w", "-D", *rule], check=False)


def numbers_in_use() -> frozenset[int]:
    """List the subnet numbers 10.77.x that some interface of this machine has, or routes to."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]")
    parts = [str(route.get("dst", "")).split(".") for route in routes]
    return frozenset(int(part[2]) for part in parts if ".".join(part[:2]) == PREFIX and len(part) > 3)


def _links() -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(run(["ip", "-json", "link", "show"]).stdout)}


def _batch(*commands: str, namespace: str | None = None) -> None:
    inside = ["-netns", namespace] if namespace is not None else []
    run(["ip", *inside, "-batch", "-"], input="\n".join(commands) + "\n")


def _is_on(switch: Path) -> bool:
    return switch.exists() and switch.read_text(encoding="ascii").strip() == "1"


def _drops(chain: str) -> bool:
    """Whether a chain may drop what no rule of ours accepts: by policy or by any rule of its own."""
    lines = run(["iptables", "-w", "-S", chain], check=False).stdout.splitlines()
    return len(lines) > 1 or "DROP" in "".join(lines)
