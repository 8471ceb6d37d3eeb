"""Both engines sample from the model's own distribution and say with which log-prob: of the full vocabulary, as a plain forward pass has it."""

from __future__ import annotations

import pytest

from data.base_models import import_base_model
from data.base_models.tokenizer import ChatTokenizer
from data.records import Message, Sampling
from tests.support.engine_fixtures import GREEDY, adapter, engine, exact_engine, finish, mean_distance, prompts, tokenizer  # noqa: F401
from tests.support.loras import forward_logprobs, load_policy, write_random_lora
from tests.support.tiny import write_tiny_gguf


def test_greedy_decoding_takes_the_likeliest_token_of_a_plain_forward_pass(engine, endless_base, adapter, prompts):
    import torch
    from peft import PeftModel

    policy = PeftModel.from_pretrained(load_policy(endless_base), adapter)
    said = {}
    for version in (0, 1):
        result = finish(engine.stream(prompts[0], GREEDY, version))
        ids = torch.tensor([[*prompts[0], *result.completion_ids]])
        with torch.no_grad():
            if version == 0:
                with policy.disable_adapter():
                    likeliest = policy(input_ids=ids).logits[0].argmax(-1)
            else:
                likeliest = policy(input_ids=ids).logits[0].argmax(-1)
        assert result.completion_ids == tuple(likeliest[len(prompts[0]) - 1 : -1].tolist())
        assert result.finish_reason == "length"
        said[version] = result.completion_ids
    assert said[0] != said[1]  # the adapter is not a trivial one


@pytest.mark.parametrize("sampling", [Sampling(seed=1), Sampling(seed=2, temperature=1.7, top_k=5, top_p=0.5), GREEDY])
def test_logprobs_are_of_the_full_vocabulary_at_temperature_1_whatever_the_sampling(
    engine, endless_base, adapter, prompts, sampling
):
    from peft import PeftModel

    sampling = Sampling(**{**vars(sampling), "max_new_tokens": 24})
    policy = PeftModel.from_pretrained(load_policy(endless_base), adapter)
    result = finish(engine.stream(prompts[1], sampling, 1))
    assert result.logprobs_temperature == 1.0
    learners = forward_logprobs(policy, prompts[1], result.completion_ids)
    # OpenVINO's file holds half-precision weights, which a random model with large ones magnifies
    assert mean_distance(result.logprobs, learners) < (0.02 if engine.name == "openvino" else 1e-4)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_openvino_serves_adapters_of_the_qwen_family(architecture, tmp_path):
    from peft import PeftModel

    base = import_base_model(str(write_tiny_gguf(tmp_path / "Qwen.gguf", architecture=architecture)), tmp_path / "models")
    adapter = write_random_lora(base, tmp_path / "v1", spread=0.2)
    engine = exact_engine("openvino", base, tmp_path / "cache")
    engine.load(1, adapter)
    prompt = ChatTokenizer(base.folder).render([Message("user", "the")])
    result = finish(engine.stream(prompt, GREEDY, 1))
    engine.close()
    learners = forward_logprobs(PeftModel.from_pretrained(load_policy(base), adapter), prompt, result.completion_ids)
    assert mean_distance(result.logprobs, learners) < 0.02


def test_the_same_seed_gives_the_same_reply_and_another_seed_another(engine, prompts):
    replies = [finish(engine.stream(prompts[0], Sampling(max_new_tokens=24, seed=seed), 0)).completion_ids for seed in (5, 5, 6)]
    assert replies[0] == replies[1] != replies[2]


def test_top_k_1_is_greedy(engine, prompts):
    sampled = finish(engine.stream(prompts[0], Sampling(temperature=1.0, top_k=1, top_p=1.0, max_new_tokens=24), 0))
    assert sampled.completion_ids == finish(engine.stream(prompts[0], GREEDY, 0)).completion_ids


def test_samples_follow_the_models_distribution(engine, prompts):
    """First tokens of 400 replies against the model's own probabilities, by the likeliest token."""
    streams = [engine.stream(prompts[0], Sampling(1.0, 1.0, 0, 1, seed), 0) for seed in range(400)]
    firsts = [finish(stream).completion_ids[0] for stream in streams]
    greedy = finish(engine.stream(prompts[0], Sampling(temperature=0, max_new_tokens=1), 0))
    expected = 2.718281828 ** greedy.logprobs[0]
    share = firsts.count(greedy.completion_ids[0]) / 400
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


def test_what_is_done_on_a_gpu_for_fewer_operations_says_the_same_and_leaves_other_versions_theirs(endless_base, adapter, prompts, monkeypatch):
    """LoRA merged into a copy of the weights, and norms that are one operation."""
    from peft.tuners.lora import LoraLayer

    from chat_app.engines import transformers

    load, short, said = transformers._load_base, [], {}

    def as_on_a_gpu(*given):
        model = transformers._with_short_norms(load(*given))
        short.extend(module for module in model.modules() if "forward" in vars(module))
        return model

    for merges in (False, True):
        if merges:
            monkeypatch.setattr(transformers, "small_on_its_gpu", lambda model: True)
            monkeypatch.setattr(transformers, "_load_base", as_on_a_gpu)
        engine = exact_engine("transformers", endless_base, adapter)
        engine.load(1, adapter)
        engine.load(0, None)
        served = engine._workers[1]._manager.model
        assert any(isinstance(module, LoraLayer) for module in served.modules()) is not merges
        said[merges] = [finish(engine.stream(prompts[0], GREEDY, version)) for version in (0, 1)]
        engine.close()
    for apart, merged in zip(said[False], said[True], strict=True):
        assert merged.completion_ids == apart.completion_ids
        assert mean_distance(merged.logprobs, apart.logprobs) < 1e-4
    assert said[True][0].completion_ids != said[True][1].completion_ids
    assert len(short) == 9, "two in each of four layers, and the last"
