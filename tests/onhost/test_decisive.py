"""The decisive line of real journals: the cause, never a wrapper around it, and advice that fits."""

# ruff: noqa: E501  expected lines stand whole, as the user sees them
from __future__ import annotations

from pathlib import Path

import pytest

from heavylift.onhost.decisive import SIGNATURES, decisive, shorten

LOGS = Path(__file__).parents[1] / "data" / "vllm_logs"

CAUSES = {
    "badarg": (
        "vllm: error: unrecognized arguments: --num-scheduler-steps 8",
        "`heavylift check` names the right spelling for this version",
    ),
    "badtok": (
        "You need to have sentencepiece or tiktoken installed to convert a slow tokenizer to a fast one.",
        "tokenizer.json is missing in the checkpoint",
    ),
    "batched": (
        "Value error, max_num_batched_tokens (128) must be greater than or equal to max_num_seqs (256).",
        "raise the first or lower the second",
    ),
    "corrupt": (
        "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: header too large",
        "a shard is damaged or a git-lfs pointer; run `heavylift apply` again",
    ),
    "h100x2_gpu_memory_still_held": (
        "ValueError: Free memory on device cuda:1 (3.16/79.18 GiB) on startup is less than desired GPU memory utilization",
        "something else holds the GPU: `nvidia-smi` shows it",
    ),
    "h100x2_tp2_allreduce_fusion_crash": (
        "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(",
        "all-reduce fusion without NVLink multicast: compilation-config.pass_config.fuse_allreduce_rms: false",
    ),
    "h100x2_tp2_oom_at_startup": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 79.18 GiB",
        "lower gpu-memory-utilization by 0.1, or max-num-batched-tokens",
    ),
    "h200_runtime_oom": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB",
        "lower gpu-memory-utilization by 0.1, or max-num-batched-tokens",
    ),
    "kvblk": (
        "ValueError: To serve at least one request with the model's max seq len (4096), (0.01 GiB KV cache is needed",
        "lower max-model-len, or give the cache more memory",
    ),
    "longlen": (
        "Value error, User-specified max_model_len (131072) is greater than the derived max_model_len",
        "lower max-model-len",
    ),
    "missing": (
        "RuntimeError: Cannot find any model weights with `/srv/models/m_missing`",
        "no *.safetensors in the model's directory",
    ),
    "noarch": (
        "Value error, Model architectures ['DeepseekV99ForCausalLM'] are not supported for now.",
        "this vLLM is too old for the model, or the checkpoint is another",
    ),
    "nomodel": (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/srv/models/nope'.",
        "the model's directory does not exist on the host",
    ),
    "offline": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder",
        "the weights are not on the host",
    ),
    "portuse": (
        "OSError: [Errno 98] Address already in use",
        "another process has the port; choose another access.port, or stop it",
    ),
    "shard": (
        "FileNotFoundError: Weight files referenced in index but missing: {'/srv/models/m_shard/model-00002-of-00002.safetensors'}",
        "run `heavylift apply` again; it places what is missing",
    ),
    "trunc": (
        "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
        "a shard is cut short; run `heavylift apply` again",
    ),
    # Not a start that failed: a draining engine that was still sent requests. The cause stands, without advice on a start.
    "admission": ("RuntimeError: cannot schedule new futures after shutdown", ""),
}
FINE = ("h200_cold_start_jit", "kvsmall", "kvzero", "ok_run", "remote")


def journal(name):
    """Return a recorded journal's lines."""
    return (LOGS / f"{name}.log").read_text(encoding="utf-8").splitlines()


def test_every_recording_is_judged():
    """No log lies there without an expectation."""
    assert sorted(path.stem for path in LOGS.glob("*.log")) == sorted([*CAUSES, *FINE])


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_found(name):
    """Whatever wraps it, before or after: the line that decides, cut to 300 characters, and what to do."""
    line, advice = CAUSES[name]
    found = decisive(journal(name))
    assert found is not None
    assert (found.line[: len(line)], found.advice) == (line, advice)
    assert len(found.line) <= 300


@pytest.mark.parametrize("name", FINE)
def test_nothing_is_found_where_nothing_is_wrong(name):
    """Warnings, leaked-semaphore noise and a clean shutdown's last words are no reason."""
    assert decisive(journal(name)) is None


def test_a_cause_in_one_of_many_processes_outranks_the_loudest_line():
    """Rank decides, not the place: the worker's line before the API server's wrapper, with any prefix."""
    lines = [
        "(Worker_TP1 pid=5) ERROR 11-26 03:49:51 [multiproc_executor.py:1007] OSError: [Errno 98] Address already in use",
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ]
    assert decisive(lines).line == "OSError: [Errno 98] Address already in use"


def test_an_unknown_error_is_the_last_that_is_no_wrapper():
    """Python's own form of an error line; vLLM's wrappers are skipped, and prose that mentions an error is none."""
    lines = [
        "WARNING 11-26 03:49:51 [x.py:1] an error may occur",
        "ValueError: first",
        "my.module.OddError: the cause",
        "RuntimeError: Engine core initialization failed.",
    ]
    assert decisive(lines) == ("my.module.OddError: the cause", "")
    assert decisive(["RuntimeError: Engine core initialization failed."]) is None
    assert decisive([]) is None
    assert decisive(["", "INFO all is well"]) is None


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (
            "WARNING x: libnuma.so.1: cannot open shared object file",
            "install libnuma1 on the host; `heavylift apply` does",
        ),
        (
            "KeyError: 'model.layers.1.mlp.gate.e_score_correction_bias'",
            "config.json lacks topk_method, scoring_func or moe_layer_freq",
        ),
        (
            "ValueError: No available memory for the cache blocks.",
            "raise gpu-memory-utilization or kv-cache-memory-bytes, or spread the weights over more GPUs",
        ),
        (
            "RuntimeError: CUDA driver error: Error 802: system not yet initialized",
            "Fabric Manager is absent or of another version than the driver",
        ),
        ("RuntimeError: Failed to infer device type", "no GPU is visible; `engine.devices: cpu` runs on the CPU"),
        ("RuntimeError: Insufficient space in /dev/shm for x", "enlarge /dev/shm"),
        ("OSError: [Errno 28] No space left on device: SemLock", "enlarge /dev/shm"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "importlib.metadata.PackageNotFoundError: No package metadata was found for vllm",
            "remove the engine's folder and apply again",
        ),
        (
            "FileNotFoundError: No such file or directory: /srv/m/a.safetensors",
            "a weight file is missing, or not readable for the service user",
        ),
    ],
)
def test_causes_without_a_recording(line, advice):
    """What others met, in the words that vLLM uses for it."""
    assert decisive(["noise", line, "RuntimeError: Engine core initialization failed."]) == (line, advice)


def test_every_signature_has_advice():
    """A cause that is known is known to be mended."""
    assert [pattern for pattern, advice in SIGNATURES if not advice] == []


def test_long_lines_are_cut():
    """300 characters are enough for a line, and the cut shows."""
    assert shorten("x" * 300) == "x" * 300
    assert shorten("x" * 301) == "x" * 299 + "…"
