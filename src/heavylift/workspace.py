"""A deployment file and what lies beside it: the one place that turns a path into spec, plan, release and inventory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from heavylift.errors import FleetError, Problem, SpecError
from heavylift.fleet.inventory import Host, Inventory
from heavylift.plan import Plan, examine, plan
from heavylift.render import Release, render
from heavylift.spec import Deployment, Source, locate, read
from heavylift.weights import Checkpoint, Wish, remembered
from heavylift.weights import examine as examine_weights

__all__ = ["VARIABLE", "Workspace"]

VARIABLE = "HEAVYLIFT_DEPLOYMENT"


@dataclass
class Workspace:
    """A valid deployment file; everything else is derived when it is first asked for."""

    path: Path
    deployment: Deployment
    source: Source

    @classmethod
    def open(cls, path: Path) -> Workspace:
        """Read the file; raise `SpecError` with every problem."""
        deployment, source = read(path)
        return cls(path, deployment, source)

    @classmethod
    def current(cls) -> Workspace:
        """Open the file that `$HEAVYLIFT_DEPLOYMENT` names, else `deployment.yaml` here: as pyinfra runs do."""
        return cls.open(Path(os.environ.get(VARIABLE, "deployment.yaml")))

    @property
    def folder(self) -> Path:
        """`.heavylift/` beside the file: inventory, known hosts, remembered digests, logs of runs."""
        return self.path.absolute().parent / ".heavylift"

    @property
    def known_hosts(self) -> Path:
        """Host keys of the inventory, in OpenSSH's format."""
        return self.folder / "known_hosts"

    @property
    def manifests(self) -> Path:
        """What is remembered of checkpoints: digests of local ones, lists and small files of a hub's."""
        return self.folder / "manifests"

    @property
    def wish(self) -> Wish | None:
        """What is wanted of a hub; None where the model is a directory."""
        model = self.deployment.model
        if model.repo is None or model.revision is None:
            return None
        load_format = str(self.deployment.engine.arguments.get("load-format", "auto")).lower()
        return Wish(model.repo, model.revision, tuple(model.allow_patterns), tuple(model.ignore_patterns), load_format)

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """What this machine knows of the checkpoint; None where only hosts have it, or the hub was not asked yet."""
        model = self.deployment.model
        if self.wish is not None:
            return remembered(self.wish, self.manifests)
        if model.path is None or model.place == "host":
            return None
        return examine_weights(self.path.absolute().parent / model.path, self.manifests)

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong or worth knowing beyond the sections' own rules."""
        return examine(self.deployment, self.checkpoint)

    @cached_property
    def plan(self) -> Plan:
        """The plan; raise `SpecError` where the problems hold an error."""
        errors = [problem for problem in self.problems if problem.severity == "error"]
        if errors:
            raise SpecError([self.show(problem) for problem in errors])
        return plan(self.deployment, self.checkpoint)

    @cached_property
    def release(self) -> Release:
        """The rendered release."""
        return render(self.plan)

    @cached_property
    def inventory(self) -> Inventory:
        """The hosts: from `hosts.list`, else from the file that `lab up` or `provision` wrote."""
        hosts = self.deployment.hosts
        path = self.folder / "inventory.json"
        if hosts.source == "owned":
            inventory = Inventory("owned", tuple(self._owned(h.model_dump()) for h in hosts.list))
            inventory.save(path)
        else:
            inventory = Inventory.load(path)
            self._must_fit(inventory, path)
            _must_have_keys(inventory, path)
        self._write_known_hosts(inventory)
        return inventory

    @property
    def slots(self) -> tuple[tuple[Host, int], ...]:
        """Every host with the CPU core of this machine that its engine gets if it is a lab host."""
        cores = os.cpu_count() or 1
        return tuple((host, number % cores) for number, host in enumerate(self.inventory.hosts))

    def show(self, problem: Problem) -> str:
        """Return a problem's one line, with the file's line."""
        return locate(problem, self.source, str(self.path))

    def key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the API key's value from the environment; raise where it is named but not set."""
        name = self.deployment.access.key
        if name is None:
            return None
        value = environment.get(name, "")
        if not value.strip() or any(ord(character) < 33 or ord(character) > 126 for character in value):
            problem = Problem(
                "access/key", f"${name} is not set, or holds blanks; export it: the API key comes from there"
            )
            raise SpecError([self.show(problem)])
        return value

    def _owned(self, host: dict[str, object]) -> Host:
        private = host.pop("private_address") or host["address"]
        return Host(private_address=str(private), **host)  # type: ignore[arg-type]

    def _must_fit(self, inventory: Inventory, path: Path) -> None:
        wanted = self.deployment.hosts
        if inventory.source != wanted.source:
            message = f"{path}: lists hosts of `{inventory.source}`, the deployment wants `{wanted.source}`"
            raise FleetError(message, hint="`heavylift up` writes it again")
        count = getattr(wanted, "count", 0)
        if len(inventory.hosts) < count:
            hint = (
                f"`heavylift lab up --hosts {count}` adds the rest" if wanted.source == "lab" else "provision the rest"
            )
            raise FleetError(f"{path}: lists {len(inventory.hosts)} hosts, the deployment wants {count}", hint=hint)

    def _write_known_hosts(self, inventory: Inventory) -> None:
        rows = [f"{_pattern(host)} {host.host_key}\n" for host in inventory.hosts if host.host_key]
        text = "".join(rows)
        if not self.known_hosts.is_file() or self.known_hosts.read_text(encoding="utf-8") != text:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.known_hosts.write_text(text, encoding="utf-8")


def _must_have_keys(inventory: Inventory, path: Path) -> None:
    for host in inventory.hosts:
        if host.key is not None and not Path(host.key).expanduser().is_file():
            hint = "the lab is gone: `heavylift up` makes it again" if inventory.source == "lab" else "correct the path"
            raise FleetError(f"{path}: {host.name}: no key {host.key}", hint=hint)


def _pattern(host: Host) -> str:
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"
