"""Which files of a repository are fetched: one index, one weight format, by the loader; patterns; refusals."""

# ruff: noqa: E501  one case a line

from __future__ import annotations

import pytest

from heavylift.errors import WeightsError
from heavylift.weights.select import RemoteFile, Wish, index_name, select
from tests.weights.hub_server import COMMIT, REPO

INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
BESIDE = ["chat_template.jinja", "config.json", "generation_config.json", "modeling_tiny.py", INDEX, "tokenizer.json"]
OTHERS = [
    ".gitattributes",
    "LICENSE",
    "README.md",
    "consolidated.00.safetensors",
    "consolidated.safetensors.index.json",
    "figures/speed.png",
    "inference/config.json",
    "model.fp8.index.json",
    "onnx/model.onnx",
    "original/consolidated.00.pth",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "stray.safetensors",
]
AT = f"{REPO} at {COMMIT[:12]}"


def chosen(paths, shards=None, **wish):
    """Return the paths that are chosen."""
    files = [RemoteFile(path, 1, "0" * 64, None) for path in paths]
    return [file.path for file in select(files, shards, Wish(REPO, COMMIT, **wish))]


def refusal(paths, shards=None, **wish):
    """Return why nothing is chosen."""
    with pytest.raises(WeightsError) as refused:
        chosen(paths, shards, **wish)
    return str(refused.value)


def test_what_the_index_names_and_what_lies_beside_it():
    """Shards by the index, configuration, tokenizer, template and code; no other format, index, folder or prose."""
    assert chosen(OTHERS + BESIDE + SHARDS, SHARDS) == sorted(BESIDE + SHARDS)


def test_one_file_needs_no_index():
    """A small model's single file is taken; an adapter or a consolidated copy beside it is not."""
    paths = ["model.safetensors", "config.json", "adapter_model.safetensors", "consolidated.safetensors"]
    assert chosen(paths) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("load_format", ["safetensors", "fastsafetensors", "instanttensor", "runai_streamer"])
def test_other_loaders_of_safetensors_read_the_same_files(load_format):
    """They differ in how they read, not in what."""
    assert chosen(BESIDE + SHARDS, SHARDS, load_format=load_format) == sorted(BESIDE + SHARDS)


def test_a_loader_that_invents_weights_needs_none():
    """`dummy`: configuration and tokenizer only, and no index that would name missing shards."""
    wish = Wish(REPO, COMMIT, load_format="dummy")
    assert index_name(wish) is None
    assert chosen(BESIDE + SHARDS, None, load_format="dummy") == sorted(set(BESIDE) - {INDEX})


def test_the_loader_of_mistral_reads_consolidated_files():
    """And its own index, not the other one."""
    paths = [
        "config.json",
        "consolidated.safetensors",
        "model.safetensors",
        INDEX,
        "consolidated.safetensors.index.json",
    ]
    assert index_name(Wish(REPO, COMMIT, load_format="mistral")) == "consolidated.safetensors.index.json"
    wanted = ["config.json", "consolidated.safetensors", "consolidated.safetensors.index.json"]
    assert chosen(paths, ["consolidated.safetensors"], load_format="mistral") == wanted


def test_patterns_of_the_user():
    """`allow` takes the place of our choice, in folders too; `ignore` takes away from either."""
    paths = ["config.json", "model.safetensors", "encoding/encode.py", "merges.txt", "vocab.txt"]
    assert chosen(paths, allow=("*.json", "*.safetensors", "encoding/*")) == [
        "config.json",
        "encoding/encode.py",
        "model.safetensors",
    ]
    assert chosen(paths, ignore=("v*.txt",)) == ["config.json", "merges.txt", "model.safetensors"]


@pytest.mark.parametrize(
    ("paths", "shards", "wish", "expected"),
    [
        (["model.safetensors"], None, {}, f"{AT}: has no config.json, so no engine can load it; choose the repository in transformers' format"),
        (["config.json", "model.safetensors"], None, {"ignore": ("*.json",)}, f"{AT}: model.ignore_patterns leave config.json out, which every engine needs"),
        (["config.json", "model.safetensors"], None, {"allow": ("*.safetensors",)}, f"{AT}: model.allow_patterns leave config.json out, which every engine needs"),
        (["config.json", "pytorch_model.bin", "tf_model.h5"], None, {}, f"{AT}: has no *.safetensors, only *.bin, *.h5; choose a repository that has them"),
        (["config.json"], None, {}, f"{AT}: has no weights, or the patterns leave them out"),
        (["config.json", "a.safetensors", "b.safetensors"], None, {}, f"{AT}: 2 weight files but no {INDEX}; leave all but one out with ignore_patterns"),
        ([*BESIDE, SHARDS[0]], SHARDS, {}, f"{AT}: {SHARDS[1]} is in the index but not there"),
        (BESIDE + SHARDS, SHARDS, {"ignore": ("model-00002*",)}, f"{AT}: {SHARDS[1]} is in the index but not taken"),
        ([*BESIDE, *SHARDS, "stray.safetensors"], SHARDS, {"allow": ("*",)}, "model/allow_patterns: stray.safetensors is not in the index, vLLM could load it; add it to ignore_patterns"),
        ([*BESIDE, *SHARDS, "x.bin"], SHARDS, {"allow": ("*",)}, "model/allow_patterns: take .bin and .safetensors files; one weight format is enough, ignore the others"),
        ([*BESIDE, *SHARDS, "consolidated.safetensors"], SHARDS, {"allow": ("*",)}, "model/allow_patterns: consolidated.safetensors turns vLLM's loader to the format of Mistral; add it to ignore_patterns"),
        (["config.json", "w.tensors"], None, {"load_format": "tensorizer"}, "model: which files load-format tensorizer reads is not known here\n\nhint: name them in model.allow_patterns"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(paths, shards, wish, expected):
    """Before anything is fetched, with the key to change."""
    assert refusal(paths, shards, **wish) == expected


@pytest.mark.parametrize(
    "path", ["../evil.json", "/etc/passwd", "a/../../b.json", "a\\..\\b.json", "a//b.json", "./a.json"]
)
def test_a_path_that_leads_out_of_its_folder_condemns_the_commit(path):
    """Whether it would have been chosen or not."""
    expected = f"{REPO}: a file named {path!r} leads out of its folder; nothing is fetched"
    assert refusal([*BESIDE, *SHARDS, path], SHARDS) == expected


@pytest.mark.parametrize("path", ["-rf.json", "#x.json", "a\nb.json"])
def test_a_name_that_cannot_be_copied_safely(path):
    """It is refused where it is chosen, and can be left out."""
    paths = ["config.json", "model.safetensors", path]
    assert refusal(paths) == f"{AT}: {path!r} is no name that can be copied safely; add it to ignore_patterns"
    assert chosen(paths, ignore=(path,)) == ["config.json", "model.safetensors"]
