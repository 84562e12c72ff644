"""The operator's checkpoint: what is whole, what is promised, and what is not hashed twice."""

# ruff: noqa: E501  expected lines stand whole, as the user sees them
from __future__ import annotations

import hashlib
import json
import os
import time

import pytest

from heavylift.errors import WeightsError
from heavylift.onhost import checkpoint as onhost
from heavylift.weights import Manifest, examine, promise
from tests.weights.checkpoints import checkpoint, shard

NAMES = ["a.safetensors", "b.safetensors", "config.json", "model.safetensors.index.json", "tokenizer.json"]


@pytest.fixture
def model(tmp_path):
    """Write a whole checkpoint."""
    return checkpoint(tmp_path / "model")


@pytest.fixture
def hashed(monkeypatch):
    """Count what is hashed."""
    names, real = [], onhost.digest
    monkeypatch.setattr(onhost, "digest", lambda path: names.append(path.name) or real(path))
    return names


def refusal(directory):
    """Return why a checkpoint is refused, the folder cut off."""
    with pytest.raises(WeightsError) as refused:
        examine(directory, directory.parent / "cache")
    return refused.value.message.removeprefix(f"{directory}: ")


def test_a_manifest_lists_what_an_engine_needs(model):
    """Shards, index, configuration and tokenizer with size and sha256; no other formats, no prose, nothing hidden."""
    found = examine(model, model.parent / "cache")
    assert found.config == {"model_type": "tiny"}
    assert [name for name, _, _ in found.manifest.files] == NAMES
    for name, size, sha256 in found.manifest.files:
        content = (model / name).read_bytes()
        assert (size, sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.manifest.size == sum((model / name).stat().st_size for name in NAMES)


def test_equal_checkpoints_have_equal_manifests(model, tmp_path):
    """Neither place nor time nor the order of writing gets into it; one changed byte does."""
    other = checkpoint(tmp_path / "elsewhere" / "model")
    os.utime(other / "config.json", (1, 1))
    first, second = (examine(path, tmp_path / "cache").manifest for path in (model, other))
    assert (first.text, first.sha256) == (second.text, second.sha256)
    (other / "b.safetensors").write_bytes(shard({"z": b"\4" * 30}))
    assert examine(other, tmp_path / "cache").manifest.sha256 != first.sha256


def test_the_text_of_a_manifest():
    """Its very bytes: they are what `sha256` pins and what lies on hosts."""
    text = Manifest((("a", 3, "f" * 64),)).text
    assert text == (
        '{\n "bytes": 3,\n "files": [\n  {\n   "path": "a",\n   "sha256": "' + "f" * 64 + '",\n   "size": 3\n  }\n ],\n'
        ' "schema": "heavylift/manifest",\n "version": 1\n}\n'
    )


def test_what_did_not_change_is_not_hashed_again(model, hashed, tmp_path):
    """A second look hashes nothing; a touched file is hashed alone, and so is a file that came."""
    cache = tmp_path / "cache"
    first = examine(model, cache)
    assert sorted(hashed) == NAMES
    hashed.clear()
    assert examine(model, cache).manifest == first.manifest
    assert hashed == []
    os.utime(model / "config.json", ns=(time.time_ns(), time.time_ns()))
    assert examine(model, cache).manifest == first.manifest
    assert hashed == ["config.json"]
    hashed.clear()
    (model / "chat_template.jinja").write_text("x")
    assert "chat_template.jinja" in [name for name, _, _ in examine(model, cache).manifest.files]
    assert hashed == ["chat_template.jinja"]


def test_another_checkpoint_at_the_same_path_is_hashed(model, hashed, tmp_path):
    """Equal size and mtime do not deceive: the inode is part of the stamp."""
    cache = tmp_path / "cache"
    before = examine(model, cache).manifest.sha256
    old = (model / "b.safetensors").stat()
    (tmp_path / "new").write_bytes(shard({"z": b"\5" * 30}))
    os.utime(tmp_path / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
    (tmp_path / "new").rename(model / "b.safetensors")
    assert examine(model, cache).manifest.sha256 != before


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"config.json": 5}', '{"config.json": [[1, 2, 3], 7]}', '{"config.json": [[1], ""]}', "\x00"],
)
def test_a_damaged_cache_is_forgotten(model, tmp_path, content):
    """What was remembered is only worth time: any damage means hashing again, and a good cache afterwards."""
    cache = tmp_path / "cache"
    right = examine(model, cache).manifest
    (store,) = cache.iterdir()
    good = store.read_text()
    store.write_text(content)
    assert examine(model, cache).manifest == right
    assert store.read_text() == good


