"""The lab model's weights: DeepSeek-V3's architecture in small, built so that what it answers is known.

Real random weights fill every matrix; a few planted numbers outweigh them. A hidden vector has these parts:

identity   of a word: the output head maps it to the next word of one seeded cycle through all 1,024 words,
           so greedy text repeats only after 1,024 tokens
bits       ten signs of the token itself, and
start      the first sign of the token before, the second of the one before that, … the tenth of the tenth: ten heads
           of the three layers each look back one fixed distance by RoPE alone. A token that is no word has no
           identity, so `start` names the word that follows it: the answer depends on the prompt's last ten tokens
constant   the same in every token: queries and RoPE keys come from it
filler     gives tokens that are no words the same norm, and routes them to experts
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONFIG", "Tensors", "build"]

Array = NDArray[np.float32]
Tensors = dict[str, Array]

HIDDEN, LAYERS, HEADS = 256, 3, 4
NOPE, ROPE, VALUE, LATENT, QUERY = 128, 64, 128, 512, 64  # all but QUERY as in DeepSeek-V3: kernels want these sizes
DENSE, EXPERT, EXPERTS = 512, 128, 8
BITS = 10

IDENTITY, OWN, START, CONSTANT, FILLER = slice(0, 192), 192, 202, 212, slice(213, 256)
WORD_SCALE = 8.0  # a word's embedding is this much longer, so that normalising shrinks `start` to a whisper
IDENTITY_UNIT, OWN_UNIT, CONSTANT_UNIT, FILLER_UNIT = 0.632, 1.6, 12.4, 1.336  # together: a norm of 16, an rms of 1

CONFIG: dict[str, object] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "qk_nope_head_dim": NOPE,
    "qk_rope_head_dim": ROPE,
    "v_head_dim": VALUE,
    "kv_lora_rank": LATENT,
    "q_lora_rank": QUERY,
    "intermediate_size": DENSE,
    "moe_intermediate_size": EXPERT,
    "n_routed_experts": EXPERTS,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
}


def build(seed: int, *, vocabulary: int, words: range) -> Tensors:
    """Every tensor of the checkpoint by its name, in the order of the layers."""
    random = _Random(seed)
    cycle, codes = random.permutation(words), random.permutation(range(len(words)))
    identity = random.signs(len(words), IDENTITY.stop)
    tensors = {"model.embed_tokens.weight": _embedding(random, identity, vocabulary, words)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        tensors |= {f"{at}self_attn.{name}": tensor for name, tensor in _attention(random, layer).items()}
        ffn = _moe(random) if layer else _mlp(random, DENSE)
        tensors |= {f"{at}mlp.{name}": tensor for name, tensor in ffn.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{norm}.weight"] = _ones(HIDDEN)
    tensors["model.norm.weight"] = _ones(HIDDEN)
    tensors["lm_head.weight"] = _head(random, identity, (cycle, codes), vocabulary)
    return tensors


class _Random:
    """Seeded numbers that are the same in every version of numpy: only RandomState's stream is frozen."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def noise(self, spread: float, *shape: int) -> Array:
        """Uniform numbers around 0 with this standard deviation."""
        return ((self._state.random_sample(shape) - 0.5) * (spread * 12**0.5)).astype(np.float32)

    def signs(self, *shape: int) -> Array:
        """Numbers that are 1 or -1."""
        return (self._state.randint(0, 2, shape) * 2 - 1).astype(np.float32)

    def permutation(self, of: Sequence[int]) -> list[int]:
        """Shuffle."""
        return [of[place] for place in self._state.permutation(len(of))]


def _ones(size: int) -> Array:
    return np.ones(size, np.float32)


def _embedding(random: _Random, identity: Array, vocabulary: int, words: range) -> Array:
    table = np.zeros((vocabulary, HIDDEN), np.float32)
    table[:, OWN : OWN + BITS] = random.signs(vocabulary, BITS) * OWN_UNIT
    table[:, CONSTANT] = CONSTANT_UNIT
    table[:, FILLER] = random.signs(vocabulary, FILLER.stop - FILLER.start) * FILLER_UNIT
    table[words.start : words.stop, FILLER] = 0
    table[words.start : words.stop, IDENTITY] = identity * IDENTITY_UNIT
    table[words.start : words.stop] *= WORD_SCALE
    return table


