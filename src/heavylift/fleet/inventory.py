"""The inventory: `.heavylift/inventory.json`, the one file that says which hosts there are.

Written by `lab up`, by `provision`, or from `hosts.list` of the deployment; read by `inventories/` and every command.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heavylift.errors import FleetError

__all__ = ["Host", "Inventory"]

SCHEMA = "heavylift/inventory"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Host:
    """One machine reached over SSH. `private_address` is where a replica listens and other hosts find it."""

    name: str
    address: str
    private_address: str
    port: int = 22
    user: str = "root"
    jump: str | None = None
    host_key: str | None = None  # "ssh-ed25519 AAAA…": what the host must present; None leaves it to known_hosts
    key: str | None = None  # path of a private key; None leaves it to the agent and ~/.ssh/config


@dataclass(frozen=True, slots=True)
class Inventory:
    """Hosts by name, in order, and where the list came from (`owned`, `lab`, `stack`)."""

    source: str
    hosts: tuple[Host, ...] = field(default_factory=tuple)

    @classmethod
    def load(cls, path: Path) -> Inventory:
        """Read the file; raise `FleetError` where it is missing, damaged, or of a later version."""
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if (document["schema"], document["version"]) != (SCHEMA, VERSION):
                message = f"{path}: {document['schema']} version {document['version']}, this heavylift reads {VERSION}"
                raise FleetError(message, hint="delete the file and let `heavylift up` write it again")
            return cls(document["source"], tuple(Host(**host) for host in document["hosts"]))
        except FileNotFoundError:
            raise FleetError(f"{path}: no inventory yet", hint="`heavylift up` writes it") from None
        except (KeyError, TypeError, ValueError) as error:
            raise FleetError(f"{path}: damaged ({error})", hint="delete it; `heavylift up` writes it again") from None

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; equal content leaves the file alone."""
        document = {
            "schema": SCHEMA,
            "version": VERSION,
            "source": self.source,
            "hosts": [asdict(host) for host in self.hosts],
        }
        text = json.dumps(document, indent=2) + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
