"""Engine arguments against the model they are for, and lines that say nothing new. Pure.

Errors are what the engine would refuse or could not run; warnings what costs speed or quality; notes what can go.
"""

from __future__ import annotations

from heavylift.plan.rules import RULES, Findings, Rule, Settings, found

__all__ = ["MODEL_RULES", "advise"]

# Block sizes that some MLA backend of a fast GPU takes: FlashInfer 32 and 64, FlashMLA 64, CUTLASS 128.
_MLA_BLOCKS = (32, 64, 128)
# vLLM's default is "as the model allows", and every model that generates text allows these.
_ON_BY_MODEL = ("enable-chunked-prefill", "enable-prefix-caching")


def advise(settings: Settings) -> Findings:
    """Apply every rule, those between arguments first."""
    for rule in (*RULES, *MODEL_RULES):
        yield from rule(settings)


def heads_divide(s: Settings) -> Findings:
    """Refuse a tensor parallel size that cannot share out the attention heads."""
    heads, tensor = s.facts.num_attention_heads if s.facts else None, s.count("tensor-parallel-size")
    if heads is not None and heads % max(tensor, 1):
        yield found(
            "tensor-parallel-size", f"{tensor} does not divide the model's {heads} attention heads; choose a divisor"
        )


def blocks_divide(s: Settings) -> Findings:
    """Refuse a tensor parallel size that cuts through the blocks of a block-quantised weight."""
    facts, tensor = s.facts, s.count("tensor-parallel-size")
    if facts is None or facts.quantization_block is None or tensor <= 1:
        return
    routed = None if s.get("enable-expert-parallel") else facts.moe_intermediate_size
    shared = (facts.moe_intermediate_size or 0) * facts.shared_experts
    for width in dict.fromkeys(width for width in (facts.intermediate_size, routed, shared) if width):
        if width % (tensor * facts.quantization_block):
            yield found(
                "tensor-parallel-size",
                f"{tensor} cuts a width of {width} into {width / tensor:g}, not whole FP8 blocks of "
                f"{facts.quantization_block}; lower it and raise `pipeline-parallel-size` or `data-parallel-size`",
            )
            return


def context_within_model(s: Settings) -> Findings:
    """Refuse a context longer than the model was made for."""
    longest, length = s.facts.max_model_len if s.facts else None, s.values.get("max-model-len")
    if (
        longest is None
        or length is None
        or length <= longest
        or s.variables.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    ):
        return
    yield found("max-model-len", f"{length} is above the model's {longest}; lower it, or write auto")


def no_nvfp4_cache_with_mla(s: Settings) -> Findings:
    """Refuse the plain NVFP4 layout, which has no form for MLA's cache."""
    kind = s.values.get("kv-cache-dtype")
    if s.facts is not None and s.facts.is_mla and str(kind).startswith("nvfp4") and not str(kind).endswith("_ds_mla"):
        yield found("kv-cache-dtype", f"{kind} does not work with MLA, which this model uses; use fp8 or auto")


def block_size_left_to_backend(s: Settings) -> Findings:
    """Warn of a block size: those that the fast MLA backends do not take make vLLM choose a slower one."""
    size = s.values.get("block-size")
    if s.facts is None or not s.facts.is_mla or size is None:
        return
    if size not in _MLA_BLOCKS:
        message = f"{size} shuts out the fast MLA backends, which need 32, 64 or 128; remove the line"
    else:
        message = f"{size} leaves only those MLA backends that take it; without the line vLLM takes the best one"
    yield found("block-size", message, "warning")


def native_precision(s: Settings) -> Findings:
    """Warn of FP16 where a model was trained in BF16 or FP8: FP16 has fewer exponent bits."""
    if s.facts is None or s.values.get("dtype") not in ("half", "float16"):
        return
    plain = s.facts.quantization is None and s.facts.dtype in ("bfloat16", "torch.bfloat16")
    if plain or s.facts.quantization == "fp8":
        made = "BF16" if plain else "FP8"
        yield found("dtype", f"{s.values['dtype']} can overflow: the model is {made}; remove the line", "warning")


def default_anyway(s: Settings) -> Findings:
    """Note a line that repeats vLLM's default: it hides those that matter."""
    for name, value in s.values.items():
        argument = s.schema.arguments[name]
        if argument.default is not None and type(value) is type(argument.default) and value == argument.default:
            told = str(value).lower() if isinstance(value, bool) else value
            yield found(name, f"{told} is the default of vLLM {s.schema.version}; the line can go", "note")
        elif name in _ON_BY_MODEL and value is True and argument.default is None:
            yield found(name, f"on by default in vLLM {s.schema.version}; the line can go", "note")


def tokenizer_is_the_models(s: Settings) -> Findings:
    """Note a tokenizer: without the line, vLLM takes the one beside the weights."""
    if "tokenizer" in s.values:
        yield found("tokenizer", "the model's own is the default; keep the line only for another one", "note")


def sequences_are_per_rank(s: Settings) -> Findings:
    """Note that every data parallel rank schedules for itself."""
    ranks, sequences = s.count("data-parallel-size"), s.values.get("max-num-seqs")
    if sequences is not None and ranks > 1:
        yield found(
            "max-num-seqs", f"counts for each of the {ranks} data parallel ranks: {sequences * ranks} in all", "note"
        )


MODEL_RULES: tuple[Rule, ...] = (
    heads_divide,
    blocks_divide,
    context_within_model,
    no_nvfp4_cache_with_mla,
    block_size_left_to_backend,
    native_precision,
    default_anyway,
    tokenizer_is_the_models,
    sequences_are_per_rank,
)
