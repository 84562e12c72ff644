"""The base image: one debootstrapped Debian tree that every host sees through its own overlay.

Built beside and renamed, so a base is complete or absent. Its name is the hash of what it is made from: another
package list, setup or local CA certificate makes another base, and one that no lab uses any more is deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heavylift.errors import LabError
from heavylift.lab import apt
from heavylift.lab.mounts import MOUNTINFO, remove_tree, unmount_below
from heavylift.lab.state import locked
from heavylift.run import stream

__all__ = ["CERTIFICATE_VARIABLES", "OPSPW_PASSWORD", "PACKAGES", "SYSTEM_BUNDLE", "Base", "certificates"]

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "python3", "python3-venv"),
    *("python3-apt", "iproute2", "iputils-ping", "curl", "ca-certificates", "procps", "kmod", "rsync", "acl"),
    "libnuma1",  # the engine's CPU kernels do not load without it
)
OPSPW_PASSWORD = "lab"  # noqa: S105 - the known password of the user that proves `sudo` with a password
IMAGE = Path(__file__).parent / "image"
LOCAL_CERTIFICATES = Path("/usr/local/share/ca-certificates")
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
DEBOOTSTRAP_TIMEOUT_S = 1800.0
SETUP_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Base:
    """The base image below the cache folder, which all labs share."""

    cache: Path

    @property
    def digest(self) -> str:
        """What the image is made from, as a hash."""
        files = [*_files(IMAGE), *certificates()]
        contents = [[file.name, file.read_text(encoding="latin-1")] for file in files]
        recipe = [apt.SUITE, PACKAGES, OPSPW_PASSWORD, contents]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]

    @property
    def tree(self) -> Path:
        """Where the image lies, or will lie."""
        return self.cache / "base" / self.digest

    @property
    def log(self) -> Path:
        """What the last build wrote."""
        return self.cache / "base.log"

    def build(self, on_line: Callable[[str], None]) -> Path:
        """Make the image unless it is there; a build that was cut off is cleared away and done again."""
        with locked(self.cache / "base.lock"):
            if not self.tree.is_dir():
                self._clear_old()
                try:
                    self._build_beside(self.tree.with_name(f"{self.tree.name}.partial"), on_line)
                except BaseException:
                    self._clear_old()
                    raise
        return self.tree

    def _build_beside(self, beside: Path, on_line: Callable[[str], None]) -> None:
        (self.cache / "debs").mkdir(parents=True, exist_ok=True)
        self.log.write_text("", encoding="utf-8")
        self._debootstrap(beside, on_line)
        self._furnish(beside)
        self._set_up(beside, on_line)
        beside.rename(self.tree)

    def _clear_old(self) -> None:
        """Delete partial builds, and images of another recipe that no overlay stands on."""
        in_use = MOUNTINFO.read_text(encoding="utf-8")
        for folder in (self.cache / "base").glob("*"):
            if f"lowerdir={folder}," not in in_use:
                unmount_below(folder)  # debootstrap leaves /proc mounted when it is killed
                remove_tree(folder, within=self.cache)

    def _debootstrap(self, tree: Path, on_line: Callable[[str], None]) -> None:
        tree.parent.mkdir(parents=True, exist_ok=True)
        archives = apt.debian_archives(apt.archives(), apt.os_release())
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", f"--cache-dir={self.cache / 'debs'}"]
        mirror = [archives[0].uri] if archives else []  # debootstrap knows Debian's default mirror by itself
        argv = ["debootstrap", *options, apt.SUITE, str(tree), *mirror]
        self._stream(argv, on_line, timeout_s=DEBOOTSTRAP_TIMEOUT_S)
        if archives:
            lines = "".join(f"{archive.line}\n" for archive in archives)
            (tree / "etc/apt/sources.list").write_text(lines, encoding="utf-8")

    def _furnish(self, tree: Path) -> None:
        shutil.copytree(IMAGE / "files", tree, dirs_exist_ok=True, copy_function=shutil.copyfile)
        for file in certificates():
            shutil.copyfile(file, tree / LOCAL_CERTIFICATES.relative_to("/") / f"{file.stem}.crt")
        shutil.copyfile(IMAGE / "setup.sh", tree / "setup.sh")

    def _set_up(self, tree: Path, on_line: Callable[[str], None]) -> None:
        argv = ["chroot", str(tree), "/bin/sh", "-e", "/setup.sh", OPSPW_PASSWORD]
        self._stream(argv, on_line, timeout_s=SETUP_TIMEOUT_S)
        (tree / "setup.sh").unlink()

    def _stream(self, argv: list[str], on_line: Callable[[str], None], *, timeout_s: float) -> None:
        last = "no output"
        with self.log.open("a", encoding="utf-8") as log:

            def keep(line: str) -> None:
                nonlocal last
                log.write(f"{line}\n")
                last = line.strip() or last
                on_line(line)

            environment = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
            status = stream(argv, on_line=keep, timeout_s=timeout_s, env=environment)
        if status != 0:
            message = f"base image: {argv[0]} ended with {status}: {last} (log: {self.log})"
            raise LabError(
                message, hint="check that `apt-get update` works on this machine, then run the command again"
            )

    def remove(self) -> None:
        """Delete every image, the downloaded packages and the shared engines."""
        with locked(self.cache / "base.lock"):
            in_use = MOUNTINFO.read_text(encoding="utf-8")
            if f"lowerdir={self.cache / 'base'}/" in in_use:
                raise LabError(
                    f"{self.cache}: another lab still stands on the base image", hint="take that lab down first"
                )
            unmount_below(self.cache)
            for folder in self.cache.iterdir():
                if folder.name != "base.lock":
                    remove_tree(folder, within=self.cache)


def certificates() -> tuple[Path, ...]:
    """List what this machine trusts beyond its distribution, needed where TLS is re-signed; mostly nothing."""
    named = (Path(os.environ[name]) for name in CERTIFICATE_VARIABLES if os.environ.get(name))
    bundles = sorted({path.resolve() for path in named if path.is_file()} - {SYSTEM_BUNDLE.resolve()})
    return (*(file for file in _files(LOCAL_CERTIFICATES) if file.suffix == ".crt"), *bundles)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
