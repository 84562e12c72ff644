"""What heavylift says to a how-to on DeepSeek V3 that was written for vLLM 0.6, and to stale lines of recipes."""

from __future__ import annotations

import pytest

from heavylift.catalog.arguments import engine_schema
from heavylift.catalog.models import ModelFacts
from heavylift.plan.arguments import argv, check

FACTS = ModelFacts.from_config(
    {
        "architectures": ["DeepseekV3ForCausalLM"],
        "num_attention_heads": 128,
        "kv_lora_rank": 512,
        "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        "max_position_embeddings": 163840,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "n_shared_experts": 1,
    }
)


def said(arguments, variables=None, version="0.33.0"):
    """Return the findings as lines."""
    found = check(arguments, variables or {}, engine_schema(version), FACTS)
    return [f"{p.severity} {p.path.partition('/')[2]}: {p.message}" for p in found]


ENGINE = [
    ("model", "deepseek-ai/DeepSeek-V3", "error arguments/model: set by heavylift; use `model.repo` or `model.path`"),
    (
        "tokenizer",
        "deepseek-ai/DeepSeek-V3",
        "note arguments/tokenizer: the model's own is the default; keep the line only for another one",
    ),
    ("tensor-parallel-size", 2, None),
    (
        "gpu-memory-utilization",
        0.92,
        "note arguments/gpu-memory-utilization: 0.92 is the default of vLLM 0.33.0; the line can go",
    ),
    ("max-model-len", 32768, None),
    (
        "download-dir",
        "/models/deepseek-v3",
        "error arguments/download-dir: weights are placed and verified before the engine starts; use `paths.models`",
    ),
    ("max-num-seqs", 256, None),
    ("max-num-batched-tokens", 8192, None),
    (
        "block-size",
        16,
        ("warning arguments/block-size: 16 shuts out the fast MLA backends, which need 32, 64 or 128; remove the line"),
    ),
    (
        "enable-chunked-prefill",
        True,
        "note arguments/enable-chunked-prefill: on by default in vLLM 0.33.0; the line can go",
    ),
    (
        "trust-remote-code",
        True,
        (
            "error arguments/trust-remote-code: set by heavylift; "
            "use `model.trust_remote_code`, which native models do not need"
        ),
    ),
    ("dtype", "half", "warning arguments/dtype: half can overflow: the model is FP8; remove the line"),
    ("enforce-eager", False, "note arguments/enforce-eager: false is the default of vLLM 0.33.0; the line can go"),
    (
        "enable-prefix-caching",
        True,
        "note arguments/enable-prefix-caching: on by default in vLLM 0.33.0; the line can go",
    ),
]
GONE = [
    ("swap-space", 4, "removed from vLLM in 0.18.0; remove the line"),
    ("num-scheduler-steps", 8, "removed from vLLM in 0.10.1; remove the line"),
    ("use-v2-block-manager", True, "removed from vLLM in 0.10.0; remove the line"),
    ("worker-use-ray", True, "removed from vLLM in 0.8.5 or before; use `distributed-executor-backend`"),
    ("guided-decoding-backend", "xgrammar", "removed from vLLM in 0.12.0; use `structured-outputs-config.backend`"),
    ("enable-reasoning", True, "removed from vLLM in 0.10.0; use `reasoning-parser`"),
    (
        "max-num-partial-prefills",
        2,
        "removed from vLLM in 0.27.0; nothing replaces it one to one, see `prefill-schedule-interval`",
    ),
    (
        "max-long-partial-prefills",
        1,
        "removed from vLLM in 0.27.0; nothing replaces it one to one, see `long-prefill-token-threshold`",
    ),
]
VARIABLES = [
    ("VLLM_USE_V1", "1", "removed from vLLM in 0.11.1; there is only V1, remove the line"),
    ("VLLM_ATTENTION_BACKEND", "FLASHMLA", "removed from vLLM in 0.15.0; use the argument `attention-backend`"),
    ("VLLM_ALL2ALL_BACKEND", "pplx", "removed from vLLM in 0.16.0; use the argument `all2all-backend`"),
    ("VLLM_USE_FLASHINFER_MOE_FP8", "1", "removed from vLLM in 0.24.0; use the argument `moe-backend`"),
    ("VLLM_USE_FLASHINFER_MOE_FP4", "1", "removed from vLLM in 0.24.0; use the argument `moe-backend`"),
]


@pytest.mark.parametrize(("key", "value", "line"), ENGINE)
def test_each_engine_argument(key, value, line):
    """Defaults are notes, harmful lines warnings, what heavylift sets itself an error; the rest passes."""
    assert said({key: value}) == ([line] if line else [])


