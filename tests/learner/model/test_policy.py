"""The policy's log-probs, KL and adapters, against dense arithmetic on a tiny model."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from data.base_models import import_base_model
from data.errors import AdapterMismatch, ModelUnavailable
from data.records import BaseModel
from learner.model.batches import Example, padded_batches, plan_steps, shuffled
from learner.model.head import TILE, completion_scores, expectations
from learner.model.policy import Policy
from learner.training.anchor import choose_anchor, logprob_pass, reference_pass
from tests.support.tiny import write_tiny_gguf

EXAMPLES = [Example(0, (5, 6, 7), (8, 9, 2), 0.8), Example(1, (10, 11, 12, 13, 14), (15, 16, 17, 18, 2), 1.3), Example(2, (20,), (21,), 1.0)]


@pytest.fixture
def policy(tiny_base) -> Policy:
    return Policy(tiny_base, rank=4, seed=0, dtype=torch.float32, device="cpu")


def disturb(policy: Policy, size: float = 0.05) -> None:
    """An adapter that does something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)


def dense(policy: Policy, example: Example) -> torch.Tensor:
    """(completion length, V) log-probs by the model's own forward pass, one reply alone, no padding."""
    ids = torch.tensor([example.prompt_ids + example.completion_ids])
    logits = policy.model(input_ids=ids).logits[0].float() / example.temperature
    return torch.log_softmax(logits, dim=-1)[len(example.prompt_ids) - 1:-1]


def test_logprobs_are_those_of_the_plain_model_at_each_replys_temperature(policy):
    disturb(policy)
    scores = policy.scores(policy.batch(EXAMPLES))
    for row, example in zip(scores.logprobs, EXAMPLES, strict=True):
        expected = dense(policy, example).gather(1, torch.tensor(example.completion_ids)[:, None])[:, 0]
        assert torch.allclose(row[:len(expected)], expected, atol=1e-4)
        assert row[len(expected):].abs().sum() == 0                  # padding says nothing


def test_kl_is_the_full_vocabulary_kl_from_base_to_policy_on_anchored_replies_only(policy):
    disturb(policy)
    anchored = frozenset({0, 1})
    reference = reference_pass(policy, [EXAMPLES], anchored, lambda: None)
    expected = 0.0
    for example in EXAMPLES[:2]:
        p = dense(policy, example)
        with policy.reference():
            q = dense(policy, example)
        expected += float((q.exp() * (q - p)).sum().detach())
    scores = policy.scores(policy.batch(EXAMPLES), reference.expected)
    assert scores.kl_tokens == 8 and float(scores.kl_sum.detach()) == pytest.approx(expected, abs=1e-3) and expected > 0.01


def test_the_fused_head_gives_the_dense_formulas_numbers_and_gradients():
    generator = torch.Generator().manual_seed(0)
    hidden, weight, reference = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((300, 8), (4000, 8), (300, 8)))
    targets, temperatures = torch.randint(0, 4000, (300,), generator=generator), torch.rand(300, generator=generator, dtype=torch.float64) + 0.5
    upstream = torch.randn(2, 300, generator=generator)

    def gradient(scores) -> torch.Tensor:
        leaf = hidden.clone().requires_grad_()
        logprobs, kl = scores(leaf)
        (logprobs * upstream[0]).sum().add((kl * upstream[1]).sum()).backward()
        return leaf.grad

    def by_hand(leaf):
        p = torch.log_softmax(leaf @ weight.T / temperatures[:, None], dim=-1)
        q = torch.log_softmax(reference @ weight.T / temperatures[:, None], dim=-1)
        return p.gather(1, targets[:, None])[:, 0], (q.exp() * (q - p)).sum(dim=-1)

    def fused(leaf):
        return completion_scores(leaf, weight, targets, temperatures, expectations(reference, weight, targets, temperatures)[1])

    assert TILE // len(hidden) < len(weight) / 2                      # several tiles, the last one narrower
    for value, dense in zip(fused(hidden), by_hand(hidden), strict=True):
        assert torch.allclose(value.double(), dense, atol=1e-5)       # wide parts are fp32
    assert torch.allclose(gradient(fused), gradient(by_hand), atol=1e-5)


