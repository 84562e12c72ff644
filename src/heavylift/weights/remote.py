"""A commit of a hub as a `Checkpoint`: looked up once online, remembered beside the deployment, the same ever after.

The hub tells the sha256 of large files. Plain git files (configuration, index, tokenizer) have none there: they are
small, so they are read here, proven by their git id, and hashed. So the whole manifest is known before any host moves
a byte, is equal on all hosts, and its sha256 is part of the release. What is kept is a cache: a commit never changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.errors import WeightsError
from heavylift.weights.manifest import Checkpoint, Manifest
from heavylift.weights.select import CONFIG, RemoteFile, Wish, index_name, select

if TYPE_CHECKING:  # a remembered commit needs no network, nor the modules for it
    from heavylift.weights.hub import Hub

__all__ = ["look_up", "remembered"]

_TREE = "tree.json"
_SCHEMA = ("heavylift/hub-tree", 1)
_Read = Callable[[RemoteFile], bytes | None]


def remembered(wish: Wish, folder: Path) -> Checkpoint | None:
    """Return what an earlier `look_up` found, without any network; None where something of it is not here."""
    home = _home(wish, folder)
    files = _load(home / _TREE)
    return _build(wish, home, files, lambda file: _kept(home, file)) if files is not None else None


def look_up(hub: Hub, wish: Wish, folder: Path) -> Checkpoint:
    """Ask the hub for what is not remembered; `folder` is where it is kept. Raises `WeightsError`."""
    home = _home(wish, folder)
    files = _load(home / _TREE)
    if files is None:
        files = hub.tree(wish.repo, wish.commit)
        _save(home / _TREE, files)

    def read(file: RemoteFile) -> bytes:
        content = _kept(home, file)
        if content is None:
            content = hub.read(wish.repo, wish.commit, file)
            _write(home / "files" / file.path, content)
        return content

    found = _build(wish, home, files, read)
    assert found is not None, "what is not here was read"
    return found


def _build(wish: Wish, home: Path, files: Sequence[RemoteFile], read: _Read) -> Checkpoint | None:
    by_path, index = {file.path: file for file in files}, index_name(wish)
    shards = None
    if index in by_path and index is not None:
        content = read(by_path[index])
        if content is None:
            return None
        shards = _shards(content, index, wish)
    chosen = select(files, shards, wish)
    small = [file for file in chosen if file.sha256 is None or file.path == CONFIG]
    from concurrent.futures import ThreadPoolExecutor  # 15 ms that only a look-up pays for

    with ThreadPoolExecutor(8) as pool:
        contents = dict(zip((file.path for file in small), pool.map(read, small), strict=True))
    if None in contents.values():
        return None
    digests = {path: hashlib.sha256(content or b"").hexdigest() for path, content in contents.items()}
    rows = tuple((file.path, file.size, file.sha256 or digests[file.path]) for file in chosen)
    return Checkpoint(home / "files", Manifest(rows), _mapping(contents[CONFIG] or b"", CONFIG, wish))


def _shards(content: bytes, index: str, wish: Wish) -> set[str]:
    try:
        return {str(name) for name in _mapping(content, index, wish)["weight_map"].values()}
    except (KeyError, AttributeError):
        raise WeightsError(f"{wish.repo}: {index} has no weight_map; choose another commit") from None


def _mapping(content: bytes, path: str, wish: Wish) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise WeightsError(f"{wish.repo}: {path} is not JSON ({error})") from None
    if not isinstance(document, dict):
        raise WeightsError(f"{wish.repo}: {path} should hold a mapping")
    return document


def _home(wish: Wish, folder: Path) -> Path:
    return folder / wish.repo.replace("/", "--") / wish.commit


def _kept(home: Path, file: RemoteFile) -> bytes | None:
    """Return a small file that was read before, if it still is what the hub lists."""
    try:
        content = (home / "files" / file.path).read_bytes()
    except OSError:
        return None
    return content if file.is_content(content) else None


def _load(path: Path) -> tuple[RemoteFile, ...] | None:
    """Read a remembered list; a damaged one is forgotten, and asked for again."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["schema"], document["version"]) != _SCHEMA:
            return None
        return tuple(RemoteFile(row["path"], row["size"], row["sha256"], row["git"]) for row in document["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(path: Path, files: Sequence[RemoteFile]) -> None:
    rows = [{"path": file.path, "size": file.size, "sha256": file.sha256, "git": file.git} for file in files]
    document = {"schema": _SCHEMA[0], "version": _SCHEMA[1], "files": rows}
    _write(path, (json.dumps(document, indent=1) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)
