"""Both engines serve the real model with the log-probs that the learner computes."""

from __future__ import annotations

import pytest

from chat_app.engines import make_engine
from data.base_models.tokenizer import ChatTokenizer
from data.records import Message, Sampling
from tests.support.engine_fixtures import ENGINES, finish, mean_distance
from tests.support.random_adapter import write_random_adapter


@pytest.mark.real
def test_served_logprobs_agree_with_the_learners_of_the_real_model(real_base, tmp_path):
    """Both engines as they are served, the policy as it trains, a random adapter that visibly changes the model: 0.1 nat a token at most."""
    from learner.model.batches import Example
    from learner.model.policy import Policy
    from learner.training.anchor import logprob_pass

    tokenizer = ChatTokenizer(real_base.folder)
    asked = ("Tell me a joke about rain.", "我今天很累，你呢？")
    prompts = [tuple(tokenizer.render([Message("user", text)])) for text in asked]
    adapter = tmp_path / "v1"
    adapter.mkdir()
    write_random_adapter(real_base, adapter, seed=0, scale=0.012)
    policy = Policy(real_base)
    for name in ENGINES:
        engine = make_engine(name, real_base, tmp_path / "cache")
        engine.load(1, adapter)
        streams = [engine.stream(prompt, Sampling(max_new_tokens=16, seed=at), 1) for at, prompt in enumerate(prompts)]
        results = [finish(stream) for stream in streams]
        engine.close()
        replies = policy.micro_batches([Example(at, prompts[at], result.completion_ids, result.logprobs_temperature) for at, result in enumerate(results)], 4096)
        with policy.behaving_as(adapter):
            learners, _ = logprob_pass(policy, replies, lambda: None)
        with policy.reference():
            bases, _ = logprob_pass(policy, replies, lambda: None)
        served = [value for result in results for value in result.logprobs]
        apart, from_base = (mean_distance(served, [value for at in range(len(prompts)) for value in rows[at].tolist()]) for rows in (learners, bases))
        print(f"{name}: {apart:.3f} nat a token apart, {from_base:.3f} from the base")
        assert len(served) > 16 and apart < 0.1 and from_base > 2 * apart
