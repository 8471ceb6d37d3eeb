"""Both engines keep the same promises: several versions, several streams, honest log-probs, nobody left waiting."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chat_app import engines
from chat_app.engines import VersionNotLoaded, engine_name, make_engine
from chat_app.engines.gguf import servable_gguf
from chat_app.engines.protocol import EngineFailed
from chat_app.engines.streams import FedStream
from data.base_models import import_base_model
from data.errors import AdapterMismatch, ChatError, CorruptAdapter, MessageTooLong
from data.records import Message, Sampling
from data.tokenizer import ChatTokenizer
from tests.loras import forward_logprobs, load_policy, write_random_lora
from tests.random_adapter import write_random_adapter
from tests.tiny import write_tiny_gguf
from tests.waiting import until

ENGINES = ("openvino", "transformers")
GREEDY = Sampling(temperature=0, max_new_tokens=24)


def exact_engine(name: str, base, cache_dir):
    """The engine in single precision throughout, so that numbers can be compared."""
    eos_ids = ChatTokenizer(base.folder).eos_ids
    if name == "openvino":
        from chat_app.engines.openvino import EXACT, OpenVinoEngine

        return OpenVinoEngine(base, cache_dir, eos_ids, encoding="F16", properties=EXACT)
    import torch

    from chat_app.engines.transformers import TransformersEngine

    return TransformersEngine(base, eos_ids, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(endless_base):
    return ChatTokenizer(endless_base.folder)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [tokenizer.render([Message("user", text)]) for text in ("the", "and then", "你好", "a longer one, with 12 words in it")]


@pytest.fixture(scope="module")
def adapter(endless_base, tmp_path_factory):
    return write_random_lora(endless_base, tmp_path_factory.mktemp("lora") / "v1", spread=0.2)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, endless_base, adapter, tmp_path_factory):
    """With versions 0 and 1 loaded; a test that unloads one puts it back."""
    engine = exact_engine(request.param, endless_base, tmp_path_factory.mktemp("cache"))
    engine.load(0, None)
    engine.load(1, adapter)
    yield engine
    engine.close()


def finish(stream):
    """Walk the stream to its end; returns what it gave and its result, which must agree."""
    ids = [token for batch in stream for token in batch]
    result = stream.result()
    assert tuple(ids) == result.completion_ids and len(ids) == len(result.logprobs)
    return result


def mean_distance(served, learners) -> float:
    """Mean absolute difference in nats a token."""
    return sum(abs(a - b) for a, b in zip(served, learners, strict=True)) / len(served)


def until_it_speaks(stream):
    """The stream's iterator after its first batch."""
    iterator = iter(stream)
    next(iterator)
    return iterator


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


def test_unloading_refuses_new_replies_at_once_and_lets_running_ones_end(engine, adapter, prompts):
    expected = finish(engine.stream(prompts[0], Sampling(max_new_tokens=200, seed=3), 1)).completion_ids
    stream = engine.stream(prompts[0], Sampling(max_new_tokens=200, seed=3), 1)
    rest = until_it_speaks(stream)
    engine.unload(1)
    assert engine.loaded() == (0,)
    with pytest.raises(VersionNotLoaded):
        engine.stream(prompts[0], GREEDY, 1)
    for _ in rest:
        pass
    assert stream.result().completion_ids == expected and stream.result().finish_reason == "length"
    engine.load(1, adapter)
    assert engine.loaded() == (0, 1)


def test_a_swap_drops_no_stream_and_mixes_none(engine, endless_base, adapter, prompts, tmp_path):
    """A new version is built while four replies run; they end as they would have, and the new one speaks for itself."""
    other = write_random_lora(endless_base, tmp_path / "v2", seed=9, spread=0.2)
    long = Sampling(temperature=0, max_new_tokens=150)
    expected = [finish(engine.stream(prompt, long, 1)).completion_ids for prompt in prompts]
    streams = [engine.stream(prompt, long, 1) for prompt in prompts]
    rests = [until_it_speaks(stream) for stream in streams]
    engine.load(2, other)
    fresh = engine.stream(prompts[0], long, 2)
    engine.unload(1)
    for rest in rests:
        for _ in rest:
            pass
    assert [stream.result().completion_ids for stream in streams] == expected
    assert finish(fresh).completion_ids != expected[0]
    engine.unload(2)
    engine.load(1, adapter)


def test_loading_twice_is_loading_once(engine, adapter):
    before = engine.loaded()
    engine.load(1, adapter)
    assert engine.loaded() == before


