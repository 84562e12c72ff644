"""The manifest of a checkpoint on the operator's machine: every file that an engine needs, with size and sha256.

Hashing 689 GB takes minutes, so digests are kept with stamps (size, mtime, inode) in a cache beside the deployment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift.errors import WeightsError
from heavylift.onhost import checkpoint as onhost

__all__ = ["Checkpoint", "Manifest", "examine", "promise"]

_KEEP = {".safetensors", ".json", ".jinja", ".model", ".txt", ".py", ".tiktoken"}
_OWN = {onhost.MANIFEST, onhost.STAMP}
_AGAIN = "fetch these files again"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a checkpoint: (path, size in bytes, sha256), sorted by path."""

    files: tuple[tuple[str, int, str], ...]

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(size for _, size, _ in self.files)

    @property
    def text(self) -> str:
        """The manifest as it lies beside the weights: equal checkpoints, equal bytes."""
        rows = [{"path": path, "sha256": sha256, "size": size} for path, size, sha256 in self.files]
        document = {"schema": "heavylift/manifest", "version": 1, "bytes": self.size, "files": rows}
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Digest of `text`: it pins the checkpoint."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on this machine: where it lies, what it consists of, and its config.json."""

    directory: Path
    manifest: Manifest
    config: Mapping[str, Any]


def examine(directory: Path, cache: Path) -> Checkpoint:
    """Check that `directory` holds a whole checkpoint, the promised one if it has a manifest; hash what is new.

    `cache` is a folder for remembered digests. Raises `WeightsError` with every file that is missing or wrong.
    """
    if not directory.is_dir():
        raise WeightsError(
            f"{directory}: no such directory", hint="`heavylift lab model` makes a small one to try with"
        )
    try:
        problems = onhost.structure(directory)
        if problems:
            raise WeightsError(f"{directory}: not a whole checkpoint: {'; '.join(problems)}", hint=_AGAIN)
        manifest = _manifest(directory, cache)
        _keep_promise(directory, manifest)
        return Checkpoint(directory, manifest, _config(directory / "config.json"))
    except OSError as error:
        raise WeightsError(f"{error.filename}: {error.strerror}") from None


def promise(directory: Path) -> Manifest:
    """Write `manifest.json` into a checkpoint's directory: from now on any other content is an error."""
    names = _names(directory)
    manifest = _listed(directory, names, onhost.digests(directory, names))
    (directory / onhost.MANIFEST).write_text(manifest.text, encoding="utf-8")
    return manifest


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: should hold a mapping")
    return config


def _manifest(directory: Path, cache: Path) -> Manifest:
    names = _names(directory)
    store = cache / f"{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]}.json"
    known = _remembered(store)
    stamps = {name: onhost.stamp(directory / name) for name in names}
    fresh = onhost.digests(directory, [name for name in names if known.get(name, ("", ""))[0] != stamps[name]])
    digests = {name: fresh.get(name) or known[name][1] for name in names}
    if fresh or set(known) != set(names):
        cache.mkdir(parents=True, exist_ok=True)
        beside = store.with_name(f".{store.name}.{os.getpid()}")
        beside.write_text(json.dumps({name: [stamps[name], digests[name]] for name in names}), encoding="utf-8")
        beside.replace(store)
    return _listed(directory, names, digests)


def _remembered(store: Path) -> dict[str, tuple[list[int], str]]:
    """Return stamp and digest by name; what is damaged is forgotten, and hashed again."""
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
        return {name: (list(stamp), str(digest)) for name, (stamp, digest) in known.items() if len(digest) == 64}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _names(directory: Path) -> list[str]:
    """Return what an engine needs: shards, configuration, tokenizer, template; not other weight formats."""
    paths = [path for path in directory.iterdir() if path.is_file() and path.suffix in _KEEP and path.name not in _OWN]
    names = sorted(path.name for path in paths if not path.name.startswith((".", "consolidated")))
    odd = [name for name in names if not name.isprintable() or name[0] in "-#;"]
    if odd:
        raise WeightsError(f"{directory}: {odd[0]!r} is no name that can be copied safely; rename it")
    return names


def _listed(directory: Path, names: list[str], digests: Mapping[str, str]) -> Manifest:
    return Manifest(tuple((name, (directory / name).stat().st_size, digests[name]) for name in names))


def _keep_promise(directory: Path, manifest: Manifest) -> None:
    path = directory / onhost.MANIFEST
    if not path.is_file():
        return
    try:
        promised = {row["path"]: str(row["sha256"]) for row in json.loads(path.read_text(encoding="utf-8"))["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: damaged ({error})", hint="delete it if the weights are the right ones") from None
    found = {name: sha256 for name, _, sha256 in manifest.files}
    wrong = [f"{name} is missing" for name in sorted(promised.keys() - found.keys())]
    wrong += [f"{name} is not in the manifest" for name in sorted(found.keys() - promised.keys())]
    wrong += [
        f"{name}: sha256 {found[name][:12]}…, the manifest says {promised[name][:12]}…"
        for name in sorted(promised.keys() & found.keys())
        if found[name] != promised[name]
    ]
    if wrong:
        raise WeightsError(f"{directory}: not the promised checkpoint: {'; '.join(wrong)}", hint=_AGAIN)
