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
    try:
        known = _known(folder / RECORD)
        foreign = [name for name, file in files.items() if _is_foreign(folder / name, known.get(name), file)]
        if foreign:
            message = f"{folder / foreign[0]}: not written by heavylift, or changed since"
            raise HeavyliftError(message, hint="nothing was written; choose another folder, or move the file away")
        for name, file in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text, encoding="utf-8")
            path.chmod(int(file.mode, 8))
        written = {**known, **{name: file.sha256 for name, file in files.items()}}
        (folder / RECORD).write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise HeavyliftError(f"{error.filename}: {error.strerror}") from None


def _known(record: Path) -> dict[str, str]:
    """Return the digests of what was written before; a damaged record knows nothing."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _is_foreign(path: Path, known: str | None, file: File) -> bool:
    if path.is_symlink() or path.is_dir():
        return True
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() not in {known, file.sha256}