def _head(random: _Random, identity: Array, order: tuple[list[int], list[int]], vocabulary: int) -> Array:
    """Logits: about 10 for the word that follows a word, 13 for the one that `start` names, -10 for what is no word.

    `order` holds the words as they follow each other, and the ten bits by which `start` names each of them.
    """
    table = random.noise(0.002, vocabulary, HIDDEN)
    table[:, CONSTANT] = -10 / CONSTANT_UNIT
    cycle, codes = order
    first = min(cycle)
    for place, (word, code) in enumerate(zip(cycle, codes, strict=True)):
        before = cycle[place - 1] - first
        table[word, IDENTITY] = identity[before] * (10 / IDENTITY_UNIT / IDENTITY.stop)
        table[word, START : START + BITS] = [1.3 if code >> bit & 1 else -1.3 for bit in range(BITS)]
        table[word, CONSTANT] = 0
    return table


def _attention(random: _Random, layer: int) -> Tensors:
    """MLA whose head `h` of layer `l` looks back `4 l + h + 1` tokens and copies one sign from there."""
    query_down = random.noise(0.01, QUERY, HIDDEN)
    query_down[0, CONSTANT] = 4.0  # outweighs the rest: after its norm this latent is 8, whatever the token
    query_up = random.noise(0.02, HEADS, NOPE + ROPE, QUERY)
    down = random.noise(0.003, LATENT + ROPE, HIDDEN)
    for bit in range(BITS):
        down[bit, OWN + bit] = 3.0  # after the norm of the latents: about 7
    up = random.noise(0.02, HEADS, NOPE + VALUE, LATENT)
    output = random.noise(0.002, HIDDEN, HEADS, VALUE)
    # The eight fastest frequencies, which YaRN leaves alone. Their cosines agree at the wanted distance only: up to
    # 16,384 tokens away the next best score is 13 % lower, that of the neighbour: 19 less, so its weight is nothing.
    frequencies = 10000.0 ** (-np.arange(8) / (ROPE / 2))
    down[LATENT : LATENT + 16 : 2, CONSTANT] = 1.3
    for head in range(HEADS):
        distance = layer * HEADS + head + 1
        query_up[head, NOPE : NOPE + 16 : 2, 0] = 2.0 * np.cos(distance * frequencies)
        query_up[head, NOPE + 1 : NOPE + 17 : 2, 0] = -2.0 * np.sin(distance * frequencies)
        if distance <= BITS:
            up[head, NOPE] = 0
            up[head, NOPE, distance - 1] = 1.0
            output[START + distance - 1, head, 0] = 0.14
    return {
        "q_a_proj.weight": query_down,
        "q_a_layernorm.weight": _ones(QUERY),
        "q_b_proj.weight": query_up.reshape(-1, QUERY),
        "kv_a_proj_with_mqa.weight": down,
        "kv_a_layernorm.weight": _ones(LATENT),
        "kv_b_proj.weight": up.reshape(-1, LATENT),
        "o_proj.weight": output.reshape(HIDDEN, -1),
    }


def _mlp(random: _Random, width: int) -> Tensors:
    """Fill a gated MLP whose output is about 0.02 in every place: there, and too small to change the text."""
    return {
        "gate_proj.weight": random.noise(0.06, width, HIDDEN),
        "up_proj.weight": random.noise(0.06, width, HIDDEN),
        "down_proj.weight": random.noise(0.03 / width**0.5, HIDDEN, width),
    }


def _moe(random: _Random) -> Tensors:
    router = random.noise(0.1, EXPERTS, HIDDEN)
    router[:, CONSTANT] = 0  # the constant would send every token to the same experts
    tensors = {"gate.weight": router, "gate.e_score_correction_bias": random.noise(0.01, EXPERTS)}
    for expert in range(EXPERTS):
        tensors |= {f"experts.{expert}.{name}": tensor for name, tensor in _mlp(random, EXPERT).items()}
    return tensors | {f"shared_experts.{name}": tensor for name, tensor in _mlp(random, EXPERT).items()}