def test_in_bf16_the_fused_head_is_as_near_as_bf16_goes_and_a_policy_that_is_the_base_model_is_not_moved():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((300, 64), (4000, 64)))
    targets, temperatures = torch.randint(0, 4000, (300,), generator=generator), torch.full((300,), 0.8)
    leaf = hidden.clone().requires_grad_()
    as_base, expected = expectations(hidden, weight, targets, temperatures)
    logprobs, kl = completion_scores(leaf, weight, targets, temperatures, expected)
    assert torch.equal(as_base, logprobs)
    assert float(kl.detach().abs().max()) < 1e-5 and not torch.autograd.grad(kl.sum(), leaf, retain_graph=True)[0].any()
    dense = hidden.float().requires_grad_()
    expected = torch.log_softmax(dense @ weight.float().T / 0.8, dim=-1).gather(1, targets[:, None])[:, 0]
    assert torch.allclose(logprobs, expected, atol=0.15)                              # logits of up to 40, to 8 bits
    found, exact = (torch.autograd.grad(value.sum(), at)[0].float() for value, at in ((logprobs, leaf), (expected, dense)))
    assert float((found - exact).norm() / exact.norm()) < 0.02


def test_a_new_adapter_is_the_base_model_and_the_base_model_stays_there_underneath(policy):
    before = policy.scores(policy.batch(EXAMPLES)).logprobs.detach()
    with policy.reference():
        assert torch.equal(policy.scores(policy.batch(EXAMPLES)).logprobs, before)
    disturb(policy)
    assert not torch.allclose(policy.scores(policy.batch(EXAMPLES)).logprobs, before, atol=1e-3)
    with policy.reference():
        assert torch.equal(policy.scores(policy.batch(EXAMPLES)).logprobs, before)


def test_a_saved_adapter_behaves_as_it_did_and_training_goes_on_where_it_was(policy, tmp_path):
    disturb(policy)
    policy.save(tmp_path / "one")
    as_saved = policy.scores(policy.batch(EXAMPLES)).logprobs.detach()
    disturb(policy)
    as_trained = policy.scores(policy.batch(EXAMPLES)).logprobs.detach()
    with policy.behaving_as(tmp_path / "one"):
        assert torch.allclose(policy.scores(policy.batch(EXAMPLES)).logprobs, as_saved, atol=1e-5)
    assert torch.equal(policy.scores(policy.batch(EXAMPLES)).logprobs, as_trained)
    assert policy.parameters() and all(parameter.requires_grad for parameter in policy.parameters())


def test_the_same_weights_are_saved_as_the_same_bytes_without_this_machines_paths(policy, tmp_path):
    policy.save(tmp_path / "one")
    policy.save(tmp_path / "two")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert str(policy.base.folder) not in (tmp_path / "one" / "adapter_config.json").read_text()


def test_an_adapter_of_another_base_model_is_refused_in_one_sentence(policy, tmp_path):
    other = import_base_model(str(write_tiny_gguf(tmp_path / "Other.gguf", seed=5, hidden=32)), tmp_path / "models")
    Policy(other, rank=4, device="cpu").save(tmp_path / "other")
    with pytest.raises(AdapterMismatch, match="--fresh"):
        with policy.behaving_as(tmp_path / "other"):
            pass
    policy.scores(policy.batch(EXAMPLES)).logprobs.sum().backward()    # and the policy still trains
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in policy.parameters())


def test_scaling_an_adapter_to_nothing_gives_the_base_model_and_back(policy):
    disturb(policy)
    full, trained = policy.lora_b(), policy.scores(policy.batch(EXAMPLES)).logprobs.detach()
    policy.set_scale(0.0, full)
    with policy.reference():
        base = policy.scores(policy.batch(EXAMPLES)).logprobs
    assert torch.allclose(policy.scores(policy.batch(EXAMPLES)).logprobs, base, atol=1e-5)
    policy.set_scale(1.0, full)
    assert torch.equal(policy.scores(policy.batch(EXAMPLES)).logprobs, trained)


