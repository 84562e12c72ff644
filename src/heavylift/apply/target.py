"""Everything that is wanted on one host, and the one question that tells what of it is there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heavylift.fleet.inventory import Host
from heavylift.fleet.onhost import PATH, application_sha256
from heavylift.plan import Plan
from heavylift.render import File, Release, host_files
from heavylift.render.hosts import listen_address
from heavylift.render.release import USER

__all__ = ["Target"]

_LIBRARIES = {"cpu": ("numa",), "cuda": ()}
_PROGRAMS = ("rsync",)


@dataclass(frozen=True, slots=True)
class Target:
    """One host's wanted state. `key_sha256` is the digest of the key's file; the key itself stays out of here."""

    plan: Plan
    release: Release
    host: Host
    slot: int
    key_sha256: str | None

    @property
    def unit_file(self) -> File:
        """The unit as systemd reads it."""
        return File(f"/etc/systemd/system/{self.plan.unit}", self.release.file("engine.service").text)

    @property
    def host_files(self) -> tuple[File, ...]:
        """The files that only this host has."""
        return host_files(self.plan, self.host, self.slot)

    @property
    def key_path(self) -> str:
        """Where the API key lies: root's alone, handed to the engine as a credential."""
        return f"{self.plan.secrets}/api-key"

    @property
    def link(self) -> str:
        """The link to the release that serves."""
        return f"{self.plan.home}/current"

    @property
    def directories(self) -> tuple[tuple[str, str, str], ...]:
        """Folders that must be there: path, owner, mode."""
        plan = self.plan
        return (
            ("/opt/heavylift", "root", "755"),
            ("/opt/heavylift/bin", "root", "755"),
            (plan.home, "root", "755"),
            (f"{plan.home}/releases", "root", "755"),
            ("/etc/heavylift", "root", "755"),
            (plan.secrets, "root", "700"),
            (plan.deployment.paths.cache, "root", "755"),
            (plan.cache, USER, "750"),
        )

    @property
    def address(self) -> str:
        """Where the replica listens."""
        return listen_address(self.plan, self.host)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Shared libraries that the engine loads from the system."""
        return _LIBRARIES[self.plan.device]

    @property
    def query(self) -> dict[str, Any]:
        """What a look at the host must tell."""
        files = [*self.release.files, *self.host_files, self.unit_file]
        weights = self.plan.checkpoint
        return {
            "user": USER,
            "files": sorted({PATH, self.key_path, *(file.path for file in files)}),
            "links": [self.link],
            "directories": [*(path for path, _, _ in self.directories), "/opt/heavylift/engines"],
            "libraries": list(self.libraries),
            "programs": list(_PROGRAMS),
            "unit": self.plan.unit,
            "port": self.plan.deployment.access.port,
            "weights": self.plan.model_directory,
            "manifest": weights.manifest.sha256 if weights else None,
            "engine": self.plan.engine_directory,
        }

    @property
    def program_sha256(self) -> str:
        """Digest of the program that runs on hosts."""
        return application_sha256()
