"""Engine environments, built once inside the base image and seen read-only by every host of every lab."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heavylift.errors import LabError
from heavylift.lab import registries
from heavylift.lab.base import CERTIFICATE_VARIABLES, SYSTEM_BUNDLE, certificates
from heavylift.lab.cgroup import Cgroup
from heavylift.lab.host import NSPAWN_ENVIRONMENT, NSPAWN_NOISE, pip_conf
from heavylift.lab.machine import claim, forget_containers, release
from heavylift.lab.mounts import mount_overlay, remove_tree, unmount_below
from heavylift.lab.state import locked
from heavylift.run import stream

__all__ = ["Workshop"]

PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
MACHINE = "heavylift-workshop"
BUILD_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Workshop:
    """A throwaway copy of the base image in which scripts run as root, with the machine's own network.

    `<cache>/opt` is `/opt/heavylift` inside, as one mount, so that hard links between its folders work.
    """

    cache: Path
    base: Path

    @property
    def engines(self) -> Path:
        """Where the engine environments lie on the machine."""
        return self.cache / "opt" / "engines"

    def build_engine(self, name: str, script: str, on_line: Callable[[str], None]) -> None:
        """Run `script` unless `engines/<name>/engine.json` exists, which the script must write last."""
        if not self._is_built(name):
            with locked(self.cache / "workshop.lock"):
                if not self._is_built(name):
                    self._run(script, on_line)
        if not self._is_built(name):
            raise LabError(
                f"engine {name}: its script ended well but wrote no /opt/heavylift/engines/{name}/engine.json"
            )

    def run(self, script: str, on_line: Callable[[str], None]) -> None:
        """Run a POSIX shell script to the end; raise with its last line if it fails."""
        with locked(self.cache / "workshop.lock"):
            self._run(script, on_line)

    def clear(self) -> None:
        """Take away what a killed run left; leave one that is under way alone."""
        with locked(self.cache / "workshop.lock", wait=False) as held:
            if held:
                self._clear()

    def _is_built(self, name: str) -> bool:
        return (self.engines / name / "engine.json").is_file()

    def _run(self, script: str, on_line: Callable[[str], None]) -> None:
        self._clear()
        last = "no output"
        log_path = self.cache / "workshop.log"
        try:
            argv = self._prepare(script)
            with log_path.open("w", encoding="utf-8") as log:

                def keep(line: str) -> None:
                    nonlocal last
                    if line.startswith(NSPAWN_NOISE):
                        return
                    log.write(f"{line}\n")
                    log.flush()
                    last = line.strip() or last
                    on_line(line)

                status = stream(argv, on_line=keep, timeout_s=BUILD_TIMEOUT_S, env=NSPAWN_ENVIRONMENT, cwd=Path("/"))
        finally:
            self._clear()
        if status != 0:
            raise LabError(f"the script in the base image ended with {status}: {last} (log: {log_path})")

    def _prepare(self, script: str) -> list[str]:
        folder, tree = self._folder, self._folder / "tree"
        claim(folder, 0, in_use=frozenset())  # for what nspawn leaves in /run; the number is not used
        mount_overlay(self.base, folder / "upper", folder / "work", tree)
        self.engines.mkdir(parents=True, exist_ok=True)
        (tree / "script.sh").write_text(script, encoding="utf-8")
        lines = registries.pip_lines(registries.pip_settings(), os.environ)
        (tree / "etc/pip.conf").write_text(pip_conf(lines), encoding="utf-8")
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        if certificates():
            variables |= dict.fromkeys(CERTIFICATE_VARIABLES, str(SYSTEM_BUNDLE))
        self._cgroup.make()
        return self._cgroup.enter(
            [
                *("systemd-nspawn", "--quiet", "--as-pid2", "--console=pipe", f"--directory={tree}"),
                *(f"--machine={MACHINE}", "--register=no", "--keep-unit", "--link-journal=no"),
                *("--timezone=off", "--resolv-conf=replace-host", f"--bind={self.engines.parent}:/opt/heavylift"),
                *(f"--setenv={name}={value}" for name, value in variables.items()),
                *("/bin/sh", "-e", "/script.sh"),
            ]
        )

    @property
    def _folder(self) -> Path:
        return self.cache / "workshop"

    @property
    def _cgroup(self) -> Cgroup:
        return Cgroup(f"heavylift-workshop-{zlib.crc32(str(self.cache).encode()):08x}")

    def _clear(self) -> None:
        self._cgroup.remove()
        forget_containers(MACHINE)
        unmount_below(self._folder)
        remove_tree(self._folder, within=self.cache)
        release(self._folder)
