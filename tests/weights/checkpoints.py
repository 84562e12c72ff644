"""Tiny checkpoints, written byte by byte as safetensors lays them out, to be damaged in every way."""

from __future__ import annotations

import json
import struct
from pathlib import Path

__all__ = ["checkpoint", "shard"]


def shard(tensors, header=None):
    """Return a safetensors file: `tensors` is {name: bytes}, U8 each; `header` replaces the true one."""
    table, end = {"__metadata__": {"format": "pt"}}, 0
    for name, content in tensors.items():
        table[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [end, end + len(content)]}
        end += len(content)
    text = header if header is not None else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(tensors.values())


def checkpoint(directory: Path) -> Path:
    """Write two shards with an index, a configuration, a tokenizer, and files that no engine needs."""
    directory.mkdir(parents=True)
    (directory / "a.safetensors").write_bytes(shard({"x": b"\1" * 100, "y": b"\2" * 50}))
    (directory / "b.safetensors").write_bytes(shard({"z": b"\3" * 30}))
    index = {"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text('{"model_type": "tiny"}')
    (directory / "tokenizer.json").write_text("{}")
    (directory / "README.md").write_text("not needed")
    (directory / "pytorch_model.bin").write_bytes(b"another format")
    (directory / ".cache").mkdir()
    return directory
