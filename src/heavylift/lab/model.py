"""`lab model`: a tiny checkpoint of DeepSeek-V3's architecture that a real vLLM loads with its real loader.

Same seed, same bytes. The directory is written beside its place and renamed, so that it is there whole or not at all.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavylift.errors import LabError

if TYPE_CHECKING:
    from heavylift.lab.tensors import Array, Tensors

__all__ = ["CONTEXT", "Model", "make"]

CONTEXT = 16384  # tokens; the longest whose KV cache fits into 64 MiB
MARK = "heavylift_lab_model"  # the key of config.json by which a directory is known as ours
SHARD = "model-{:05}-of-{:05}.safetensors"
OURS = re.compile(
    r"model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json|(config|generation_config|tokenizer"
    r"|tokenizer_config|manifest|stamp)\.json|chat_template\.jinja"  # manifest and stamp: what verifying leaves
)
MAX_SHARDS = 10  # the largest tensor is just under a tenth of the whole, so no shard stays empty


@dataclass(frozen=True, slots=True)
class Model:
    """What was written: where, from which seed, how many parameters, and the bytes of all files together."""

    directory: Path
    seed: int
    shards: int
    parameters: int
    size_bytes: int


def make(directory: Path, *, seed: int = 0, shards: int = 3) -> Model:
    """Write the checkpoint; a directory that an earlier `make` wrote is replaced, any other must be empty or absent."""
    if not 1 <= shards <= MAX_SHARDS:
        raise LabError(f"--shards {shards}: should be 1 to {MAX_SHARDS}")
    if not 0 <= seed < 2**32:
        raise LabError(f"--seed {seed}: should be 0 to {2**32 - 1}")
    directory = directory.resolve()
    try:
        _refuse_foreign(directory)
        tensors = _tensors(seed)
        _replace(directory, tensors, seed, shards)
    except OSError as error:
        hint = "name a directory that this user may write, on a disk with 16 MB free"
        raise LabError(f"{directory}: cannot write the model ({error.strerror or error})", hint=hint) from None
    parameters = sum(tensor.size for tensor in tensors.values())
    return Model(directory, seed, shards, parameters, sum(file.stat().st_size for file in directory.iterdir()))


def _refuse_foreign(directory: Path) -> None:
    """Raise `LabError` where writing would destroy something that `make` did not write."""
    hint = "name a new or empty directory"
    if directory.exists() and not directory.is_dir():
        raise LabError(f"{directory}: a file is in the way", hint=hint)
    entries = sorted(directory.iterdir()) if directory.is_dir() else []
    if not entries:
        return
    if not _is_marked(directory / "config.json"):
        raise LabError(f"{directory}: holds files that `heavylift lab model` did not write", hint=hint)
    foreign = [entry.name for entry in entries if not OURS.fullmatch(entry.name)]
    if foreign:
        hint = "move it away, or name a new or empty directory"
        raise LabError(f"{directory}: holds {foreign[0]}, which `heavylift lab model` did not write", hint=hint)


def _is_marked(config: Path) -> bool:
    try:
        return MARK in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _tensors(seed: int) -> Tensors:
    try:
        from heavylift.lab import tensors, tokenizer
    except ModuleNotFoundError as error:
        hint = "pip install 'heavylift[lab]'"
        raise LabError(f"lab model: the Python package {error.name} is not installed", hint=hint) from None
    return tensors.build(seed, vocabulary=tokenizer.SIZE, words=tokenizer.WORDS)


def _replace(directory: Path, tensors: Tensors, seed: int, shards: int) -> None:
    """Write into a folder beside `directory`, then let it take that place."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        _write(new, tensors, seed, shards)
        for path in (new, *new.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)  # an engine runs as another user
        if directory.exists():
            directory.rename(old)
        try:
            new.rename(directory)
        except BaseException:
            if old.exists() and not directory.exists():
                old.rename(directory)
            raise


def _write(directory: Path, tensors: Tensors, seed: int, shards: int) -> None:
    from heavylift.lab import tokenizer

    _write_shards(directory, tensors, shards)
    _write_json(directory / "config.json", _config(seed))
    _write_json(directory / "generation_config.json", {"_from_model_config": True, **_token_ids()})
    _write_json(directory / "tokenizer_config.json", tokenizer.settings(CONTEXT))
    tokenizer.build().save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(tokenizer.CHAT_TEMPLATE, encoding="utf-8")


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _token_ids() -> dict[str, Any]:
    from heavylift.lab import tokenizer

    special = tokenizer.SPECIAL
    return {"bos_token_id": special.index(tokenizer.BOS), "eos_token_id": special.index(tokenizer.EOS)}


def _config(seed: int) -> dict[str, Any]:
    from heavylift.lab import tensors, tokenizer

    return {
        **tensors.CONFIG,
        **_token_ids(),
        MARK: {"seed": seed, "version": 1},
        "architectures": ["DeepseekV3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": CONTEXT,
        "model_type": "deepseek_v3",
        "norm_topk_prob": True,
        "num_nextn_predict_layers": 0,
        "rms_norm_eps": 1e-6,
        "rope_interleave": True,
        "rope_scaling": {  # as DeepSeek-V3 has it; plain RoPE is left out by the CPU engine (0.32, MLA queries)
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 4,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": CONTEXT // 4,
            "type": "yarn",
        },
        "rope_theta": 10000.0,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_method": "noaux_tc",
        "use_cache": True,
        "vocab_size": tokenizer.SIZE,
    }


def _write_shards(directory: Path, tensors: Tensors, shards: int) -> None:
    weight_map: dict[str, str] = {}
    total = 0
    for number, names in enumerate(_split(tensors, shards), start=1):
        file = SHARD.format(number, shards)
        blobs = {name: _encode(name, tensors[name]) for name in names}
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, (dtype, blob) in blobs.items():
            end = offset + len(blob)
            header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
            weight_map[name] = file
            offset = end
        total += offset
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensor data begins at a multiple of 8
        data = b"".join(blob for _, blob in blobs.values())
        (directory / file).write_bytes(len(text).to_bytes(8, "little") + text + data)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(directory / "model.safetensors.index.json", index)


def _split(tensors: Tensors, shards: int) -> Iterator[list[str]]:
    """Cut the names, in their order, into runs of about the same size, none of them empty."""
    total = sum(tensor.size for tensor in tensors.values())
    runs: list[list[str]] = [[] for _ in range(shards)]
    before = 0
    for name, tensor in tensors.items():
        runs[before * shards // total].append(name)
        before += tensor.size
    yield from runs


def _encode(name: str, tensor: Array) -> tuple[str, bytes]:
    """One tensor's safetensors dtype and bytes: bfloat16, rounded to nearest even, but for the router's bias."""
    import numpy as np

    if name.endswith("e_score_correction_bias"):
        return "F32", tensor.astype("<f4").tobytes()
    word = tensor.view(np.uint32)
    rounded = (word + np.uint32(0x7FFF) + (word >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return "BF16", rounded.astype("<u2").tobytes()