def test_a_version_nobody_loaded_is_refused(engine, prompts):
    with pytest.raises(VersionNotLoaded, match="Version 77 is not loaded"):
        engine.stream(prompts[0], GREEDY, 77)


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


def test_an_adapter_that_does_not_fit_changes_nothing(engine, tiny_base, tmp_path, prompts):
    before = engine.loaded()
    narrow = write_random_lora(tiny_base, tmp_path / "narrow")
    with pytest.raises(AdapterMismatch, match="does not fit this base model"):
        engine.load(5, narrow)
    (narrow / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptAdapter):
        engine.load(5, narrow)
    assert engine.loaded() == before
    assert finish(engine.stream(prompts[0], GREEDY, 0)).finish_reason == "length"


def test_an_adapter_that_gives_no_finite_numbers_is_refused_before_anybody_talks_to_it(engine, endless_base, tmp_path):
    overflowing = write_random_lora(endless_base, tmp_path / "huge", spread=1e38)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ChatError, match="not finite"):
        engine.load(6, overflowing)
    assert 6 not in engine.loaded()


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


@pytest.mark.parametrize("name", ENGINES)
def test_a_failing_step_fails_its_replies_with_a_sentence_and_the_version_can_be_loaded_again(
    name, endless_base, tmp_path, prompts
):
    engine = exact_engine(name, endless_base, tmp_path)
    engine.load(0, None)
    streams = [engine.stream(prompt, Sampling(max_new_tokens=4000), 0) for prompt in prompts]
    rest = until_it_speaks(streams[0])
    sabotage(engine)
    with pytest.raises(EngineFailed, match="broke off because the engine failed: (its process ended|.*sabotage)"):
        for _ in rest:
            pass
    assert streams[0].result().finish_reason == "error" and streams[0].result().completion_ids
    for stream in streams[1:]:
        with pytest.raises(EngineFailed):
            finish(stream)
    until(lambda: engine.loaded() == ())
    with pytest.raises(VersionNotLoaded):
        engine.stream(prompts[0], GREEDY, 0)
    engine.load(0, None)
    assert finish(engine.stream(prompts[0], GREEDY, 0)).finish_reason == "length"
    engine.close()


def sabotage(engine) -> None:
    """Let the worker fail in the middle of its work: OpenVINO's process is killed, transformers' next step raises."""
    worker = engine._workers[0]
    if engine.name == "openvino":
        worker._process.kill()
        return

    def step(*_):
        raise RuntimeError("sabotage")

    worker._manager._generation_step = step


def test_a_stop_is_heard_before_openvinos_step_has_ended(endless_base, tmp_path):
    engine = exact_engine("openvino", endless_base, tmp_path)
    engine.load(0, None)
    stream = engine.stream([5 + at % 200 for at in range(endless_base.context_length - 10)], Sampling(max_new_tokens=5), 0)
    stream.cancel()
    assert stream.ended and stream.result().completion_ids == ()           # at once, while the long prompt is being read
    assert finish(engine.stream([5, 6], GREEDY, 0)).finish_reason == "length"
    engine.close()


