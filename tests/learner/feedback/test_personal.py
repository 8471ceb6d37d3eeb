"""Tokens that spell personal data are never learnt; the others are, as ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from learner.config import LearnerConfig
from learner.feedback.personal import without_personal_data
from learner.model.batches import Example, make_batch
from learner.model.policy import Policy
from learner.runs.run import train
from learner.training.anchor import reference_pass
from learner.training.estimator import policy_gradient_loss
from learner.training.steps import Signals, train_steps
from tests.support.conversations import RATER, add_reply, open_store

CONFIG = LearnerConfig(lora_rank=4)


def marked(tokenizer: ChatTokenizer, text: str) -> Example:
    example, = without_personal_data([Example(0, (1,), tuple(tokenizer.encode(text)), 1.0)], tokenizer)
    return example


@pytest.mark.real
@pytest.mark.parametrize("text, rest", [
    ("Write to zhang.wei88@example.co.uk, please.", "Write to, please."),              # the space is in the address's first token
    ("邮箱：zhang@example.cn谢谢😀", "邮箱：谢谢😀"),                                    # characters cut over several tokens
    ("手机：138-0013-8000，卡号4111 1111 1111 1111。", "手机：，卡号。"),
    ("Nothing here, in 2024-05-17 or 3.14159265.", "Nothing here, in 2024-05-17 or 3.14159265."),
])
def test_all_tokens_of_personal_data_are_left_out_and_no_other(real_base, text, rest):
    tokenizer = ChatTokenizer(real_base.folder)
    example = marked(tokenizer, text)
    kept = [token for place, token in enumerate(example.completion_ids) if place not in example.left_out]
    assert tokenizer.decode(kept) == rest
    assert tokenizer.decode(example.completion_ids) == text                            # what is conditioned on is whole


def test_a_reply_that_is_personal_throughout_is_dropped(tiny_base):
    tokenizer = ChatTokenizer(tiny_base.folder)
    assert without_personal_data([Example(0, (1,), tuple(tokenizer.encode("ann@example.com")), 1.0)], tokenizer) == []


def test_a_left_out_token_gets_no_gradient_and_does_not_count_in_the_ratio():
    batch = make_batch([Example(0, (1, 2), (5, 6, 7), 1.0, frozenset({1}))])
    assert batch.completion_mask.tolist() == [[True, True, True]] and batch.learnt_mask.tolist() == [[True, False, True]]
    logprobs = torch.tensor([[-1.0, -2.0, -1.0]], requires_grad=True)
    behavior = torch.tensor([[-1.0, -7.0, -0.5]])
    parts = policy_gradient_loss(logprobs, behavior, logprobs.detach(), torch.tensor([0.8]), torch.ones(1), batch.learnt_mask,
                                 trust_region=0.2, max_length=4, batch_size=1)
    parts.loss.backward()
    assert logprobs.grad[0].tolist() == pytest.approx([-0.2, 0.0, -0.2])               # -w A / L_max
    assert float(parts.ratio) == pytest.approx(0.6065, abs=1e-4)                        # exp(-0.5); the second token would make it exp(4.5)


def test_a_left_out_ending_trains_exactly_as_if_the_reply_had_stopped_before_it(tiny_base):
    def adapter(example: Example) -> list[torch.Tensor]:
        policy = Policy(tiny_base, rank=4, dtype=torch.float32)
        plan = [[example, Example(1, (9, 8), (30, 31, 32, 33, 34), 1.0)]]
        reference = reference_pass(policy, plan, frozenset(), lambda: None)
        signals = Signals(torch.ones(2), torch.ones(2), torch.tensor([1.0, -0.5]))
        train_steps(policy, plan, signals, reference, reference.logprobs, replace(CONFIG, kl_coefficient=0.0), lambda figures: None)
        return [parameter.detach() for parameter in policy.parameters()]

    whole = Example(0, (9, 8), (20, 21, 22, 23), 1.0)
    left_out, stopped = adapter(replace(whole, left_out=frozenset({2, 3}))), adapter(replace(whole, completion_ids=(20, 21)))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(left_out, stopped, strict=True))
    assert not all(torch.allclose(a, b, atol=1e-5) for a, b in zip(left_out, adapter(whole), strict=True))


def test_a_run_says_how_much_it_left_out(tmp_path, tiny_base):
    store, tokenizer = open_store(tmp_path), ChatTokenizer(tiny_base.folder)
    for number, text in enumerate(("Write ann@example.com now", "Write to nobody", "ann@example.com")):
        reply = add_reply(store, tiny_base, f"question {number}", tokenizer.encode(text))
        store.add_rating(reply.id, RATER, "thumb", 1)
    store.add_correction(add_reply(store, tiny_base, "question 3", tokenizer.encode("Write")).id, RATER, "Write bob@example.com")
    data = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, CONFIG, trigger="shell").report["data"]
    assert (data["replies"], data["corrections"], data["replies_with_personal_data"], data["left_out_all_personal"]) == (3, 1, 2, 1)      # "Write" itself is a reply too
    assert data["personal_tokens_left_out"] == 14 + 15              # " an", "n" and 12 letters from the @ on; "b", "o", "b" and as many
    assert data["left_out_too_long"] == 0
