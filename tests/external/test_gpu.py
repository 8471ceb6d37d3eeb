"""On a GPU the engine and the learner say what they say on a CPU: `pytest -m external tests/external/test_gpu.py`, on a machine that has one."""

from __future__ import annotations

import random

import pytest
import torch

from chat_app.engines import engine_name
from chat_app.engines.transformers import TransformersEngine
from data.base_models.tokenizer import ChatTokenizer
from data.records import Message, Sampling
from learner.config import LearnerConfig
from learner.model.batches import Example, plan_steps
from learner.model.policy import Policy
from learner.training.anchor import logprob_pass, reference_pass
from learner.training.steps import Signals, train_steps
from tests.support.engine_fixtures import GREEDY, finish, mean_distance
from tests.support.random_adapter import write_random_adapter
from tests.whole.test_learning_real import learned  # noqa: F401

pytestmark = [pytest.mark.external, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that this torch can use")]
ASKED = ("Why is the sky blue?", "Name three fruits.", "How do I boil an egg?", "Write a short poem about rain.")


@pytest.fixture(scope="module")
def prompts(real_base):
    tokenizer = ChatTokenizer(real_base.folder)
    return [tuple(tokenizer.render([Message("user", text)])) for text in ASKED]


@pytest.fixture(scope="module")
def adapter(real_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("v1")
    write_random_adapter(real_base, folder, seed=0, scale=0.012)
    return folder


@pytest.fixture(scope="module")
def replies(real_base, adapter, prompts):
    """Sampled on the GPU by the adapter's version, with the engine's log-probs."""
    engine = TransformersEngine(real_base, ChatTokenizer(real_base.folder).eos_ids)
    engine.load(1, adapter)
    streams = [engine.stream(prompt, Sampling(max_new_tokens=80, seed=seed), 1) for seed in range(8) for prompt in prompts]
    found = [finish(stream) for stream in streams]
    engine.close()
    return found


def examples_of(prompts, replies):
    return [Example(place, prompts[place % len(prompts)], reply.completion_ids, 1.0) for place, reply in enumerate(replies)]


def test_auto_takes_the_gpu(real_base):
    assert engine_name("auto", real_base) == "transformers"


def test_served_logprobs_are_those_of_the_learner_on_a_cpu_in_single_precision(real_base, adapter, prompts, replies):
    policy = Policy(real_base, dtype=torch.float32, device="cpu")
    with policy.behaving_as(adapter):
        exact, _ = logprob_pass(policy, [[example] for example in examples_of(prompts, replies)], lambda: None)
    apart = [mean_distance(reply.logprobs, exact[place].tolist()) for place, reply in enumerate(replies)]
    print(f"served on the GPU against the learner on a CPU, nats a token: mean {sum(apart) / len(apart):.4f}, worst reply {max(apart):.4f}")
    assert sum(apart) / len(apart) < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_move_the_adapter_as_they_do_on_a_cpu(dtype, real_base, prompts, replies):
    """The same batches and thumbs: log-probs before, and how each reply's moved, beside single precision on a CPU."""
    examples, dice = examples_of(prompts, replies), random.Random(0)
    thumbs = torch.tensor([dice.choice((-1.0, 1.0)) for _ in examples])
    plan = plan_steps(examples, 8)

    def moved(policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
        visited = policy.micro_batches(examples, 2048)
        reference = reference_pass(policy, visited, frozenset(range(8)), lambda: None)
        train_steps(policy, plan, Signals(thumbs, torch.ones_like(thumbs), thumbs), reference, reference.logprobs,
                    LearnerConfig(epochs=2, min_steps=1), lambda _: None)
        after, _ = logprob_pass(policy, visited, lambda: None)
        before = torch.stack([reference.logprobs[place].mean().cpu() for place in range(len(examples))])
        return before, torch.stack([after[place].mean().cpu() for place in range(len(examples))]) - before

    (before, exact), (here, on_gpu) = moved(Policy(real_base, dtype=torch.float32, device="cpu")), moved(Policy(real_base, dtype=dtype))
    alike = float(torch.corrcoef(torch.stack((exact, on_gpu)))[0, 1])
    print(f"{dtype}: log-probs before {float((here - before).abs().mean()):.5f} nats a token apart; moved by {float(exact.abs().mean()):.3f}, "
          f"{float((on_gpu - exact).abs().mean()):.4f} apart, correlation {alike:.4f}")
    assert float((here - before).abs().mean()) < (1e-4 if dtype == torch.float32 else 0.03)
    assert alike > (0.999 if dtype == torch.float32 else 0.95)


def test_a_version_that_the_learner_made_on_the_gpu_is_served_there(real_base, learned, prompts):  # noqa: F811
    run, registry, seconds = learned
    print(f"a run over 32 thumbs took {seconds:.1f} s")
    assert run.state == "published", run.reason
    engine = TransformersEngine(real_base, ChatTokenizer(real_base.folder).eos_ids)
    engine.load(0, None)
    engine.load(run.version, registry.verify(run.version))
    base, taught = (finish(engine.stream(prompts[0], GREEDY, version)).completion_ids for version in (0, run.version))
    engine.close()
    assert base != taught