def test_the_process_of_a_version_ends_with_the_one_that_started_it(tiny_base, tmp_path):
    line = (
        "import os, sys, time; from pathlib import Path\n"
        "from chat_app.engines import make_engine; from data.base_models import load_base_model\n"
        "engine = make_engine('openvino', load_base_model(Path(sys.argv[1])), Path(sys.argv[2])); engine.load(0, None)\n"
        "print(engine._workers[0]._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", line, str(tiny_base.folder), str(tmp_path)]
    child = int(subprocess.run(command, stdout=subprocess.PIPE, timeout=120).stdout)
    until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    """Whether that process is at work: nobody may be left to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


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


def test_a_reply_that_outgrows_openvinos_attention_cache_fails_with_a_sentence(endless_base, tmp_path, prompts):
    engine = exact_engine("openvino", endless_base, tmp_path)
    engine._scheduler = {**engine._scheduler, "cache_size": 0, "num_kv_blocks": 4}  # 128 tokens
    engine.load(0, None)
    stream = engine.stream(prompts[0], Sampling(max_new_tokens=400), 0)
    with pytest.raises(EngineFailed, match="ran out of attention cache"):
        finish(stream)
    assert 0 < len(stream.result().completion_ids) < 128
    assert finish(engine.stream(prompts[1], GREEDY, 0)).finish_reason == "length"
    engine.close()


def test_a_request_that_openvino_refuses_fails_alone(endless_base, tmp_path, prompts):
    engine = exact_engine("openvino", endless_base, tmp_path)
    engine.load(0, None)
    good = engine.stream(prompts[0], Sampling(max_new_tokens=100), 0)
    with pytest.raises(EngineFailed, match="top_p"):
        finish(engine.stream(prompts[0], Sampling(top_p=7.0), 0))
    assert finish(good).finish_reason == "length"
    engine.close()


def test_a_merged_file_that_was_damaged_on_disk_is_made_anew(endless_base, tmp_path, prompts):
    file = servable_gguf(endless_base, None, tmp_path, encoding="F16")
    file.write_bytes(file.read_bytes()[:5000])
    engine = exact_engine("openvino", endless_base, tmp_path)
    engine.load(0, None)
    assert finish(engine.stream(prompts[0], GREEDY, 0)).finish_reason == "length"
    engine.close()


def test_a_reader_is_not_left_waiting_by_a_worker_that_died_without_a_word():
    stream = FedStream([1], Sampling(), worker_alive=lambda: False)
    with pytest.raises(EngineFailed, match="its worker died"):
        list(stream)
    assert stream.result().finish_reason == "error"


def test_auto_is_openvino_for_a_gguf_and_needs_no_torch(tiny_base, tmp_path):
    line = (
        "import sys; from pathlib import Path\n"
        "from chat_app.engines import make_engine; from data.base_models import load_base_model\n"
        "from data.records import Sampling\n"
        "engine = make_engine('auto', load_base_model(Path(sys.argv[1])), Path(sys.argv[2])); engine.load(0, None)\n"
        "list(engine.stream([5, 6], Sampling(max_new_tokens=4), 0)); engine.close()\n"
        "sys.exit(engine.name != 'openvino' or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", line, str(tiny_base.folder), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})


@pytest.mark.parametrize(("driver", "build", "engine"), [
    ((0, 1), "libtorch_cuda.so", "transformers"),
    ((0, 0), "libtorch_cuda.so", "openvino"),             # a driver, and no card that this process may use
    ((100, 1), "libtorch_cuda.so", "openvino"),           # cuInit's "no device", as with CUDA_VISIBLE_DEVICES=""
    (None, "libtorch_cuda.so", "openvino"),
    ((0, 1), "libtorch_cpu.so", "openvino"),              # a card, and a torch that cannot use it
])
def test_auto_is_transformers_where_the_driver_counts_a_gpu_and_torch_is_built_for_it(driver, build, engine, tiny_base, tmp_path, monkeypatch):
    def library(name):
        if name != "libcuda.so.1" or driver is None:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(cuInit=lambda flags: driver[0], cuDeviceGetCount=lambda count: setattr(count._obj, "value", driver[1]) or 0)

    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / build).touch()
    monkeypatch.setattr("ctypes.CDLL", library)
    monkeypatch.setattr(engines, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    assert engine_name("auto", tiny_base) == engine
    assert engine_name("openvino", tiny_base) == "openvino"                # what is asked for by name stays


def test_auto_is_transformers_where_there_is_no_gguf(tiny_base, tmp_path):
    from dataclasses import replace

    assert make_engine("auto", replace(tiny_base, gguf=None), tmp_path).name == "transformers"
    assert make_engine("auto", replace(tiny_base, architecture="gemma3"), tmp_path).name == "transformers"


@pytest.mark.real
def test_served_logprobs_agree_with_the_learners_of_the_real_model(real_base, tmp_path):
    """Both engines as they are served, the policy as it trains, a random adapter that visibly changes the model: 0.1 nat a token at most."""
    from learner.anchor import logprob_pass
    from learner.batches import Example, micro_batches
    from learner.policy import Policy

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
        replies = micro_batches([Example(at, prompts[at], result.completion_ids, result.logprobs_temperature) for at, result in enumerate(results)], 4096)
        with policy.behaving_as(adapter):
            learners, _ = logprob_pass(policy, replies, lambda: None)
        with policy.reference():
            bases, _ = logprob_pass(policy, replies, lambda: None)
        served = [value for result in results for value in result.logprobs]
        apart, from_base = (mean_distance(served, [value for at in range(len(prompts)) for value in rows[at].tolist()]) for rows in (learners, bases))
        print(f"{name}: {apart:.3f} nat a token apart, {from_base:.3f} from the base")
        assert len(served) > 16 and apart < 0.1 and from_base > 2 * apart