def test_the_seed_decides_the_adapter(tiny_base):
    one, same, other = (Policy(tiny_base, seed=seed, device="cpu").parameters() for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_only_lora_weights_train_and_they_are_fp32_whatever_the_base_is(tiny_base):
    policy = Policy(tiny_base, dtype=torch.bfloat16, device="cpu")
    trainable = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    assert {id(p) for p in trainable} == {id(p) for p in policy.parameters()}
    assert {p.dtype for p in trainable} == {torch.float32}
    assert len(trainable) == 2 * 7 * 2                               # A and B, seven linears, two layers


def test_a_missing_model_file_is_told_in_one_sentence(tiny_base, tmp_path):
    gone = BaseModel(**{**tiny_base.__dict__, "folder": tmp_path, "gguf": tmp_path / "gone.gguf"})
    with pytest.raises(ModelUnavailable, match="cannot read the base model"):
        Policy(gone, device="cpu")


def test_a_long_reply_takes_the_attention_that_fits_in_memory_and_says_the_same(policy, monkeypatch):
    disturb(policy)
    eager = policy.scores(policy.batch(EXAMPLES)).logprobs
    fused = []
    monkeypatch.setattr("learner.model.attention.sdpa_attention_forward", lambda *rest, **options: fused.append(1) or sdpa_attention_forward(*rest, **options))
    monkeypatch.setattr("learner.model.attention.NARROW", 4)
    assert torch.allclose(policy.scores(policy.batch(EXAMPLES)).logprobs, eager, atol=1e-4)
    assert len(fused) == 2 * 2                                          # two of the replies are that long, and the tiny model has two layers


def test_steps_and_padded_batches_hold_every_reply_once_and_none_of_these_is_too_wide():
    examples = [Example(i, (1,) * (1 + i % 7), (2,) * (1 + (i * 13) % 40), 1.0) for i in range(53)]
    steps, split = plan_steps(examples, batch_size=8), padded_batches(examples, 100, lanes=2)
    for parts in (steps, split):
        assert sorted(example.index for part in parts for example in part) == list(range(53))
    assert [len(step) for step in steps] == [8, 8, 8, 8, 8, 8, 5]
    assert [len(step) for step in plan_steps(examples, batch_size=3)] == [3] * 17 + [2] and [len(step) for step in plan_steps(examples, batch_size=1)] == [1] * 53
    assert all(len(micro) * max(e.tokens for e in micro) <= 50 or len(micro) == 1 for micro in split)
    assert shuffled(steps, 3) == shuffled(steps, 3) != shuffled(steps, 4)


def test_the_anchor_prefers_replies_of_the_base_model_and_stays_within_its_limit():
    assert choose_anchor(range(4), [True, False, True, False], 2, 0) == {0, 2}
    assert choose_anchor(range(4), [False] * 4, 10, 0) == {0, 1, 2, 3}
    assert choose_anchor(range(200), [index < 40 for index in range(200)], 100, 0) == set(range(40))
    chosen = choose_anchor(range(100), [True] * 100, 10, 0)
    assert len(chosen) == 10 and chosen == choose_anchor(range(100), [True] * 100, 10, 0)


def test_one_reply_of_the_base_model_does_not_make_an_anchor_alone():
    chosen = choose_anchor(range(200), [index == 7 for index in range(200)], 256, 0)
    assert len(chosen) == 32 and 7 in chosen


def test_the_reference_pass_and_the_policy_agree_while_the_adapter_is_new(policy):
    reference = reference_pass(policy, policy.micro_batches(EXAMPLES, 100), frozenset({0, 1, 2}), lambda: None)
    logprobs, kl = logprob_pass(policy, policy.micro_batches(EXAMPLES, 100), lambda: None, reference)
    assert kl == pytest.approx(0.0, abs=1e-6)
    assert all(torch.equal(logprobs[index], reference.logprobs[index]) for index in range(3))
