"""What is read from a model's config.json."""

from __future__ import annotations

import pytest

from heavylift.catalog.models import ModelFacts

DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_attention_heads": 128,
    "kv_lora_rank": 512,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"},
    "max_position_embeddings": 163840,
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
}


def test_deepseek_v3():
    """MLA, FP8 blocks, and a context that YaRN has already scaled."""
    assert ModelFacts.from_config(DEEPSEEK_V3) == ModelFacts(
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


def test_a_plain_dense_model():
    """What config.json does not say stays open."""
    facts = ModelFacts.from_config(
        {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 32, "dtype": "float16"}
    )
    assert facts == ModelFacts(architecture="LlamaForCausalLM", num_attention_heads=32, dtype="float16")


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        ({"rope_type": "linear", "factor": 4.0}, 16384),
        ({"type": "dynamic", "factor": 2}, 8192),
        ({"rope_type": "llama3", "factor": 8.0}, 4096),
        ({"rope_type": "linear", "factor": None}, 4096),
        (None, 4096),
    ],
)
def test_longest_context(scaling, longest):
    """As in vLLM, the factor of a linear or dynamic scaling counts, and of no other."""
    assert ModelFacts.from_config({"max_position_embeddings": 4096, "rope_scaling": scaling}).max_model_len == longest


def test_the_text_part_of_a_multimodal_model_counts():
    """Its heads are what tensor parallelism splits."""
    facts = ModelFacts.from_config({"architectures": ["XForVision"], "text_config": {"num_attention_heads": 16}})
    assert (facts.architecture, facts.num_attention_heads) == ("XForVision", 16)


def test_an_empty_config():
    """Nothing is known, nothing fails."""
    assert ModelFacts.from_config({}) == ModelFacts(architecture="unknown")
