"""Which files of a repository a host needs: one index, one weight format, by the loader that will read them. Pure.

vLLM loads every weight file of its folder that the loader's pattern matches, and one `consolidated*` file turns its
default loader into another one; so what is not needed does not get onto the host.
"""

from __future__ import annotations

import fnmatch
import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heavylift.errors import WeightsError

__all__ = ["CONFIG", "INDEX", "RemoteFile", "Wish", "index_name", "select"]

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
_BESIDE = (".json", ".jinja", ".model", ".txt", ".py", ".tiktoken")  # configuration, tokenizer, template, code
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".npz")
_SAFETENSORS = {
    "auto",
    "hf",
    "safetensors",
    "fastsafetensors",
    "instanttensor",
    "runai_streamer",
    "bitsandbytes",
    "modelexpress",
}
_CONSOLIDATED = "consolidated*.safetensors"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a commit. Plain git files have a `git` blob id and no sha256; all others have a sha256."""

    path: str
    size: int
    sha256: str | None
    git: str | None

    def is_content(self, content: bytes) -> bool:
        """Whether these are the file's very bytes."""
        if self.sha256 is not None:
            return hashlib.sha256(content).hexdigest() == self.sha256
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == self.git


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of a commit: the user's own patterns, and vLLM's `load-format`."""

    repo: str
    commit: str
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    load_format: str = "auto"


def index_name(wish: Wish) -> str | None:
    """Return the one index that the loader reads, None where it reads no weights."""
    return {"dummy": None, "mistral": "consolidated.safetensors.index.json"}.get(wish.load_format, INDEX)


def select(files: Sequence[RemoteFile], shards: Iterable[str] | None, wish: Wish) -> tuple[RemoteFile, ...]:
    """Choose files by path; `shards` are the files that the index names, None where the commit has no index.

    `allow` patterns take the place of our own choice, `ignore` patterns take away from either. Raises `WeightsError`
    where what is left is no checkpoint that the loader can read.
    """
    _refuse_unsafe(files, wish)
    named = set(shards) if shards is not None else None
    if wish.allow:
        chosen = [file for file in files if _matches(file.path, wish.allow)]
    else:
        chosen = [file for file in files if _is_beside(file.path, wish) or _is_weight(file.path, named, wish)]
    chosen = [file for file in chosen if not _matches(file.path, wish.ignore)]
    _check(chosen, files, named, wish)
    return tuple(sorted(chosen, key=lambda file: file.path))


def _is_beside(path: str, wish: Wish) -> bool:
    """Whether it is configuration, tokenizer, template or code; of several indexes only the loader's own."""
    if "/" in path or path.startswith(".") or not path.endswith(_BESIDE):
        return False
    if path.endswith(".index.json"):
        return path == index_name(wish)
    return path not in {"manifest.json", "stamp.json"} and not path.startswith("consolidated")


def _is_weight(path: str, named: set[str] | None, wish: Wish) -> bool:
    if wish.load_format == "dummy":
        return False
    if named is not None:
        return path in named
    if wish.load_format == "mistral":
        return fnmatch.fnmatchcase(path, _CONSOLIDATED) and "/" not in path
    safetensors = path.endswith(".safetensors") and "/" not in path
    return safetensors and not path.startswith(("consolidated", "adapter"))


def _check(chosen: Sequence[RemoteFile], files: Sequence[RemoteFile], named: set[str] | None, wish: Wish) -> None:
    where, paths = f"{wish.repo} at {wish.commit[:12]}", {file.path for file in chosen}
    odd = [
        path for path in sorted(paths) if not path.isprintable() or any(part[0] in "-#;" for part in path.split("/"))
    ]
    if odd:
        raise WeightsError(f"{where}: {odd[0]!r} is no name that can be copied safely; add it to ignore_patterns")
    if CONFIG not in paths:
        raise WeightsError(f"{where}: {_lacking(CONFIG, files, wish)}")
    if wish.load_format == "dummy":
        return
    if not wish.allow and wish.load_format not in {*_SAFETENSORS, "mistral"}:
        message = f"model: which files load-format {wish.load_format} reads is not known here"
        raise WeightsError(message, hint="name them in model.allow_patterns")
    weights = sorted(path for path in paths if path.endswith(_WEIGHTS))
    if not weights:
        raise WeightsError(f"{where}: {_no_weights(files)}")
    formats = sorted({posixpath.splitext(path)[1] for path in weights})
    if len(formats) > 1:
        raise WeightsError(
            f"model/allow_patterns: take {' and '.join(formats)} files; one weight format is enough, ignore the others"
        )
    stray = [path for path in weights if wish.load_format == "auto" and path.startswith("consolidated")]
    if stray:
        raise WeightsError(
            f"model/allow_patterns: {stray[0]} turns vLLM's loader to the format of Mistral; add it to ignore_patterns"
        )
    _check_index(paths, weights, named, where, wish)


def _check_index(paths: set[str], weights: Sequence[str], named: set[str] | None, where: str, wish: Wish) -> None:
    if named is None:
        if len(weights) > 1 and weights[0].endswith(".safetensors") and wish.load_format != "mistral":
            raise WeightsError(
                f"{where}: {len(weights)} weight files but no {INDEX}; leave all but one out with ignore_patterns"
            )
        return
    missing = sorted(named - paths)
    if missing:
        raise WeightsError(
            f"{where}: {missing[0]} is in the index but {'not taken' if wish.allow or wish.ignore else 'not there'}"
        )
    stray = sorted(set(weights) - named)
    if stray:
        raise WeightsError(
            f"model/allow_patterns: {stray[0]} is not in the index, vLLM could load it; add it to ignore_patterns"
        )


def _lacking(path: str, files: Sequence[RemoteFile], wish: Wish) -> str:
    if any(file.path == path for file in files):
        which = "ignore" if _matches(path, wish.ignore) else "allow"
        return f"model.{which}_patterns leave {path} out, which every engine needs"
    return f"has no {path}, so no engine can load it; choose the repository in transformers' format"


def _no_weights(files: Sequence[RemoteFile]) -> str:
    others: Mapping[str, None] = dict.fromkeys(
        posixpath.splitext(file.path)[1] for file in files if file.path.endswith(_WEIGHTS[1:])
    )
    if others:
        found = ", ".join(f"*{suffix}" for suffix in others)
        return f"has no *.safetensors, only {found}; choose a repository that has them"
    return "has no weights, or the patterns leave them out"


def _refuse_unsafe(files: Sequence[RemoteFile], wish: Wish) -> None:
    """Refuse a commit with paths that would leave their folder: it was made to do harm."""
    for file in files:
        leaves = (
            file.path.startswith("/")
            or "\\" in file.path
            or any(part in {"", ".", ".."} for part in file.path.split("/"))
        )
        if leaves:
            raise WeightsError(f"{wish.repo}: a file named {file.path!r} leads out of its folder; nothing is fetched")


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
