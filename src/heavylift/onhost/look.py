"""One look at a host: everything that a deploy decides on, in one round trip."""

from __future__ import annotations

import ctypes.util
import hashlib
import json
import os
import platform
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import checkpoint

SHOWN = "ActiveState,SubState,Result,MainPID,NRestarts,ActiveEnterTimestamp,UnitFileState,NeedDaemonReload,InvocationID"


def main(query: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked for: `files`, `links`, `directories`, `unit`, `port`, `weights`, `engine`, `user`."""
    return {
        "system": system(),
        "user": query.get("user") in {entry.pw_name for entry in pwd.getpwall()},
        "files": {path: file(Path(path)) for path in query.get("files", [])},
        "links": {path: os.readlink(path) if os.path.islink(path) else None for path in query.get("links", [])},
        "directories": {path: directory(Path(path)) for path in query.get("directories", [])},
        "programs": {name: shutil.which(name) is not None for name in query.get("programs", [])},
        "libraries": {name: ctypes.util.find_library(name) is not None for name in query.get("libraries", [])},
        "unit": unit(query["unit"]) if query.get("unit") else None,
        "listener": listener(query["port"]) if query.get("port") else None,
        "weights": checkpoint.state(Path(query["weights"]), query.get("manifest")) if query.get("weights") else None,
        "engine": document(Path(query["engine"]) / "engine.json") if query.get("engine") else None,
        "gpus": gpus(),
    }


def system() -> dict[str, Any]:
    """Return distribution, architecture, CPU, memory, shared memory and free space (bytes)."""
    release: dict[str, str] = {}
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        release[key] = value.strip('"')
    vendor = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("vendor_id")), "")
    memory = next((int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "distribution": release.get("ID", ""),
        "release": release.get("VERSION_ID", ""),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "root": os.geteuid() == 0,
        "systemd": Path("/run/systemd/system").is_dir(),
        "cpu": vendor,
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "shared_memory_free": _free("/dev/shm"),
        "free": {path: _free(path) for path in ("/", "/opt", "/srv", "/var")},
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(),
    }


def file(path: Path) -> dict[str, Any] | None:
    """Return sha256, mode, owner and (up to 64 KiB, no secrets directory) the text of a file."""
    try:
        content, status = path.read_bytes(), path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    readable = stat.S_IMODE(status.st_mode) & 0o077 != 0 and len(content) <= 65536
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "mode": format(stat.S_IMODE(status.st_mode), "o"),
        "owner": status.st_uid,
        "text": content.decode("utf-8", "replace") if readable else None,
    }


def directory(path: Path) -> dict[str, Any] | None:
    """Return mode, owner and whether a directory can be written to by root (not a read-only mount)."""
    if not path.is_dir():
        return None
    status = path.stat()
    readonly = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return {"mode": format(stat.S_IMODE(status.st_mode), "o"), "owner": status.st_uid, "readonly": readonly}


def unit(name: str) -> dict[str, str]:
    """Return systemd's view of a unit; `ActiveState` is `inactive` for one that does not exist."""
    shown = subprocess.run(["systemctl", "show", name, "-p", SHOWN], capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)


def listener(port: int) -> dict[str, Any] | None:
    """Return who listens on a TCP port: pid and command; pid 0 where the kernel does not tell."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in _lines(table)[1:]:
            cells = row.split()
            if cells[3] == "0A" and int(cells[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{cells[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(_target(link) in inodes for link in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return {"pid": int(process.name), "command": command[:120], "unit": _unit_of(process)}
        except OSError:
            continue
    return {"pid": 0, "command": "", "unit": ""}


def gpus() -> list[str]:
    """Return the GPUs' names as the driver gives them; empty without one."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    return asked.stdout.splitlines() if asked.returncode == 0 else []


def document(path: Path) -> Any:
    """Return a JSON file's content, or None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _target(link: Path) -> str:
    """Return where a descriptor points; one that was closed meanwhile is no reason to skip its whole process."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _unit_of(process: Path) -> str:
    for line in _lines(str(process / "cgroup")):
        name = line.rpartition("/")[2]
        if name.endswith(".service"):
            return name
    return ""


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _free(path: str) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


if sys.version_info < (3, 9):
    raise SystemExit(f"heavylift: python3 is {platform.python_version()}, 3.9 or later is needed")
