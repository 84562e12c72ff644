"""A checkpoint on a host: every fault that headers show, and staging, verifying and publishing."""

# ruff: noqa: E501  expected lines stand whole, as the user sees them
from __future__ import annotations

import json

import pytest

from heavylift.onhost import checkpoint
from heavylift.weights import examine
from tests.weights.checkpoints import checkpoint as whole
from tests.weights.checkpoints import shard

A, B, INDEX = "a.safetensors", "b.safetensors", "model.safetensors.index.json"
NO_FILE = "is no safetensors file (a git-lfs pointer, or cut within its header)"


@pytest.fixture
def model(tmp_path):
    """Write a whole checkpoint."""
    return whole(tmp_path / "model")


def one(tensors=None, **entry):
    """Return a shard of one tensor of four bytes whose header row says something else."""
    row = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **entry}
    return shard({"x": b"abcd"} if tensors is None else tensors, json.dumps({"x": row}).encode())


def test_a_whole_checkpoint_has_no_fault(model):
    """Nothing is wrong, with an index or as a single shard without one."""
    assert checkpoint.structure(model) == []
    (model / INDEX).unlink()
    (model / B).unlink()
    assert checkpoint.structure(model) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", NO_FILE),
        (b"\0" * 5, NO_FILE),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", NO_FILE),
        (b"\0" * 400, NO_FILE),
        (b"\xff" * 400, NO_FILE),
        (shard({"x": b"\1" * 100})[:60], NO_FILE),
        (shard({"x": b"\1" * 100, "y": b"\2" * 50})[:-1], "is {short} bytes, its header says {right}"),
        (shard({"x": b"\1" * 100, "y": b"\2" * 50}) + b"\0", "is {long} bytes, its header says {right}"),
        (shard({"x": b"\1"}, b"{not json"), "has a damaged header"),
        (shard({"x": b"\1"}, b"\xff\xfe\xff"), "has a damaged header"),
        (one(data_offsets=[1, 5]), "has a hole or an overlap at x"),
        (one(shape=[5]), "has a hole or an overlap at x"),
        (one(dtype="F32"), "has a hole or an overlap at x"),
        (one(data_offsets=[4, 0]), "has a hole or an overlap at x"),
    ],
)
def test_a_shard_that_headers_show_to_be_wrong(model, content, expected):
    """Cut, padded, zeroed, a pointer, a junk header: each is named with its file."""
    right = len(shard({"x": b"\1" * 100, "y": b"\2" * 50}))
    (model / A).write_bytes(content)
    assert checkpoint.structure(model) == [f"{A}: {expected.format(right=right, short=right - 1, long=right + 1)}"]


@pytest.mark.parametrize(
    "header", [b"[]", b"77", b'{"x": 1}', b'{"x": {}}', b'{"x": {"dtype": "U8", "shape": 4, "data_offsets": [0, 4]}}']
)
def test_a_header_of_another_shape(model, header):
    """JSON that is no tensor table is damage like any other, not a traceback."""
    (model / A).write_bytes(shard({"x": b"abcd"}, header))
    assert checkpoint.structure(model) == [f"{A}: has a damaged header"]


def test_a_dtype_that_is_not_known_is_let_through(model):
    """Newer formats have new names; their extent is then not checked."""
    (model / A).write_bytes(shard({"x": b"ab", "y": b"c"}, json.dumps({
        "x": {"dtype": "F4_NEW", "shape": [4], "data_offsets": [0, 2]}, "y": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]},
    }).encode()))  # fmt: skip
    assert checkpoint.structure(model) == []


