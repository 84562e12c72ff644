"""The lab model's tokenizer: byte-level BPE over 1,024 made-up words. Any text comes back as it went in.

It does not depend on the seed. Token ids, in order: special tokens, the 256 bytes, syllables, words.
"""

from __future__ import annotations

from itertools import product

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

__all__ = ["BOS", "CHAT_TEMPLATE", "EOS", "SIZE", "WORDS", "build", "settings", "words"]

BOS = "<｜begin▁of▁sentence｜>"  # noqa: RUF001  (DeepSeek's own spelling, full-width bars)
EOS = "<｜end▁of▁sentence｜>"  # noqa: RUF001
PAD = "<｜▁pad▁｜>"  # noqa: RUF001
USER = "<｜User｜>"  # noqa: RUF001
ASSISTANT = "<｜Assistant｜>"  # noqa: RUF001
SPECIAL = (BOS, EOS, PAD, USER, ASSISTANT)

SYLLABLES = tuple("".join(pair) for pair in product("bdfhklmnprst", "aeiou"))
SPACE = "Ġ"  # how byte-level BPE writes a space
FIRST_WORD = len(SPECIAL) + 256 + len(SYLLABLES)
WORDS = range(FIRST_WORD, FIRST_WORD + 1024)
SIZE = WORDS.stop

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + USER + "{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}" + ASSISTANT + "{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ message['content'] }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)


def words() -> list[str]:
    """List the 1,024 words, each as syllables joined by a dot: 60 of one syllable, 482 of two, 482 of three."""
    count = len(SYLLABLES)
    # 7 and 11 are coprime to 60, so no pair comes twice.
    pairs = [f"{SYLLABLES[i % count]}.{SYLLABLES[(7 * i + 11 * (i // count)) % count]}" for i in range(482)]
    triples = [f"{pair}.{SYLLABLES[(13 * i + 5) % count]}" for i, pair in enumerate(pairs)]
    return [*SYLLABLES, *pairs, *triples]


def build() -> Tokenizer:
    """Make the tokenizer whose `save` writes the `tokenizer.json` that transformers loads."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled = [SPACE + word.replace(".", "") for word in words()]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet, *SYLLABLES, *spelled])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges()))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def settings(context: int) -> dict[str, object]:
    """Return what `tokenizer_config.json` holds."""
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "model_max_length": context,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _merges() -> list[tuple[str, str]]:
    """Letters to syllables, then space + syllable, then one syllable more: each word has exactly one way to form."""
    merges = [(syllable[0], syllable[1]) for syllable in SYLLABLES]
    for word in words():
        *stem, last = word.split(".")
        merges.append((SPACE + "".join(stem), last))
    return merges
