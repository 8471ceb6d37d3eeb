"""Streams of both engines: several at once, token by token, cancelled, and to the end of the text, of the room or of the engine."""

from __future__ import annotations

import random
import threading

import pytest

from data.base_models.tokenizer import ChatTokenizer
from data.errors import MessageTooLong
from data.records import Message, Sampling
from tests.support.engine_fixtures import ENGINES, GREEDY, adapter, engine, exact_engine, finish, prompts, tokenizer, until_it_speaks  # noqa: F401


def test_streams_of_two_versions_at_once_are_what_they_are_alone(engine, prompts):
    jobs = [(prompt, version) for prompt in prompts for version in (0, 1)]
    alone = [finish(engine.stream(prompt, GREEDY, version)).completion_ids for prompt, version in jobs]
    streams = [engine.stream(prompt, GREEDY, version) for prompt, version in jobs]
    together = [None] * len(jobs)

    def read(at):
        together[at] = finish(streams[at]).completion_ids

    threads = [threading.Thread(target=read, args=(at,)) for at in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert together == alone


def test_tokens_arrive_while_the_reply_is_still_being_written(engine, prompts):
    stream = engine.stream(prompts[0], Sampling(max_new_tokens=400), 0)
    until_it_speaks(stream)
    with pytest.raises(RuntimeError, match="before the reply has ended"):
        stream.result()
    stream.cancel()
    for _ in stream:
        pass


def test_cancel_ends_a_reply_soon_and_keeps_what_there_is(engine, prompts):
    stream = engine.stream(prompts[0], Sampling(max_new_tokens=4000), 0)
    rest = until_it_speaks(stream)
    stream.cancel()
    for _ in rest:
        pass
    result = stream.result()
    assert result.finish_reason == "cancelled" and 0 < len(result.completion_ids) < 4000
    stream.cancel()  # harmless when it is over


def test_cancelling_at_once_is_fine_too(engine, prompts):
    streams = [engine.stream(prompts[0], Sampling(max_new_tokens=4000), 0) for _ in range(4)]
    for stream in streams:
        stream.cancel()
    assert {finish(stream).finish_reason for stream in streams} == {"cancelled"}


def test_a_prompt_that_fills_the_context_is_refused_and_a_long_one_leaves_less_room(engine, endless_base):
    with pytest.raises(MessageTooLong, match="Shorten the message"):
        engine.stream([5] * endless_base.context_length, GREEDY, 0)
    long = [random.Random(0).randrange(3, 250) for _ in range(endless_base.context_length - 5)]
    result = finish(engine.stream(long, GREEDY, 0))
    assert result.finish_reason == "length" and len(result.completion_ids) == 5


def test_a_reply_ends_with_the_end_of_text_that_was_sampled(engine, tiny_base, tmp_path):
    tokenizer = ChatTokenizer(tiny_base.folder)
    ending = exact_engine(engine.name, tiny_base, tmp_path)
    ending.load(0, None)
    prompt = tokenizer.render([Message("user", "the end")])
    results = [finish(ending.stream(prompt, Sampling(1.0, 1.0, 0, 200, seed), 0)) for seed in range(8)]
    stopped = [result for result in results if result.finish_reason == "stop"]
    assert stopped  # two of 271 tokens end a reply: 200 tokens without one are rare
    for result in stopped:
        assert result.completion_ids[-1] in tokenizer.eos_ids
        assert not tokenizer.eos_ids & set(result.completion_ids[:-1])
    ending.close()


@pytest.mark.parametrize("name", ENGINES)
def test_closing_cancels_every_reply_and_returns(name, endless_base, tmp_path, prompts):
    engine = exact_engine(name, endless_base, tmp_path)
    engine.load(0, None)
    streams = [engine.stream(prompt, Sampling(max_new_tokens=4000), 0) for prompt in prompts]
    until_it_speaks(streams[0])
    engine.close()
    for stream in streams:
        for _ in stream:
            pass
        assert stream.result().finish_reason == "cancelled"
    assert engine.loaded() == ()
