from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_app.prompts import answer_of, check_message, fit_prompt
from data.base_models.tokenizer import ChatTokenizer
from data.errors import EmptyMessage, MessageTooLong
from data.records import Message, Reply, Sampling, Turn


def reply(text: str, attempt: int = 0, state: str = "done") -> Reply:
    return Reply(id=f"r{attempt}", turn_id="t", conversation_id="c", rater_id="me", attempt=attempt, state=state, text=text, version=0,
                 adapter_sha256=None, base_model="base", engine="openvino", sampling=Sampling(), prompt_ids=(), completion_ids=(),
                 behavior_logprobs=(), logprobs_temperature=1.0, finish_reason="stop", dropped_turns=0, started_at="", first_token_seconds=None, seconds=None)


def turn(message: str, *replies: Reply) -> Turn:
    return Turn("t", "c", 0, message, "", replies)


@pytest.fixture(scope="module")
def tokenizer(tiny_base) -> ChatTokenizer:
    return ChatTokenizer(tiny_base.folder)


def test_a_message_loses_only_the_white_space_around_it():
    assert check_message("  two\n words \n", 20) == "two\n words"


@pytest.mark.parametrize("text", ["", "   \n\t ", None])
def test_an_empty_message_is_refused(text):
    with pytest.raises(EmptyMessage):
        check_message(text, 20)


def test_what_is_no_text_is_refused_as_that():
    with pytest.raises(EmptyMessage, match=r"must be text; what came is of another kind \(int\)"):
        check_message(5, 10)


def test_a_message_over_the_limit_is_refused_with_both_numbers():
    with pytest.raises(MessageTooLong, match="100,000 characters and the limit is 20,000"):
        check_message("x" * 100_000, 20_000)


def test_the_conversation_goes_on_from_the_newest_finished_attempt():
    assert answer_of(turn("q", reply("first"), reply("second", 1), reply("broken", 2, "failed"))) == "second"
    assert answer_of(turn("q", reply("", state="failed"))) == ""


def test_the_chosen_attempt_is_gone_on_from_and_what_was_written_aside_only_when_it_is_the_chosen_one():
    both = turn("q", reply("first"), replace(reply("beside", 1), aside=True))
    assert [answer_of(replace(both, answer_id=chosen)) for chosen in (None, "r0", "r1", "r9")] == ["first", "first", "beside", "first"]


def test_a_short_conversation_is_rendered_whole_in_order(tokenizer):
    prompt = fit_prompt([turn("one", reply("ONE"))], "two", tokenizer, context_length=10_000, max_new_tokens=5, system_prompt="Be brief.")
    assert prompt.dropped_turns == 0
    assert list(prompt.ids) == tokenizer.render([Message("system", "Be brief."), Message("user", "one"), Message("assistant", "ONE"), Message("user", "two")])


def test_a_turn_whose_reply_failed_is_left_out_without_counting_as_dropped(tokenizer):
    prompt = fit_prompt([turn("lost", reply("half", state="failed"))], "two", tokenizer, context_length=10_000, max_new_tokens=5)
    assert prompt.dropped_turns == 0 and list(prompt.ids) == tokenizer.render([Message("user", "two")])


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(1, 60), max_size=6), context=st.integers(120, 400), new=st.integers(1, 500))
def test_prompt_and_reply_always_fit_and_only_the_oldest_turns_leave(tokenizer, lengths, context, new):
    earlier = [turn(f"q{n}" + "x" * length, reply(f"a{n}")) for n, length in enumerate(lengths)]
    prompt = fit_prompt(earlier, "last", tokenizer, context_length=context, max_new_tokens=new)
    assert len(prompt.ids) + min(new, context // 2) <= context and prompt.room == context - len(prompt.ids)
    text = tokenizer.decode(prompt.ids)
    assert [f"q{n}x" in text for n in range(len(lengths))] == [n >= prompt.dropped_turns for n in range(len(lengths))]


def fit_one_by_one(earlier, message, tokenizer, context, new):
    """One turn after the other left out, until what is left fits: its ids and how many that were, or how long the message alone is."""
    for dropped in range(len(earlier) + 1):
        kept = [Message(role, text) for turn in earlier[dropped:] for role, text in (("user", turn.message), ("assistant", answer_of(turn)))]
        ids = tokenizer.render([*kept, Message("user", message)])
        if len(ids) + min(new, context // 2) <= context:
            return tuple(ids), dropped
    return len(ids)


@settings(max_examples=100)
@given(texts=st.lists(st.tuples(st.text(max_size=40), st.text("ab <|im_end|>\n你", min_size=1, max_size=60)), max_size=12), message=st.text(min_size=1, max_size=80),
       context=st.integers(40, 600), new=st.integers(1, 300))
def test_as_many_turns_leave_as_when_they_are_left_out_one_by_one(tokenizer, texts, message, context, new):
    earlier = [turn(question, reply(answer)) for question, answer in texts]
    expected = fit_one_by_one(earlier, message, tokenizer, context, new)
    try:
        prompt = fit_prompt(earlier, message, tokenizer, context_length=context, max_new_tokens=new)
        assert (prompt.ids, prompt.dropped_turns, prompt.room) == (*expected, context - len(prompt.ids))
    except MessageTooLong as error:
        assert error.said["tokens"] == expected


def test_a_long_conversation_is_rendered_a_few_times_and_not_once_a_turn(tokenizer):
    rendered = []

    class Counting:
        def render(self, messages):
            rendered.append(len(messages))
            return tokenizer.render(messages)

    prompt = fit_prompt([turn(f"q{n}", reply(f"a{n}")) for n in range(240)], "last", Counting(), context_length=400, max_new_tokens=100)
    assert prompt.dropped_turns > 200 and len(rendered) <= 9 and sum(rendered) < 3 * 480


def test_a_message_that_alone_fills_the_context_is_refused(tokenizer):
    with pytest.raises(MessageTooLong, match="the model can read"):
        fit_prompt([], "word " * 400, tokenizer, context_length=300, max_new_tokens=100)
