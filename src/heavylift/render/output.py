"""Rendered files → a folder of the user's; never over files that heavylift did not write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from heavylift.errors import HeavyliftError
from heavylift.render.template import File

__all__ = ["write"]

RECORD = ".heavylift-rendered.json"


def write(folder: Path, files: Mapping[str, File]) -> None:
    """Write files by relative name; a file that is not as heavylift left it is an error, and nothing is written."""
    record = folder / RECORD
    known: dict[str, str] = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    foreign = [name for name, file in files.items() if _is_foreign(folder / name, known.get(name), file)]
    if foreign:
        message = f"{folder / foreign[0]}: not written by heavylift, or changed since"
        raise HeavyliftError(message, hint="nothing was written; choose another folder, or move the file away")
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
        path.chmod(int(file.mode, 8))
    written = {name: file.sha256 for name, file in files.items()}
    record.write_text(json.dumps({**known, **written}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _is_foreign(path: Path, known: str | None, file: File) -> bool:
    if not path.exists():
        return False
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return content not in {known, file.sha256}
