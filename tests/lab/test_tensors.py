"""What the lab model answers, proven from its bytes: a reference forward pass in numpy, and the margins in the head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import deserialize

from heavylift.lab import model, tensors, tokenizer

Array = NDArray[np.float32]
Weights = dict[str, Array]
WORDS = tokenizer.WORDS


def _load(directory: Path) -> Weights:
    """Read every shard with the format's own reader; bfloat16 becomes float32 exactly."""
    weights: Weights = {}
    for shard in sorted(directory.glob("*.safetensors")):
        for name, tensor in deserialize(shard.read_bytes()):  # type: ignore[no-untyped-call]
            data = bytes(tensor["data"])
            if tensor["dtype"] == "BF16":
                flat = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                flat = np.frombuffer(data, "<f4")
            weights[name] = flat.reshape(tensor["shape"])
    return weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Read the tensors of seed 0 back from disk."""
    directory = tmp_path_factory.mktemp("lab") / "model"
    model.make(directory)
    return _load(directory)


def _norm(x: Array) -> Array:
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6), np.float32)


def _rope(x: Array) -> Array:
    """Rotate pairs by position (first axis), with YaRN's frequencies as DeepSeek-V3 computes them."""
    plain = 10000.0 ** (-np.arange(32) / 32)
    low, high = (64 * np.log(4096 / (turns * 2 * np.pi)) / (2 * np.log(10000)) for turns in (32, 1))
    ramp = np.clip((np.arange(32) - np.floor(low)) / (np.ceil(high) - np.floor(low)), 0, 1)
    angle = np.arange(len(x))[:, None] * (plain * (1 - ramp) + plain / 4 * ramp)
    if x.ndim == 3:
        angle = angle[:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    rotated = np.empty_like(x)
    rotated[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    rotated[..., 1::2] = x[..., 1::2] * cos + x[..., 0::2] * sin
    return rotated


def _attention(weights: Weights, at: str, x: Array) -> Array:
    count = len(x)
    query = (_norm(x @ weights[at + "q_a_proj.weight"].T) @ weights[at + "q_b_proj.weight"].T).reshape(count, 4, 192)
    latent = x @ weights[at + "kv_a_proj_with_mqa.weight"].T
    up = (_norm(latent[:, :512]) @ weights[at + "kv_b_proj.weight"].T).reshape(count, 4, 256)
    scores = np.einsum("qhd,khd->hqk", query[..., :128], up[..., :128])
    scores += np.einsum("qhd,kd->hqk", _rope(query[..., 128:]), _rope(latent[:, 512:]))
    scores *= 192**-0.5 * (0.1 * np.log(4) + 1) ** 2
    scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", shares, up[..., 128:]).reshape(count, -1)
    return np.asarray(mixed @ weights[at + "o_proj.weight"].T, np.float32)


def _mlp(weights: Weights, at: str, x: Array) -> Array:
    gate = x @ weights[at + "gate_proj.weight"].T
    hidden = gate / (1 + np.exp(-gate)) * (x @ weights[at + "up_proj.weight"].T)
    return np.asarray(hidden @ weights[at + "down_proj.weight"].T, np.float32)


def _route(weights: Weights, at: str, x: Array) -> tuple[NDArray[np.int64], Array]:
    """Find the two experts of each token and their shares: `noaux_tc` over four groups, two of them eligible."""
    score = 1 / (1 + np.exp(-x @ weights[at + "gate.weight"].T))
    biased = score + weights[at + "gate.e_score_correction_bias"]
    groups = np.argsort(-biased.reshape(-1, 4, 2).sum(-1), axis=-1)[:, :2]
    eligible = (np.arange(8) // 2 == groups[..., None]).any(1)
    chosen = np.argsort(-np.where(eligible, biased, -np.inf), axis=-1)[:, :2]
    share = np.take_along_axis(score, chosen, axis=-1)
    return chosen, share / share.sum(-1, keepdims=True) * np.float32(2.5)


def _moe(weights: Weights, at: str, x: Array) -> Array:
    chosen, share = _route(weights, at, x)
    output = _mlp(weights, at + "shared_experts.", x)
    for expert in range(8):
        weight = np.where(chosen == expert, share, 0).sum(-1, keepdims=True)
        output = output + weight * _mlp(weights, f"{at}experts.{expert}.", x)
    return output


def _logits(weights: Weights, ids: list[int]) -> Array:
    """Run the whole model and return the logits after the last of these tokens."""
    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(3):
        at = f"model.layers.{layer}."
        x = x + _attention(weights, at + "self_attn.", _norm(x))
        x = x + (_moe if layer else _mlp)(weights, at + "mlp.", _norm(x))
    return np.asarray(_norm(x[-1]) @ weights["lm_head.weight"].T)


def _chat(text: str) -> list[int]:
    return list(tokenizer.build().encode(tokenizer.USER + text + tokenizer.ASSISTANT).ids)


def _next_words(weights: Weights) -> tuple[NDArray[np.int64], Array]:
    """Each word's successor by embedding and head alone, and by how much it wins in the worst case of `start`."""
    rows = slice(WORDS.start, WORDS.stop)
    head = weights["lm_head.weight"]
    logits = _norm(weights["model.embed_tokens.weight"][rows]) @ head.T
    best = logits.argmax(-1)
    start = head[:, tensors.START : tensors.START + tensors.BITS]
    # `start` is ±1 in a residual whose rms is WORD_SCALE, and pulls at most this much towards another token.
    pull = np.abs(start[best][:, None] - start[None]).sum(-1) / tensors.WORD_SCALE
    margin = logits[np.arange(len(best)), best][:, None] - logits - pull
    margin[np.arange(len(best)), best] = np.inf
    return best, margin.min(-1)


def test_greedy_text_is_one_cycle_through_all_words(weights: Weights) -> None:
    """From any word all 1,024 come before one comes again, and no other token is ever the best."""
    successor, _ = _next_words(weights)
    seen = [WORDS.start]
    while len(seen) < len(WORDS):
        seen.append(int(successor[seen[-1] - WORDS.start]))
    assert sorted(seen) == list(WORDS)
    assert successor[seen[-1] - WORDS.start] == seen[0]


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
def test_the_next_word_wins_clearly(seed: int) -> None:
    """In the worst case the margin is 20 times the step of bfloat16 at a logit of 10 (0.0625)."""
    weights = tensors.build(seed, vocabulary=tokenizer.SIZE, words=WORDS)
    assert _next_words(weights)[1].min() > 1.25


@pytest.mark.parametrize("text", ["Hello", "Tell me a joke about bread.", "你好 😀", "x" * 300, " kato badibo"])
def test_the_first_word_is_named_by_the_last_ten_tokens(weights: Weights, text: str) -> None:
    """The whole forward pass agrees with the closed form, and wins by more than 1.5."""
    ids = _chat("A question. " + text)
    bits = [weights["model.embed_tokens.weight"][ids[-1 - back], tensors.OWN + back - 1] > 0 for back in range(1, 11)]
    codes = weights["lm_head.weight"][WORDS.start :, tensors.START : tensors.START + tensors.BITS] > 0
    (named,) = np.flatnonzero((codes == bits).all(-1))
    logits = _logits(weights, ids)
    second, first = np.sort(logits)[-2:]
    assert logits.argmax() == WORDS.start + named
    assert first - second > 1.5


def test_the_forward_pass_follows_the_cycle(weights: Weights) -> None:
    """Attention and experts included, eight greedy words are those that embedding and head name."""
    successor, _ = _next_words(weights)
    ids = _chat("Hello, who are you?")
    start = len(ids)
    for _ in range(9):
        ids.append(int(_logits(weights, ids).argmax()))
    for before, after in zip(ids[start:], ids[start + 1 :], strict=False):
        assert successor[before - WORDS.start] == after


def test_every_expert_is_used(weights: Weights) -> None:
    """Over all tokens no expert of either MoE layer gets less than 4 % of the choices (12.5 % is even)."""
    x = _norm(weights["model.embed_tokens.weight"])
    for layer in (1, 2):
        chosen, _ = _route(weights, f"model.layers.{layer}.mlp.", x)
        assert np.bincount(chosen.ravel(), minlength=8).min() > 0.04 * chosen.size


def test_another_seed_goes_another_way(weights: Weights) -> None:
    """Two seeds agree on few successors: chance would be 1 of 1,024."""
    other = tensors.build(1, vocabulary=tokenizer.SIZE, words=WORDS)
    assert np.mean(_next_words(weights)[0] == _next_words(other)[0]) < 0.02
