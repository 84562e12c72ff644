"""Take away what heavylift placed, and nothing else; what another deployment still uses stays."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from .fetch import RUN, unit_name

HOME = Path("/opt/heavylift")
SHARED = ("bin", "cache", "engines", "uv")


def main(query: dict[str, Any]) -> dict[str, Any]:
    """Remove the deployment `name` (unit, releases, secrets, state, caches) and `weights` that it placed itself.

    With the last deployment go the engines, the program, the service user and the folders that held them.
    """
    name, unit, removed = query["name"], f"heavylift-{query['name']}.service", []
    subprocess.run(["systemctl", "disable", "--quiet", unit], capture_output=True, check=False)
    for path in _own(name, query["cache"]):
        removed += _remove(path)
    others = [path for path in HOME.glob("*") if path.name not in SHARED]
    if query.get("weights") and not _used(query["weights"], others):
        removed += _remove_weights(Path(query["weights"]))
    if not others:
        removed += _remove_shared(query["user"])
    subprocess.run(["systemctl", "daemon-reload"], capture_output=True, check=False)
    return {"removed": removed}


def _own(name: str, cache: str) -> list[Path]:
    unit = f"heavylift-{name}.service"
    roots = [HOME, Path("/etc/heavylift"), Path("/var/lib/heavylift"), Path("/run/heavylift"), Path(cache)]
    return [Path("/etc/systemd/system") / unit, *(root / name for root in roots)]


def _remove_shared(user: str) -> list[str]:
    removed = []
    for path in (*(HOME / name for name in SHARED), Path("/var/lib/heavylift/.checked")):
        removed += _remove(path)
    for path in (
        HOME,
        Path("/etc/heavylift"),
        Path("/var/lib/heavylift"),
        Path("/run/heavylift"),
        Path("/var/cache/heavylift"),
    ):
        removed += _remove_empty(path)
    if subprocess.run(["userdel", user], capture_output=True, check=False).returncode == 0:
        removed.append(f"user {user}")
    return removed


def _remove_weights(weights: Path) -> list[str]:
    """Remove what carries heavylift's stamp, or its name for a copy under way, and folders left empty by that."""
    subprocess.run(["systemctl", "stop", unit_name(str(weights))], capture_output=True, check=False)
    removed = _remove(RUN / unit_name(str(weights)))
    removed += _remove(weights) if (weights / "stamp.json").is_file() else []
    for suffix in (".partial", ".replaced"):
        removed += _remove(weights.with_name(weights.name + suffix))
    return removed + _remove_empty(weights.parent) + _remove_empty(weights.parent.parent)


def _used(weights: str, deployments: list[Path]) -> bool:
    return any(
        weights in path.read_text("utf-8") for home in deployments for path in home.glob("releases/*/release.json")
    )


def _remove(path: Path) -> list[str]:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir() and not path.is_mount():
        shutil.rmtree(path)
    else:
        return []
    return [str(path)]


def _remove_empty(path: Path) -> list[str]:
    if not path.is_dir() or path.is_mount() or any(path.iterdir()):
        return []
    path.rmdir()
    return [str(path)]
