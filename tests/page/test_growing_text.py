"""The text of a reply in the making is at every moment what decoding all of it would give."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from data.base_models.tokenizer import ChatTokenizer, GrowingText


@pytest.fixture(scope="module")
def spaced(tmp_path_factory):
    """A tokenizer in the manner of SentencePiece: words carry their space, the first one's is dropped, bytes stand for themselves."""
    words = ["▁the", "▁", "rain", "▁falls", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<eos>"])
    folder = tmp_path_factory.mktemp("spaced")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "", "eos_token_ids": [4]}))
    return ChatTokenizer(folder)


def agrees(tokenizer: ChatTokenizer, batches: list[list[int]]) -> None:
    text, ids = GrowingText(tokenizer), []
    for batch in batches:
        text.feed(batch)
        ids += batch
        assert text.look() == tokenizer.decode(ids).rstrip("\ufffd")


@given(st.lists(st.lists(st.integers(0, 259), max_size=4), max_size=12))
def test_what_is_shown_is_what_decoding_everything_would_show_whatever_the_bytes(tiny_base, batches):
    agrees(ChatTokenizer(tiny_base.folder), batches)


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, *"a你é🌧"]), max_size=12))
def test_the_space_a_decoder_drops_at_the_beginning_is_dropped_there_alone(spaced, parts):
    agrees(spaced, [[part] if isinstance(part, int) else [5 + byte for byte in part.encode()] for part in parts])


def test_a_character_of_several_tokens_comes_with_its_last(tiny_base):
    tokenizer = ChatTokenizer(tiny_base.folder)
    ids = tokenizer.encode("a你b")
    assert len(ids) == 5                           # three bytes in the middle
    text, shown = GrowingText(tokenizer), []
    for token in ids:
        text.feed([token])
        shown.append(text.look())
    assert shown == ["a", "a", "a", "a你", "a你b"]