def test_a_promise_is_kept(model, hashed, tmp_path):
    """`manifest.json` is no part of itself; a whole checkpoint passes, and what differs is named, all of it at once."""
    promised = promise(model)
    assert examine(model, tmp_path / "cache").manifest == promised
    assert (model / "manifest.json").read_text() == promised.text
    (model / "tokenizer.json").unlink()
    (model / "generation_config.json").write_text("{}")
    content = bytearray((model / "a.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "a.safetensors").write_bytes(content)
    found, wanted = hashlib.sha256(content).hexdigest()[:12], promised.files[0][2][:12]
    assert refusal(model) == (
        "not the promised checkpoint: tokenizer.json is missing; generation_config.json is not in the manifest; "
        f"a.safetensors: sha256 {found}…, the manifest says {wanted}…"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("{}", "'files'"),
        ('{"files": 3}', "not iterable"),
        ('{"files": [{"path": "a"}]}', "'sha256'"),
    ],
)
def test_a_promise_that_cannot_be_read(model, content, reason):
    """A damaged manifest is told from a damaged checkpoint."""
    (model / "manifest.json").write_text(content)
    with pytest.raises(WeightsError, match="damaged") as refused:
        examine(model, model.parent / "cache")
    assert refused.value.message.startswith(f"{model}/manifest.json: damaged (")
    assert reason in refused.value.message
    assert refused.value.hint == "delete it if the weights are the right ones"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a\nb.json", "'a\\nb.json'"), ("-rf.txt", "'-rf.txt'"), ("#x.json", "'#x.json'"), (";x.json", "';x.json'")],
)
def test_names_that_a_copy_would_stumble_over(model, name, expected):
    """A line break, or what rsync takes for an option or a comment, is refused; blanks and letters of any kind are not."""
    (model / "señor model.json").write_text("{}")
    examine(model, model.parent / "cache")
    (model / name).write_text("{}")
    assert refusal(model) == f"{expected} is no name that can be copied safely; rename it"


@pytest.mark.parametrize(
    ("content", "expected"),
    [("{", "not JSON (Expecting property name"), ("[1]", "should hold a mapping"), ("", "not JSON (")],
)
def test_a_configuration_that_is_none(model, content, expected):
    """config.json is read here, so what is wrong with it is said here."""
    (model / "config.json").write_text(content)
    assert refusal(model).startswith(f"{model}/config.json: {expected}")


def test_a_directory_that_is_not_there(tmp_path):
    """It says so, and how to get something to try with."""
    with pytest.raises(WeightsError) as refused:
        examine(tmp_path / "none", tmp_path)
    assert (
        str(refused.value)
        == f"{tmp_path}/none: no such directory\n\nhint: `heavylift lab model` makes a small one to try with"
    )


def test_a_file_that_cannot_be_read_is_one_line(model, monkeypatch):
    """An I/O error is an expected failure, not a traceback."""

    def broken(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(onhost, "digest", broken)
    assert refusal(model) == f"{model}/a.safetensors: Input/output error"


def test_every_file_that_is_wrong_is_named_at_once(model):
    """One run tells all shards to fetch again."""
    (model / "a.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (model / "b.safetensors").unlink()
    assert json.loads((model / "model.safetensors.index.json").read_text())
    assert refusal(model) == (
        "not a whole checkpoint: a.safetensors: is no safetensors file (a git-lfs pointer, or cut within its header); "
        "b.safetensors: is in the index but missing"
    )
