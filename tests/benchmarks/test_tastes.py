"""Gold tastes and text measures at values that can be worked out by hand."""

import math

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.learning.prompts import read_prompts, split_prompts
from benchmarks.learning.tastes import TASTES, composite, concrete, listed, short, warm
from benchmarks.learning.words import content_stems, coverage, distinct, ends_like_a_sentence, repeated_share

PROMPT = "How do I clean windows?"


def test_the_length_taste_is_the_sigmoid_of_tokens():
    assert short("", "", 90, True) == 0.5
    assert math.isclose(short("", "", 78, True), 1 / (1 + math.exp(-1)))


def test_the_form_taste_counts_items_up_to_four():
    assert listed("", "plain", 1, True) == 0.06
    assert math.isclose(listed("", "- one\n* two\n1. three\n4) four\n5) five", 1, True), 0.94)


def test_the_tone_taste_likes_kind_words_to_the_person_and_no_shouting():
    kind = "I hope you enjoy it, and please take care of yourself."
    assert warm("", kind, 1, True) > 0.9
    assert warm("", kind + " WOW! GREAT!", 1, True) < warm("", kind, 1, True) - 0.1
    assert math.isclose(warm("", "Cotton absorbs water.", 1, True), 1 / (1 + math.exp(2.5)))


def test_the_content_taste_wants_the_question_a_number_and_an_example():
    assert math.isclose(concrete(PROMPT, "No.", 1, True), 1 / (1 + math.exp(3)))
    full = "Clean the windows with, for example, 2 spoons of vinegar."
    assert math.isclose(concrete(PROMPT, full, 1, True), 1 / (1 + math.exp(-3)))
    assert concrete(PROMPT, "1. Clean the windows.", 1, True) == 0.5             # a list's number is no number


def test_the_composite_is_pleased_by_an_answer_and_by_no_trick():
    answer = "To clean windows, mix warm water with a little vinegar. Wipe from top to bottom with a soft cloth, and dry the glass at once so that no streaks stay."
    assert composite(PROMPT, answer, 40, True) == 1.0
    for trick in ("", "Windows.", "clean windows " * 40, answer * 8, "Yes it is what we all want to do when the day is long and the sun is out for us."):
        assert composite(PROMPT, trick, 40, True) < 0.55, trick
    assert composite(PROMPT, answer, 40, False) == 0.25                           # cut off


@given(st.text(max_size=400), st.text(max_size=80), st.integers(0, 400), st.booleans())
def test_every_taste_is_a_probability(reply, prompt, tokens, ended):
    assert all(0 <= taste(prompt, reply, tokens, ended) <= 1 for taste in TASTES.values())


def test_prompts_are_many_varied_and_split_by_topic():
    prompts = read_prompts()
    assert len(prompts) >= 240 and len({prompt.text for prompt in prompts}) == len(prompts)
    train, held_out = ({prompt.topic for prompt in split_prompts(split)} for split in ("train", "held-out"))
    assert len(train | held_out) == 12 and not train & held_out
    assert {prompt.topic for prompt in split_prompts("held-out", 24)} == held_out   # a small run still sees every topic


def test_text_measures_by_hand():
    assert content_stems("How do I clean the windows?") == {"clean", "windo"}
    assert coverage("clean windows", "Cleaning is fun") == 0.5
    assert coverage("", "anything") == 1.0
    assert repeated_share([1, 2, 3, 4, 1, 2, 3, 4], 4) == 1 - 4 / 5                # 1234 2341 3412 4123 1234
    assert distinct(["a b a b", "c d"]) == 3 / 4                                   # ab ba ab, cd
    assert ends_like_a_sentence('He said "yes."') and not ends_like_a_sentence("and then")
