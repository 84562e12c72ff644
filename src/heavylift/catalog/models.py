"""What a model's own config.json says that decides which engine arguments can work. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ModelFacts"]

# Rotary scalings after which max_position_embeddings is not the longest context yet: vLLM multiplies by the factor.
_UNSCALED = {"linear", "dynamic"}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The facts of one model that engine arguments are checked against; None where config.json is silent."""

    architecture: str
    num_attention_heads: int | None = None
    is_mla: bool = False
    dtype: str | None = None
    quantization: str | None = None
    quantization_block: int | None = None
    max_model_len: int | None = None
    intermediate_size: int | None = None
    moe_intermediate_size: int | None = None
    shared_experts: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelFacts:
        """Read a config.json; the text part of a multimodal one."""
        text = config.get("text_config") or config
        quantization = config.get("quantization_config") or text.get("quantization_config") or {}
        return cls(
            architecture=(config.get("architectures") or text.get("architectures") or ["unknown"])[0],
            num_attention_heads=text.get("num_attention_heads"),
            is_mla=bool(text.get("kv_lora_rank")),
            dtype=text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype"),
            quantization=quantization.get("quant_method"),
            quantization_block=(quantization.get("weight_block_size") or [None])[0],
            max_model_len=_max_model_len(text),
            intermediate_size=text.get("intermediate_size"),
            moe_intermediate_size=text.get("moe_intermediate_size"),
            shared_experts=text.get("n_shared_experts") or 0,
        )


def _max_model_len(text: Mapping[str, Any]) -> int | None:
    length = text.get("max_position_embeddings")
    scaling = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if length is None or (scaling.get("rope_type") or scaling.get("type")) not in _UNSCALED:
        return length
    return int(length * (scaling.get("factor") or 1))
