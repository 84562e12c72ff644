"""The lab model on disk: every shard whole, the same bytes for the same seed, and nobody else's files touched."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import deserialize

from heavylift.errors import LabError
from heavylift.lab import model

FILES = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
]
WIDTH = {"BF16": 2, "F32": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> model.Model:
    """Make a model of seed 0 in three shards."""
    return model.make(tmp_path_factory.mktemp("lab") / "model")


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _header(shard: Path) -> tuple[dict[str, Any], int]:
    """Return the JSON header and where the data begins."""
    raw = shard.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    header: dict[str, Any] = json.loads(raw[8:begin])
    return header, begin


def _index(directory: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((directory / "model.safetensors.index.json").read_text())
    return index


def test_the_files_are_those_of_a_checkpoint(made: model.Model) -> None:
    """Nothing but what a loader reads, readable by every user."""
    assert sorted(path.name for path in made.directory.iterdir()) == FILES
    assert {path.stat().st_mode & 0o777 for path in made.directory.iterdir()} == {0o644}
    assert made.directory.stat().st_mode & 0o777 == 0o755


def test_the_summary_counts_what_was_written(made: model.Model) -> None:
    """5.5 million parameters in 11 MB."""
    assert (made.seed, made.shards, made.parameters) == (0, 3, 5_464_016)
    assert made.size_bytes == sum(len(content) for content in _contents(made.directory).values())
    assert 10_900_000 < made.size_bytes < 11_200_000


@pytest.mark.parametrize("name", FILES[3:6])
def test_a_shard_covers_its_file_exactly(made: model.Model, name: str) -> None:
    """Offsets begin at 0, leave no hole, fit shape and dtype, and end with the file."""
    header, begin = _header(made.directory / name)
    assert header.pop("__metadata__") == {"format": "pt"}
    assert begin % 8 == 0
    end = 0
    for tensor in header.values():
        size = WIDTH[tensor["dtype"]]
        for length in tensor["shape"]:
            size *= length
        assert tensor["data_offsets"] == [end, end + size]
        end += size
    assert begin + end == (made.directory / name).stat().st_size
    assert end > 2_000_000


def test_only_the_routers_bias_is_float32(made: model.Model) -> None:
    """Everything else is bfloat16, as the engine runs it."""
    headers = [_header(made.directory / name)[0] for name in FILES[3:6]]
    wide = [name for header in headers for name, tensor in header.items() if tensor.get("dtype") == "F32"]
    assert wide == [f"model.layers.{layer}.mlp.gate.e_score_correction_bias" for layer in (1, 2)]


def test_the_index_names_every_tensor_and_its_shard(made: model.Model) -> None:
    """The map is what the shards hold, and `total_size` is their data."""
    index = _index(made.directory)
    held: dict[str, str] = {}
    total = 0
    for name in FILES[3:6]:
        for tensor, view in deserialize((made.directory / name).read_bytes()):  # type: ignore[no-untyped-call]
            held[tensor] = name
            total += len(view["data"])
    assert index["weight_map"] == held
    assert index["metadata"]["total_size"] == total
    assert len(held) == 91


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    """Halves go to the even neighbour, everything else to the nearest."""
    import numpy as np

    numbers = np.array([1.0, 1.00390625, 1.01171875, 1.005, -2.5, 0.0], np.float32)
    dtype, data = model._encode("x.weight", numbers)
    assert dtype == "BF16"
    assert np.frombuffer(data, "<u2").tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xC020, 0]


def test_the_same_seed_gives_the_same_bytes(made: model.Model, tmp_path: Path) -> None:
    """Every file, byte for byte."""
    assert _contents(model.make(tmp_path / "again").directory) == _contents(made.directory)


def test_another_seed_changes_weights_and_nothing_else(made: model.Model, tmp_path: Path) -> None:
    """The shards and the seed noted in config.json differ; the tokenizer stays."""
    before, after = _contents(made.directory), _contents(model.make(tmp_path / "other", seed=1).directory)
    assert sorted(name for name in before if before[name] != after[name]) == ["config.json", *FILES[3:6]]


@pytest.mark.parametrize("shards", [1, 2, 10])
def test_any_number_of_shards_holds_the_same_tensors(made: model.Model, tmp_path: Path, shards: int) -> None:
    """The cut changes file names only."""
    directory = model.make(tmp_path / "model", shards=shards).directory
    assert len(list(directory.glob("*.safetensors"))) == shards
    assert set(_index(directory)["weight_map"]) == set(_index(made.directory)["weight_map"])
    assert len(set(_index(directory)["weight_map"].values())) == shards


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 0}, "--shards 0: should be 1 to 10"),
        ({"shards": 11}, "--shards 11: should be 1 to 10"),
        ({"seed": -1}, "--seed -1: should be 0 to 4294967295"),
    ],
)
def test_a_number_out_of_range_is_refused(tmp_path: Path, options: dict[str, int], message: str) -> None:
    """Before anything is written."""
    with pytest.raises(LabError) as error:
        model.make(tmp_path / "model", **options)
    assert error.value.message == message
    assert list(tmp_path.iterdir()) == []


def test_an_own_directory_is_rewritten(tmp_path: Path) -> None:
    """Even a damaged one, with fewer shards than before, and nothing is left beside it."""
    directory = model.make(tmp_path / "model").directory
    (directory / FILES[4]).write_bytes(b"")
    (directory / "manifest.json").write_text("{}")
    model.make(directory, shards=1)
    assert sorted(path.name for path in directory.glob("model-*")) == ["model-00001-of-00001.safetensors"]
    assert not (directory / "manifest.json").exists()
    assert list(tmp_path.iterdir()) == [directory]


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    """Missing parents are made, an empty directory is used."""
    (tmp_path / "a" / "model").mkdir(parents=True)
    model.make(tmp_path / "a" / "model")
    model.make(tmp_path / "b" / "c" / "model")
    assert (tmp_path / "a" / "model" / "config.json").is_file()
    assert (tmp_path / "b" / "c" / "model" / "config.json").is_file()


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    """A real checkpoint must never be overwritten."""
    (tmp_path / "config.json").write_text('{"model_type": "deepseek_v3"}')
    with pytest.raises(LabError) as error:
        model.make(tmp_path)
    assert error.value.message == f"{tmp_path}: holds files that `heavylift lab model` did not write"
    assert error.value.hint == "name a new or empty directory"
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_foreign_file_among_ours_is_refused(tmp_path: Path) -> None:
    """Rewriting would delete it."""
    directory = model.make(tmp_path / "model").directory
    (directory / "notes.txt").write_text("mine")
    with pytest.raises(LabError) as error:
        model.make(directory, seed=1)
    assert error.value.message == f"{directory}: holds notes.txt, which `heavylift lab model` did not write"
    assert json.loads((directory / "config.json").read_text())["heavylift_lab_model"]["seed"] == 0


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    """The path names a file."""
    (tmp_path / "model").write_text("")
    with pytest.raises(LabError) as error:
        model.make(tmp_path / "model")
    assert error.value.message == f"{tmp_path}/model: a file is in the way"


def test_a_full_disk_is_one_line_and_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails half way changes nothing."""
    directory = model.make(tmp_path / "model").directory
    before = _contents(directory)
    monkeypatch.setattr(Path, "write_bytes", _full)
    with pytest.raises(LabError) as error:
        model.make(directory, seed=1)
    assert error.value.message == f"{directory}: cannot write the model (No space left on device)"
    assert _contents(directory) == before
    assert list(tmp_path.iterdir()) == [directory]


def _full(path: Path, data: bytes) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("moment", ["while writing", "between the renames"])
def test_an_interrupt_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Ctrl-C at the worst moments: the directory is what it was, and nothing lies beside it."""
    directory = model.make(tmp_path / "model").directory
    before = _contents(directory)
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    if moment == "while writing":
        monkeypatch.setattr(model, "_write_json", _interrupt)
    else:
        monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.make(directory, seed=1)
    assert _contents(directory) == before
    assert list(tmp_path.iterdir()) == [directory]


def _interrupt(path: Path, document: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numpy the error says what to install."""
    real = builtins.__import__

    def without_numpy(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "numpy":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
        return real(name, *args, **kwargs)

    for name in ("heavylift.lab.tensors", "numpy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("heavylift.lab.tensors", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_numpy)
    with pytest.raises(LabError) as error:
        model.make(tmp_path / "model")
    assert error.value.message == "lab model: the Python package numpy is not installed"
    assert error.value.hint == "pip install 'heavylift[lab]'"
