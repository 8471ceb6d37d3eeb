"""Personal data is found whole, and ordinary numbers are left alone."""

from __future__ import annotations

import time

import pytest

from data.texts.masking import Span, mask, personal_spans
from tests.support.personal_texts import CARDS, EMAILS, NEAR_MISSES, PHONES


@pytest.mark.parametrize("kind, texts", [("e-mail", EMAILS), ("phone", PHONES), ("card", CARDS)])
def test_every_piece_is_found_whole_and_named_by_its_kind(kind, texts):
    for text, pieces in texts:
        spans = personal_spans(text)
        assert [span.kind for span in spans] == [kind] * len(pieces), text
        for piece, span in zip(pieces, spans, strict=True):
            start = text.index(piece)
            assert span.start <= start and start + len(piece) <= span.end, text


def test_dates_prices_versions_and_long_numbers_are_left_alone():
    # the two ordinary numbers are written exactly like a phone number in Dallas, the third like one in Germany
    assert [text for text in NEAR_MISSES if personal_spans(text)] == ["2147483647", "ZIP 02139-4307", "2147483648"]


def test_a_masked_text_keeps_everything_else():
    assert mask("Ann: ann@example.com, (202) 555-0123, card 4111 1111 1111 1111, born 1999-12-31.") == \
        "Ann: [e-mail], [phone], card [card], born 1999-12-31."
    assert mask("邮箱zhang@example.cn，手机13800138000。") == "邮箱[e-mail]，手机[phone]。"
    assert mask("") == "" and mask("nothing here") == "nothing here"
    assert personal_spans("13800138000@139.com") == [Span(0, 19, "e-mail")]          # and not a phone number as well


def test_no_text_takes_it_long():
    started = time.perf_counter()
    for text in ("a" * 20_000, "a." * 10_000 + "@", "a@" + "b." * 10_000, "-" * 20_000):
        assert personal_spans(text) == []
    assert time.perf_counter() - started < 1
