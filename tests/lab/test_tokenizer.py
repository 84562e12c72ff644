"""The lab model's tokenizer: every text survives, words are one token, the chat template is DeepSeek's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from heavylift.lab import tokenizer

TOKENIZER = tokenizer.build()
HARD = (
    "",
    " ",
    "two  spaces, a\ttab\r\n\n and an end ",
    "你好世界",
    "👩‍👩‍👧 🇪🇺 é e\u0301",
    "\x00\x7f\u200b\ufeff",
    "don't katodi badidi",
    tokenizer.ASSISTANT,
)


@pytest.mark.parametrize("text", HARD)
def test_hard_text_round_trips(text: str) -> None:
    """What is encoded decodes to the same text."""
    encoded = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(encoded.ids, skip_special_tokens=False) == text


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    """No character is lost, whatever the text."""
    encoded = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(encoded.ids, skip_special_tokens=False) == text


def test_each_word_is_one_token() -> None:
    """The text of a word, with the space before it, encodes to that word's own id."""
    for number, word in zip(tokenizer.WORDS, tokenizer.words(), strict=True):
        assert TOKENIZER.encode(" " + word.replace(".", ""), add_special_tokens=False).ids == [number]


def test_there_are_as_many_tokens_as_the_model_has_rows() -> None:
    """The model cannot produce an id that the tokenizer does not know."""
    assert TOKENIZER.get_vocab_size() == tokenizer.SIZE == 1345
    assert len(tokenizer.WORDS) == 1024


def test_plain_text_begins_with_the_bos_token() -> None:
    """A completion prompt gets the one special token that DeepSeek-V3 puts before it."""
    assert TOKENIZER.encode("a").tokens == [tokenizer.BOS, "a"]


def test_the_chat_template_renders_a_conversation() -> None:
    """System, user and assistant turns, then the tag after which the model speaks."""
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " kato"},
        {"role": "user", "content": "More"},
    ]
    template = Environment(autoescape=False).from_string(tokenizer.CHAT_TEMPLATE)  # noqa: S701  (a prompt is no HTML)
    text = template.render(
        messages=messages, add_generation_prompt=True, bos_token=tokenizer.BOS, eos_token=tokenizer.EOS
    )
    assert text == (
        "<｜begin▁of▁sentence｜>Be kind.<｜User｜>Hi"  # noqa: RUF001
        "<｜Assistant｜> kato<｜end▁of▁sentence｜><｜User｜>More<｜Assistant｜>"  # noqa: RUF001
    )
