"""Arguments against the model they are for, and lines that say nothing new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heavylift.catalog.arguments import engine_schema
from heavylift.catalog.models import ModelFacts
from heavylift.plan.arguments import check

SCHEMA = engine_schema("0.33.0")
V3 = ModelFacts(
    architecture="DeepseekV3ForCausalLM",
    num_attention_heads=128,
    is_mla=True,
    dtype="bfloat16",
    quantization="fp8",
    quantization_block=128,
    max_model_len=163840,
    intermediate_size=18432,
    moe_intermediate_size=2048,
    shared_experts=1,
)
DENSE = ModelFacts(architecture="LlamaForCausalLM", num_attention_heads=32, dtype="bfloat16", max_model_len=8192)


def found(arguments, variables=None, facts=None):
    """Return the findings as lines, without the common start of their paths."""
    problems = check(arguments, variables or {}, SCHEMA, facts)
    return [f"{p.severity} {p.path.removeprefix('engine/arguments/')}: {p.message}" for p in problems]


@pytest.mark.parametrize(
    ("arguments", "facts", "lines"),
    [
        (
            {"tensor-parallel-size": 3},
            DENSE,
            ["error tensor-parallel-size: 3 does not divide the model's 32 attention heads; choose a divisor"],
        ),
        ({"tensor-parallel-size": 4}, DENSE, []),
        ({"tensor-parallel-size": 3}, None, []),
        ({"tensor-parallel-size": 16}, V3, []),
        (
            {"tensor-parallel-size": 32},
            V3,
            [
                (
                    "error tensor-parallel-size: 32 cuts a width of 18432 into 576, not whole FP8 blocks of 128; "
                    "lower it and raise `pipeline-parallel-size` or `data-parallel-size`"
                )
            ],
        ),
        (
            {"tensor-parallel-size": 16},
            replace(V3, moe_intermediate_size=1024, shared_experts=2),
            [
                (
                    "error tensor-parallel-size: 16 cuts a width of 1024 into 64, not whole FP8 blocks of 128; "
                    "lower it and raise `pipeline-parallel-size` or `data-parallel-size`"
                )
            ],
        ),
        (
            {"tensor-parallel-size": 16, "enable-expert-parallel": True},
            replace(V3, moe_intermediate_size=1024, shared_experts=2),
            [],
        ),
        ({"tensor-parallel-size": 32}, replace(V3, quantization=None, quantization_block=None), []),
        ({"max-model-len": 163840}, V3, []),
        ({"max-model-len": "auto"}, V3, []),
        (
            {"max-model-len": 163841},
            V3,
            ["error max-model-len: 163841 is above the model's 163840; lower it, or write auto"],
        ),
        (
            {"kv-cache-dtype": "nvfp4"},
            V3,
            ["error kv-cache-dtype: nvfp4 does not work with MLA, which this model uses; use fp8 or auto"],
        ),
        ({"kv-cache-dtype": "nvfp4_ds_mla"}, V3, []),
        ({"kv-cache-dtype": "nvfp4"}, DENSE, []),
        (
            {"block-size": 16},
            V3,
            [("warning block-size: 16 shuts out the fast MLA backends, which need 32, 64 or 128; remove the line")],
        ),
        (
            {"block-size": 64},
            V3,
            [
                (
                    "warning block-size: 64 leaves only those MLA backends that take it; "
                    "without the line vLLM takes the best one"
                )
            ],
        ),
        ({"block-size": 16}, DENSE, []),
        (
            {"dtype": "half"},
            V3,
            ["warning dtype: half can overflow: the model is FP8; remove the line"],
        ),
        (
            {"dtype": "float16"},
            DENSE,
            ["warning dtype: float16 can overflow: the model is BF16; remove the line"],
        ),
        ({"dtype": "float16"}, replace(DENSE, quantization="awq"), []),
        ({"dtype": "float16"}, replace(DENSE, dtype="float16"), []),
        ({"dtype": "bfloat16"}, V3, []),
        (
            {"gpu-memory-utilization": 0.92},
            None,
            ["note gpu-memory-utilization: 0.92 is the default of vLLM 0.33.0; the line can go"],
        ),
        ({"gpu-memory-utilization": 0.9}, None, []),
        ({"enforce-eager": False}, None, ["note enforce-eager: false is the default of vLLM 0.33.0; the line can go"]),
        ({"enforce-eager": True}, None, []),
        (
            {"enable-chunked-prefill": True},
            None,
            ["note enable-chunked-prefill: on by default in vLLM 0.33.0; the line can go"],
        ),
        ({"enable-prefix-caching": False}, None, []),
        (
            {"data-parallel-size": 1},
            None,
            ["note data-parallel-size: 1 is the default of vLLM 0.33.0; the line can go"],
        ),
        (
            {"tokenizer": "deepseek-ai/DeepSeek-V3"},
            None,
            ["note tokenizer: the model's own is the default; keep the line only for another one"],
        ),
        (
            {"data-parallel-size": 8, "max-num-seqs": 256},
            None,
            ["note max-num-seqs: counts for each of the 8 data parallel ranks: 2048 in all"],
        ),
    ],
)
def test_the_model(arguments, facts, lines):
    """What the model, or a default, says to an argument."""
    assert found(arguments, facts=facts) == lines


def test_a_longer_context_can_be_allowed():
    """Those who know what they do set a variable of vLLM."""
    assert found({"max-model-len": 200000}, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}, V3) == []
