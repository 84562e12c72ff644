"""The one line of an engine's journal that says why it did not start, and what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Finding", "decisive"]


class Finding(NamedTuple):
    """The decisive line, cleaned of vLLM's prefixes, and advice (empty where nothing is known)."""

    line: str
    advice: str


# In order of rank: what stands first wins, wherever it stands in the journal.
SIGNATURES = (
    (r"libnuma\.so\.1", "install libnuma1 on the host; `heavylift apply` does"),
    (
        r"error: unrecognized arguments?:|error: argument ",
        "`heavylift check` names the right spelling for this version",
    ),
    (r"User-specified max_model_len \(\d+\) is greater than the derived max_model_len", "lower max-model-len"),
    (
        r"max_num_batched_tokens \(\d+\) must be greater than or equal to max_num_seqs",
        "raise the first or lower the second",
    ),
    (
        r"Model architectures .* are not supported for now",
        "this vLLM is too old for the model, or the checkpoint is another",
    ),
    (r"Repo id must be in the form", "the model's directory does not exist on the host"),
    (r"Cannot find an appropriate cached snapshot folder", "the weights are not on the host"),
    (r"You need to have sentencepiece or tiktoken installed", "tokenizer.json is missing in the checkpoint"),
    (r"Weight files referenced in index but missing", "run `heavylift apply` again; it places what is missing"),
    (r"Cannot find any model weights with", "no *.safetensors in the model's directory"),
    (
        r"incomplete metadata, file not fully covered|MetadataIncompleteBuffer",
        "a shard is cut short; run `heavylift apply` again",
    ),
    (r"Error while deserializing header", "a shard is damaged or a git-lfs pointer; run `heavylift apply` again"),
    (r"e_score_correction_bias", "config.json lacks topk_method, scoring_func or moe_layer_freq"),
    (
        r"To serve at least one request with the model's max seq len",
        "lower max-model-len, or give the cache more memory",
    ),
    (
        r"No available memory for the cache blocks",
        "raise gpu-memory-utilization or kv-cache-memory-bytes, or spread the weights over more GPUs",
    ),
    (
        r"Free memory on device .* is less than desired GPU memory utilization",
        "something else holds the GPU: `nvidia-smi` shows it",
    ),
    (
        r"Not enough memory|Available memory .* is less than|larger than the available memory",
        "the host has too little memory",
    ),
    (r"CUDA out of memory occurred when warming up sampler", "lower max-num-seqs"),
    (
        r"CUBLAS_STATUS_EXECUTION_FAILED",
        "all-reduce fusion without NVLink multicast: compilation-config.pass_config.fuse_allreduce_rms: false",
    ),
    (r"torch\.OutOfMemoryError|CUDA out of memory", "lower gpu-memory-utilization by 0.1, or max-num-batched-tokens"),
    (r"is not divisible by weight quantization block_[nk]", "lower tensor-parallel-size"),
    (r"attention heads \(\d+\) must be divisible by tensor parallel size", "choose a size that divides the heads"),
    (r"World size \(\d+\) is larger than the number of available GPUs", "lower tensor- or data-parallel-size"),
    (r"Error 802: system not yet initialized", "Fabric Manager is absent or of another version than the driver"),
    (r"NVIDIA driver on your system is too old", "install driver 580 or later"),
    (r"Failed to infer device type", "no GPU is visible; `engine.devices: cpu` runs on the CPU"),
    (r"undefined symbol: _Z", "torch was changed under vLLM; remove the engine's folder and apply again"),
    (r"Insufficient space in /dev/shm|No space left on device.*SemLock", "enlarge /dev/shm"),
    (r"No space left on device", "the disk is full"),
    (r"[Aa]ddress already in use", "another process has the port; choose another access.port, or stop it"),
    (r"No package metadata was found for vllm", "remove the engine's folder and apply again"),
    (
        r"requires you to execute the configuration file|setting trust_remote_code",
        "name it in the model section, or use a newer vLLM",
    ),
    (r"does not recognize this architecture", "this vLLM is too old for the model"),
    (r"Permission denied", "the service user may not read or write that path"),
    (r"FileNotFoundError: .*safetensors", "a weight file is missing, or not readable for the service user"),
)
WRAPPERS = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed"
    r"|EngineCore encountered|EngineCore failed to start"
    r"|^Exception raised from|nanobind: leaked|leaked shared_memory|destroy_process_group"
)
ERROR = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b.*|^error: .*|^\w[\w./-]*: error: .*")
PREFIX = re.compile(
    r"^(?:\((?:APIServer|EngineCore|Worker)\S*(?: \w+)? ?pid=\d+\)\s*)?"
    r"(?:(?:INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]+\]\s?)?"
)


def decisive(journal: list[str]) -> Finding | None:
    """Return the decisive line of one run's journal, oldest line first; None where nothing looks like a reason."""
    lines = [PREFIX.sub("", line).strip() for line in journal]
    for pattern, advice in SIGNATURES:
        for line in lines:
            if re.search(pattern, line) and not WRAPPERS.search(line):
                return Finding(shorten(line), advice)
    errors = [line for line in lines if ERROR.match(line) and not WRAPPERS.search(line)]
    return Finding(shorten(errors[-1]), "") if errors else None


def shorten(line: str, limit: int = 300) -> str:
    """Cut a line that is longer than `limit` characters."""
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
