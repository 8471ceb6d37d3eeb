"""Replies in one row, with what their prompts share in it once, against each of them alone."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learner.model.batches import Example, make_batch, padded_batches
from learner.model.rows import Row, groups_for_rows, in_a_row
from tests.support.policies import policy_that_learnt_something

TEMPLATE = (1, 9, 9, 4, 4, 3)
QUESTIONS = {"long": (7, 5, 6, 8, 7, 5), "longer": (7, 5, 6, 8, 7, 5, 11, 12), "other": (10,)}
token = st.integers(3, 12)
tokens = st.lists(token, min_size=1, max_size=9).map(tuple)
prompts = st.one_of(tokens, st.tuples(st.just(TEMPLATE), tokens).map(lambda parts: sum(parts, ())), st.sampled_from([TEMPLATE + question for question in QUESTIONS.values()]))
replies = st.lists(st.tuples(prompts, tokens), min_size=1, max_size=9).map(
    lambda pairs: [Example(index, prompt, completion, 1.0) for index, (prompt, completion) in enumerate(pairs)])


@pytest.fixture(scope="module")
def policy(tiny_base):
    return policy_that_learnt_something(tiny_base)


def read_back(row: Row, number: int) -> tuple[int, ...]:
    """All that the last token of the row's span `number` sees, in order, itself included."""
    span = row.spans[number]
    return tuple(token for start, end in (*span.before, span.own) for token in row.ids[start:end])


def test_replies_to_one_prompt_have_it_once_and_the_template_is_there_once_for_all():
    prompts = [TEMPLATE + QUESTIONS["long"]] * 3 + [TEMPLATE + QUESTIONS["other"]] * 2
    row = in_a_row([Example(index, prompt, (20 + index, 2), 1.0) for index, prompt in enumerate(prompts)])
    assert len(row.ids) == 6 + 6 + 2 * 1 + 5 * 2                        # one token of the other question is not worth a span of its own
    assert [span.own for span in row.spans if not span.before] == [(0, 6)]
    whole = [TEMPLATE + QUESTIONS["long"] + (20 + index, 2) for index in range(3)]
    assert whole == [read_back(row, number) for number, span in enumerate(row.spans) if len(span.before) == 2]


@given(replies)
def test_every_reply_can_be_read_back_and_its_tokens_are_predicted_one_place_earlier(examples):
    row = in_a_row(examples)
    assert len(row.ids) <= sum(example.tokens for example in examples)
    seen = {place: read_back(row, number)[:place - span.own[0] + span.earlier + 1] for number, span in enumerate(row.spans) for place in range(*span.own)}
    for example, places in zip(examples, row.predicted_at, strict=True):
        assert [seen[place] for place in places] == [example.prompt_ids + example.completion_ids[:said] for said in range(len(example.completion_ids))]
    positions = [position for span in row.spans for position in span.positions()]
    assert positions == [len(seen[place]) - 1 for place in range(len(row.ids))]


@given(replies, st.integers(5, 60))
def test_groups_hold_every_reply_once_and_are_no_larger_than_they_may_be(examples, limit):
    groups = groups_for_rows(examples, limit)
    assert sorted(example.index for group in groups for example in group) == list(range(len(examples)))
    assert all(len(group) == 1 or len(in_a_row(group).ids) <= limit + 3 * (len(group) - 1) for group in groups)      # what is not worth a span is counted as shared


def test_replies_to_one_prompt_come_together_however_they_are_mixed():
    examples = [Example(index, TEMPLATE + QUESTIONS["long" if index % 2 else "other"], (20 + index, 2), 1.0) for index in range(8)]
    groups = groups_for_rows(examples, 21)
    assert [sorted(example.index for example in group) for group in groups] == [[1, 3, 5, 7], [0, 2, 4, 6]]


def test_a_policy_that_takes_rows_is_given_such_groups_and_another_padded_batches(policy, monkeypatch):
    examples = [Example(index, TEMPLATE + QUESTIONS["long" if index % 2 else "other"], (20 + index, 2), 1.0) for index in range(8)]
    assert policy.micro_batches(examples, 21 * policy.lanes) == groups_for_rows(examples, 21)
    monkeypatch.setattr(policy, "in_one_row", False)
    assert policy.micro_batches(examples, 30 * policy.lanes) == padded_batches(examples, 30)


@pytest.mark.parametrize("narrow", [512, 4])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(replies)
def test_log_probs_and_gradients_are_those_of_padded_replies(policy, monkeypatch, narrow, examples):
    monkeypatch.setattr("learner.model.attention.NARROW", narrow)              # beyond it the fused kind computes
    found = []
    for in_one_row in (True, False):
        logprobs = policy.scores(make_batch(examples, in_one_row=in_one_row)).logprobs
        weights = torch.linspace(-1, 1, logprobs.numel()).view_as(logprobs)
        found.append((logprobs, torch.autograd.grad((logprobs * weights).sum(), policy.parameters())))
    (row, of_row), (padded, of_padded) = found
    assert torch.allclose(row, padded, atol=2e-5)
    for one, other in zip(of_row, of_padded, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * max(1.0, float(other.norm())))
