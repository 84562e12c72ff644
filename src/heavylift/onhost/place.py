"""Write files whole or not at all: beside, owner, mode, fsync, rename. A full disk leaves the old content in place."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def main(query: dict[str, Any]) -> dict[str, Any]:
    """Place `files` (path, text, mode), rename `moves` (from, to), then point `links` (path → target)."""
    for entry in query.get("files", []):
        write(Path(entry["path"]), entry["text"], int(entry["mode"], 8))
    for source, target in query.get("moves", []):
        os.chown(source, 0, 0)
        os.chmod(source, 0o600)
        os.replace(source, target)
    for path, target in query.get("links", {}).items():
        beside = f"{path}.new"
        if os.path.islink(beside):
            os.unlink(beside)
        os.symlink(target, beside)
        os.replace(beside, path)
    return {"files": len(query.get("files", [])), "links": len(query.get("links", {}))}


def secret_main(query: dict[str, Any]) -> dict[str, Any]:
    """Write what comes on standard input to `path`, readable for root alone: it is on no command line."""
    write(Path(query["path"]), sys.stdin.read(), 0o600)
    return {}


def write(path: Path, text: str, mode: int) -> None:
    """Write one file atomically, owned by root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), 0, 0)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise RuntimeError(f"{path}: {error.strerror}") from None
