"""A real vLLM server keeps the promises that the other engines keep: their own tests, run on it. `tests/external/vllm.sh` runs this."""

from __future__ import annotations

import os

import pytest

from chat_app.engines import EngineFailed, make_engine
from data.base_models.tokenizer import ChatTokenizer
from data.records import Message, Sampling
from tests.engines.test_logprobs import (  # noqa: F401
    test_greedy_decoding_takes_the_likeliest_token_of_a_plain_forward_pass,
    test_logprobs_are_of_the_full_vocabulary_at_temperature_1_whatever_the_sampling,
    test_samples_follow_the_models_distribution,
    test_the_same_seed_gives_the_same_reply_and_another_seed_another,
    test_top_k_1_is_greedy,
)
from tests.engines.test_streams import (  # noqa: F401
    test_a_prompt_that_fills_the_context_is_refused_and_a_long_one_leaves_less_room,
    test_cancel_ends_a_reply_soon_and_keeps_what_there_is,
    test_cancelling_at_once_is_fine_too,
    test_streams_of_two_versions_at_once_are_what_they_are_alone,
    test_tokens_arrive_while_the_reply_is_still_being_written,
)
from tests.engines.test_versions import (  # noqa: F401
    test_a_swap_drops_no_stream_and_mixes_none,
    test_a_version_nobody_loaded_is_refused,
    test_an_adapter_that_does_not_fit_changes_nothing,
    test_an_adapter_that_gives_no_finite_numbers_is_refused_before_anybody_talks_to_it,
    test_loading_twice_is_loading_once,
    test_unloading_refuses_new_replies_at_once_and_lets_running_ones_end,
)
from tests.external.vllm_process import VllmProcess, write_transformers_folder
from tests.support.engine_fixtures import GREEDY, adapter, finish, prompts, tokenizer, until_it_speaks  # noqa: F401
from tests.support.loras import load_policy, nats_apart
from tests.support.random_adapter import write_random_adapter
from tests.support.waiting import until

pytestmark = [pytest.mark.external, pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="tests/external/vllm.sh sets VLLM_PYTHON")]


@pytest.fixture(scope="module")
def server(endless_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    server = VllmProcess(write_transformers_folder(endless_base, folder / "Endless"), folder / "vllm.log", dtype="float32")
    print(f"vLLM answered after {server.start():.0f} s")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def engine(server, endless_base, adapter, tmp_path_factory):  # noqa: F811
    """With versions 0 and 1 loaded; a test that unloads one puts it back."""
    engine = make_engine("vllm", endless_base, tmp_path_factory.mktemp("unused"), vllm_url=server.url)
    engine.load(0, None)
    engine.load(1, adapter)
    yield engine
    engine.close()


def test_a_server_that_was_killed_and_started_again_goes_on_from_the_same_adapters(server, engine, endless_base, adapter, prompts):  # noqa: F811
    expected = finish(engine.stream(prompts[0], GREEDY, 1)).completion_ids
    running = engine.stream(prompts[0], Sampling(max_new_tokens=4000), 1)
    rest = until_it_speaks(running)
    server.stop()
    with pytest.raises(EngineFailed, match="the model's server"):
        for _ in rest:
            pass
    assert running.result().completion_ids
    with pytest.raises(EngineFailed, match="does not answer"):
        finish(engine.stream(prompts[0], GREEDY, 1))
    until(lambda: engine.loaded() == (0,))
    server.start()                                             # its adapters are lost
    engine.load(1, adapter)                                    # as whoever follows the live version does
    assert finish(engine.stream(prompts[0], GREEDY, 1)).completion_ids == expected
    assert finish(engine.stream(prompts[0], GREEDY, 0)).completion_ids != expected


@pytest.mark.real
def test_served_logprobs_agree_with_a_plain_forward_pass_of_the_real_model(real_base, tmp_path):
    """In bfloat16, as it is served, with a random adapter that visibly changes the model: 0.1 nat a token at most."""
    from peft import PeftModel

    server = VllmProcess(write_transformers_folder(real_base, tmp_path / "model"), tmp_path / "vllm.log", dtype="bfloat16")
    server.start()
    engine = None
    try:
        version = tmp_path / "v1"
        version.mkdir()
        write_random_adapter(real_base, version, seed=0, scale=0.012)
        words = ChatTokenizer(real_base.folder)
        asked = [words.render([Message("user", text)]) for text in ("Tell me a joke about rain.", "我今天很累，你呢？")]
        engine = make_engine("vllm", real_base, tmp_path, vllm_url=server.url)
        engine.load(1, version)
        streams = [engine.stream(prompt, Sampling(max_new_tokens=48, seed=at), 1) for at, prompt in enumerate(asked)]
        results = [finish(stream) for stream in streams]
        engine.load(0, None)
        ended = [finish(engine.stream(asked[0], Sampling(max_new_tokens=320, seed=seed), 0)) for seed in range(4)]
    finally:
        if engine:
            engine.close()
        server.stop()
    stopped = [result.completion_ids for result in ended if result.finish_reason == "stop"]
    assert stopped and all(ids[-1] in words.eos_ids and not words.eos_ids & set(ids[:-1]) for ids in stopped)
    policy = PeftModel.from_pretrained(load_policy(real_base), version)
    apart, from_base = nats_apart(policy, asked, results)
    print(f"vllm: {apart:.3f} nat a token apart, {from_base:.3f} from the base")
    assert apart < 0.1 and from_base > 2 * apart