def test_the_whole_set():
    """All lines at once give all findings, and no further ones."""
    found = said({key: value for key, value, _ in ENGINE})
    assert sorted(found) == sorted(line for _, _, line in ENGINE if line)


def test_what_is_left_of_the_set():
    """Without the lines that say nothing, do harm or belong elsewhere, four of fourteen are left."""
    left = {key: value for key, value, line in ENGINE if line is None}
    assert argv(left, engine_schema("0.33.0")) == (
        *("--max-model-len", "32768"),
        *("--max-num-batched-tokens", "8192"),
        *("--max-num-seqs", "256"),
        *("--tensor-parallel-size", "2"),
    )


def test_as_python_wrote_it():
    """Copied from `EngineArgs(…)`, the names still have underscores."""
    assert said({"max_num_seqs": 256}) == ["error arguments/max_num_seqs: write it as `max-num-seqs`"]


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
@pytest.mark.parametrize(("key", "value", "message"), GONE)
def test_gone_since(key, value, message, version):
    """Both versions say which release dropped it, and what to do."""
    assert said({key: value}, version=version) == [f"error arguments/{key}: {message}"]


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
@pytest.mark.parametrize(("name", "value", "message"), VARIABLES)
def test_variables_gone_since(name, value, message, version):
    """An unknown variable is an error here; vLLM only logs it."""
    assert said({}, {name: value}, version) == [f"error variables/{name}: {message}"]


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
@pytest.mark.parametrize(
    ("key", "use"),
    [("disable-prefix-caching", "enable-prefix-caching"), ("disable-log-requests", "enable-log-requests")],
)
def test_drift_between_two_versions(key, use, version):
    """0.33 takes these and 0.32 exits with 2; the form that is named instead works in both."""
    assert said({key: True}, version=version) == [
        f"error arguments/{key}: write `{use}: false`; every version takes that"
    ]
    assert argv({use: False}, engine_schema(version)) == (f"--no-{use}",)


def test_the_refused_line_of_a_recipe():
    """A recipe for V4 still sets a key that neither version has."""
    for version in ("0.32.0", "0.33.0"):
        assert said({"attention_config.use_fp4_indexer_cache": True}, version=version) == [
            (
                "error arguments/attention_config.use_fp4_indexer_cache: "
                "write it as `attention-config.use_fp4_indexer_cache`"
            ),
            (
                "error arguments/attention_config.use_fp4_indexer_cache: "
                f"`use_fp4_indexer_cache` is unknown to vLLM {version}; use `indexer_kv_dtype`"
            ),
        ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"tensor-parallel-size": 8, "enable-expert-parallel": True},
            "--enable-expert-parallel --tensor-parallel-size 8",
        ),
        (
            {
                "data-parallel-size": 8,
                "enable-expert-parallel": True,
                "api-server-count": 4,
                "enable-eplb": True,
                "eplb-config.num_redundant_experts": 32,
            },
            (
                "--api-server-count 4 --data-parallel-size 8 --enable-eplb --enable-expert-parallel "
                '--eplb-config {"num_redundant_experts":32}'
            ),
        ),
        (
            {"tool-call-parser": "deepseek_v31", "enable-auto-tool-choice": True, "reasoning-parser": "deepseek_v3"},
            "--enable-auto-tool-choice --reasoning-parser deepseek_v3 --tool-call-parser deepseek_v31",
        ),
        (
            {"tokenizer-mode": "deepseek_v32", "kernel-config.enable_flashinfer_autotune": False},
            '--kernel-config {"enable_flashinfer_autotune":false} --tokenizer-mode deepseek_v32',
        ),
        (
            {"speculative-config": {"method": "mtp", "num_speculative_tokens": 1}},
            '--speculative-config {"method":"mtp","num_speculative_tokens":1}',
        ),
        (
            {
                "tensor-parallel-size": 8,
                "pipeline-parallel-size": 2,
                "nnodes": 2,
                "master-addr": "10.0.0.1",
                "node-rank": 1,
            },
            "--master-addr 10.0.0.1 --nnodes 2 --node-rank 1 --pipeline-parallel-size 2 --tensor-parallel-size 8",
        ),
        (
            {
                "kv-transfer-config": {
                    "kv_connector": "NixlConnector",
                    "kv_role": "kv_producer",
                    "kv_load_failure_policy": "fail",
                }
            },
            (
                "--kv-transfer-config "
                '{"kv_connector":"NixlConnector","kv_load_failure_policy":"fail","kv_role":"kv_producer"}'
            ),
        ),
    ],
)
@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_recipes_of_today(arguments, words, version):
    """The lines that replace the article's pass without a word, in both versions."""
    assert said(arguments, version=version) == []
    assert " ".join(argv(arguments, engine_schema(version))) == words