def test_the_index_is_held_against_the_shards(model):
    """Missing and stray shards, a tensor in the wrong one, and an index that is none."""
    (model / B).rename(model / "c.safetensors")
    assert checkpoint.structure(model) == [
        f"{B}: is in the index but missing",
        "c.safetensors: is not in the index; vLLM could load it",
    ]
    (model / "c.safetensors").rename(model / B)
    weight_map = {"x": A, "y": A, "z": B, "w": B}
    (model / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert checkpoint.structure(model) == [f"{B}: lacks w, which the index places there"]
    (model / INDEX).write_text("{")
    assert checkpoint.structure(model)[0].startswith(f"{INDEX}: damaged (")


@pytest.mark.parametrize("content", ["[]", '{"weight_map": 3}', '{"weight_map": ["x"]}'])
def test_an_index_of_another_shape(model, content):
    """JSON that is no index is damage, not a traceback."""
    (model / INDEX).write_text(content)
    (line,) = checkpoint.structure(model)
    assert line.startswith(f"{INDEX}: damaged (")


def test_what_must_be_there(model):
    """Several shards need an index, any checkpoint needs a shard and a configuration."""
    (model / INDEX).unlink()
    assert checkpoint.structure(model) == [f"{model}: 2 shards but no {INDEX}"]
    (model / A).unlink()
    (model / B).unlink()
    assert checkpoint.structure(model) == [f"{model}: no *.safetensors"]
    (model / "config.json").unlink()
    assert checkpoint.structure(model) == [f"{model}: no config.json"]


def test_what_headers_cannot_show(model):
    """A flipped bit and a zeroed tail pass: they are what sha256 is for."""
    content = bytearray((model / A).read_bytes())
    content[-20:] = b"\0" * 20
    (model / A).write_bytes(content)
    assert checkpoint.structure(model) == []


class Copy:
    """A checkpoint on its way: the operator's, the host's staging folder and its final place."""

    def __init__(self, model, root):
        self.model, self.manifest = model, examine(model, root / "cache").manifest
        self.staging, self.directory = root / "srv" / "m.partial", root / "srv" / "m"
        self.names = [name for name, _, _ in self.manifest.files]
        self.where = {"staging": str(self.staging), "directory": str(self.directory)}

    def stage(self):
        """Prepare the staging folder; return what has to be copied, in bytes."""
        files = [{"path": path, "size": size, "sha256": sha256} for path, size, sha256 in self.manifest.files]
        return checkpoint.stage_main({**self.where, "files": files, "manifest": self.manifest.text})["missing"]

    def send(self, *names):
        """Copy files as rsync would: what is there already stays."""
        for name in names or self.names:
            if not (self.staging / name).exists():
                (self.staging / name).write_bytes((self.model / name).read_bytes())

    def publish(self):
        """Verify and give it its name."""
        return checkpoint.publish_main(self.where)

    @property
    def state(self):
        """What a look says."""
        return checkpoint.state(self.directory, self.manifest.sha256)


@pytest.fixture
def copy(model, tmp_path):
    """Return a checkpoint on its way to a host that has nothing of it."""
    return Copy(model, tmp_path)


def test_a_copy_is_staged_verified_and_published(copy):
    """It gets its name only when it is whole; from then on a look hashes nothing and says verified."""
    assert copy.state == {"status": "absent", "files": []}
    assert copy.stage() == copy.manifest.size
    copy.send()
    (copy.staging / ".rsync-partial").mkdir()
    (copy.staging / ".rsync-partial" / "x").write_text("left over")
    assert copy.publish() == {"files": 5, "bytes": copy.manifest.size}
    assert sorted(path.name for path in copy.directory.iterdir()) == sorted(
        [*copy.names, "manifest.json", "stamp.json"]
    )
    assert not copy.staging.exists()
    assert copy.state == {"status": "verified", "files": [], "manifest": copy.manifest.sha256}


def test_a_copy_that_was_cut_off_goes_on(copy):
    """Staging again asks for what is missing only; publishing before it is whole names what is missing."""
    copy.stage()
    copy.send("config.json", B)
    rest = copy.manifest.size - sum((copy.staging / name).stat().st_size for name in ("config.json", B))
    assert copy.stage() == rest
    with pytest.raises(RuntimeError) as refused:
        copy.publish()
    assert str(refused.value) == (
        f"weights: {A} is missing; {INDEX} is missing; tokenizer.json is missing; not published, run the same command again"
    )
    copy.send()
    copy.publish()
    assert copy.state["status"] == "verified"


def test_a_damaged_file_is_removed_and_named(copy):
    """One flipped bit in a shard: not published, that file gone so that it comes again, all others kept."""
    copy.stage()
    copy.send()
    content = bytearray((copy.staging / A).read_bytes())
    content[-1] ^= 1
    (copy.staging / A).write_bytes(content)
    with pytest.raises(RuntimeError) as refused:
        copy.publish()
    found, wanted = checkpoint.hashlib.sha256(content).hexdigest()[:12], copy.manifest.files[0][2][:12]
    assert str(refused.value) == (
        f"weights: {A}: sha256 {found}…, the manifest says {wanted}…; not published, run the same command again"
    )
    assert not (copy.staging / A).exists()
    assert not copy.directory.exists()
    assert copy.stage() == copy.manifest.files[0][1]
    copy.send()
    copy.publish()
    assert copy.state["status"] == "verified"


def test_a_changed_directory_is_seen_and_replaced(copy):
    """A touched shard and a stray one show in a look; repairing copies the changed file alone and leaves no rest."""
    copy.stage()
    copy.send()
    copy.publish()
    (copy.directory / A).write_bytes(b"broken")
    (copy.directory / "stray.safetensors").write_bytes(b"x")
    assert copy.state["status"] == "changed"
    assert copy.state["files"] == [A, "stray.safetensors"]
    assert copy.stage() == copy.manifest.files[0][1]
    copy.send()
    copy.publish()
    assert copy.state["status"] == "verified"
    assert sorted(path.name for path in copy.directory.parent.iterdir()) == ["m"]


def test_another_checkpoint_and_damaged_notes_are_told_apart(copy):
    """`other` names the manifest that lies there; without readable notes nothing is believed."""
    copy.stage()
    copy.send()
    copy.publish()
    wanted = "0" * 64
    assert checkpoint.state(copy.directory, wanted) == {
        "status": "other",
        "files": [],
        "manifest": copy.manifest.sha256,
    }
    (copy.directory / "stamp.json").write_text("{")
    assert copy.state == {"status": "unverified", "files": []}


def test_a_disk_without_room_is_refused_before_the_copy(copy, monkeypatch):
    """The message says how much is there and how much is needed."""
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(RuntimeError, match=r"srv: 0\.0 GB free, 0\.0 GB needed for the weights"):
        copy.stage()


def test_weights_that_are_on_the_host_already(model, tmp_path, monkeypatch):
    """`check` looks once and remembers; a change is seen, a damaged or missing checkpoint is named."""
    monkeypatch.setattr(checkpoint, "NOTES", tmp_path / "notes")
    assert checkpoint.state(model, None) == {"status": "unverified", "files": []}
    assert checkpoint.state(tmp_path / "none", None) == {"status": "absent", "files": []}
    assert checkpoint.check_main({"directory": str(model)}) == {"files": 7}
    assert checkpoint.state(model, None) == {"status": "verified", "files": []}
    (model / "tokenizer.json").write_text("{ }")
    assert checkpoint.state(model, None) == {"status": "changed", "files": ["tokenizer.json"]}
    (model / A).write_bytes(b"")
    with pytest.raises(RuntimeError) as damaged:
        checkpoint.check_main({"directory": str(model)})
    assert str(damaged.value) == f"weights: {A}: {NO_FILE}"
    with pytest.raises(RuntimeError) as missing:
        checkpoint.check_main({"directory": str(tmp_path / "none")})
    assert (
        str(missing.value)
        == f"weights: {tmp_path}/none is not there; place the checkpoint, or correct the model section"
    )


def test_a_manifest_beside_weights_on_the_host_is_held_to(model, tmp_path, monkeypatch):
    """A flipped bit that headers do not show is found where the directory has a manifest, and a file it lacks is named."""
    monkeypatch.setattr(checkpoint, "NOTES", tmp_path / "notes")
    manifest = examine(model, tmp_path / "cache").manifest
    (model / "manifest.json").write_text(manifest.text)
    content = bytearray((model / B).read_bytes())
    content[-1] ^= 1
    (model / B).write_bytes(content)
    with pytest.raises(RuntimeError) as refused:
        checkpoint.check_main({"directory": str(model)})
    assert str(refused.value) == f"weights: {B}: not what its manifest says"
