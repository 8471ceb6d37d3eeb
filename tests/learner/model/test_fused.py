"""The ways to compute that take fewer passes over memory, against the architecture's own and peft's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import Lfm2Config, Lfm2ForCausalLM

from learner.model.attention import BY_WIDTH
from learner.model.batches import Example, make_batch, shares
from learner.model.fused import fuse
from learner.model.policy import Policy
from tests.support.policies import policy_that_learnt_something

EXAMPLES = [Example(0, (1, 5, 9), (7, 3, 2), 1.0), Example(1, (1, 5), (8, 4, 6, 10, 2), 0.7), Example(2, (1, 9, 9, 4, 4, 3), (2,), 1.0)]


@pytest.fixture
def policy(tiny_base):
    return policy_that_learnt_something(tiny_base)


def as_they_come(policy):
    """The same policy, every module by its own class's forward."""
    own = [module for module in policy.model.modules() if "forward" in vars(module)]
    for module in own:
        del module.forward
    policy.model.config._attn_implementation = "eager"
    return own


def said_and_learnt(policy, in_one_row=True):
    logprobs = policy.scores(make_batch(EXAMPLES, in_one_row=in_one_row)).logprobs
    return logprobs, torch.autograd.grad((logprobs * torch.linspace(-1, 1, logprobs.numel()).view_as(logprobs)).sum(), policy.parameters())


def test_log_probs_and_gradients_are_those_of_the_plain_modules(policy, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("transformers.models.llama.modeling_llama.eager_attention_forward", None)
        ours = said_and_learnt(policy)
    replaced = as_they_come(policy)
    plain = said_and_learnt(policy, in_one_row=False)
    assert len(replaced) == 2 * 7 + 2 * 2 + 1                          # two layers of seven linears and two norms, and the last norm
    assert torch.allclose(ours[0], plain[0], atol=1e-5)
    for of_ours, of_plain in zip(ours[1], plain[1], strict=True):
        assert float(of_plain.norm()) > 0
        assert torch.allclose(of_ours, of_plain, rtol=1e-3, atol=1e-5 * float(of_plain.norm()))


def test_replies_in_one_row_and_padded_replies_are_told_the_same(policy):
    one_row, padded = (said_and_learnt(policy, in_one_row) for in_one_row in (True, False))
    assert policy.in_one_row and torch.allclose(one_row[0], padded[0], atol=1e-5)
    for of_one_row, of_padded in zip(one_row[1], padded[1], strict=True):
        assert torch.allclose(of_one_row, of_padded, rtol=1e-3, atol=1e-5 * float(of_padded.norm()))


def test_a_model_whose_layers_look_back_by_themselves_is_given_padded_replies(tiny_base, monkeypatch):
    config = Lfm2Config(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                        layer_types=["conv", "full_attention"], max_position_embeddings=256)
    torch.manual_seed(0)
    model = Lfm2ForCausalLM._from_config(config, attn_implementation=BY_WIDTH).requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(5)                                                  # a new model's convolutions hardly do anything
    monkeypatch.setattr("learner.model.policy._load_base", lambda *_: model)
    policy = Policy(tiny_base, dtype=torch.float32, device="cpu")
    assert not policy.in_one_row
    together = policy.scores(policy.batch(EXAMPLES)).logprobs
    for row, example in zip(together, EXAMPLES, strict=True):
        assert torch.allclose(row[:len(example.completion_ids)], policy.scores(policy.batch([example])).logprobs[0], atol=1e-5)


def test_in_bf16_they_are_no_farther_from_single_precision_than_the_plain_modules(tiny_base, policy):
    exact = said_and_learnt(policy)
    narrow = Policy(tiny_base, dtype=torch.bfloat16, device="cpu")
    narrow.set_weights(policy.weights())
    ours = said_and_learnt(narrow)
    as_they_come(narrow)
    with torch.autocast("cpu", torch.bfloat16):
        plain = said_and_learnt(narrow)

    def apart(found):
        return float((found[0] - exact[0]).detach().abs().mean()), sum(float((a - b).detach().norm()) for a, b in zip(found[1], exact[1], strict=True))

    for of_ours, of_plain in zip(apart(ours), apart(plain), strict=True):
        assert of_ours < 1.3 * of_plain


def test_the_base_model_and_a_version_compute_through_them_too(policy, tmp_path):
    policy.save(tmp_path)
    with torch.no_grad():
        ours = policy.scores(policy.batch(EXAMPLES)).logprobs
        with policy.reference():
            base = policy.scores(policy.batch(EXAMPLES)).logprobs
        for parameter in policy.parameters():
            parameter.zero_()
        assert torch.allclose(policy.scores(policy.batch(EXAMPLES)).logprobs, base, atol=1e-6)
        with policy.behaving_as(tmp_path):
            assert torch.equal(policy.scores(policy.batch(EXAMPLES)).logprobs, ours)
    assert float((ours - base).abs().mean()) > 0.01


def test_a_norm_that_computes_something_else_stays_as_it_is():
    class OffsetRMSNorm(nn.Module):                                     # as Gemma's
        def __init__(self):
            super().__init__()
            self.weight, self.variance_epsilon = nn.Parameter(torch.zeros(8)), 1e-6

        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon) * (1 + self.weight)

    norm = OffsetRMSNorm()
    fuse(norm)
    assert "forward" not in vars(norm)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(2, 4), st.integers(100, 4000))
def test_shares_of_a_step_hold_every_reply_once_and_none_is_much_heavier(lengths, lanes, limit):
    examples = [Example(index, (1,), (2,) * length, 1.0) for index, length in enumerate(lengths)]
    found = shares(examples, lanes, limit)
    assert sorted(example.index for share in found for example in share) == list(range(len(lengths))) and all(found)
    tokens = [sum(example.tokens for example in share) for share in found]
    longest = max(example.tokens for example in examples)
    assert max(tokens) <= sum(tokens) / len(tokens) + longest
    assert len(found) == len(lengths) or len(found) % lanes == 0
    assert sum(sorted(tokens)[-lanes:]) <= limit + lanes * longest
