"""The vLLM engine when its server is down, slow, restarted, or one of several: over real HTTP. What it samples is shown in tests/external."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat_app.engines import EngineAway, EngineFailed, VersionNotLoaded, make_engine
from chat_app.serving import Serving
from data.adapters import AdapterRegistry
from data.errors import AdapterMismatch, BadSetting, CorruptAdapter
from data.records import Sampling
from data.store import Store
from tests.support.completions_server import BASE, CompletionsServer, TurnTaker
from tests.support.random_adapter import write_random_adapter
from tests.support.waiting import until

LONG = Sampling(max_new_tokens=400)
SHORT = Sampling(max_new_tokens=3, seed=7)


@pytest.fixture
def server():
    with CompletionsServer() as server:
        yield server


@pytest.fixture
def adapter(tiny_base, tmp_path):
    folder = tmp_path / "tiny-v1"
    folder.mkdir()
    write_random_adapter(tiny_base, folder, seed=1)
    return folder


@pytest.fixture
def engine(server, tiny_base, adapter, tmp_path):
    engine = make_engine("vllm", tiny_base, tmp_path, vllm_url=f"{server.url}/v1")
    engine.load(0, None)
    engine.load(1, adapter)
    server.requests.clear()
    yield engine
    engine.close()


def ids(stream) -> list[int]:
    return [token for batch in stream for token in batch]


def asked(server, path: str) -> list[dict]:
    return [body for where, body in server.requests if where == path]


def test_token_ids_go_out_and_come_back_and_nothing_of_the_servers_own_settings_is_mixed_in(server, engine, adapter):
    stream = engine.stream((5, 6), SHORT, 1)
    assert ids(stream) == [40, 41, 42]
    assert stream.result().logprobs == (-0.5,) * 3 and (stream.result().logprobs_temperature, stream.result().finish_reason) == (1.0, "length")
    body, = asked(server, "/v1/completions")
    assert (body["model"], body["prompt"], body["seed"], body["max_tokens"]) == (adapter.name, [5, 6], 7, 3)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.8, 0.95, 50)
    assert (body["repetition_penalty"], body["min_p"], body["stop_token_ids"]) == (1.0, 0.0, sorted(engine._eos_ids))
    assert ids(engine.stream((5, 6), SHORT, 0)) and asked(server, "/v1/completions")[-1]["model"] == BASE


def test_a_reply_is_no_longer_than_the_server_reads(server, engine):
    ids(engine.stream([5] * 510, LONG, 0))                            # it reads 512 tokens, the model 1024
    assert asked(server, "/v1/completions")[-1]["max_tokens"] == 2


def test_an_adapter_is_unloaded_after_its_last_reply_and_not_before(server, engine, adapter):
    stream = engine.stream((5, 6), LONG, 1)
    rest = iter(stream)
    next(rest)
    engine.unload(1)
    assert engine.loaded() == (0,) and adapter.name in server.adapters
    with pytest.raises(VersionNotLoaded):
        engine.stream((5, 6), SHORT, 1)
    assert len(ids(rest)) and stream.result().finish_reason == "length" and len(stream.result().completion_ids) == 400
    until(lambda: adapter.name not in server.adapters)


def test_an_adapter_leaves_every_server_behind_one_address(tiny_base, adapter, tmp_path):
    with CompletionsServer() as one, CompletionsServer() as two, TurnTaker(one, two) as address:
        engine = make_engine("vllm", tiny_base, tmp_path, vllm_url=address.url)
        engine.load(1, adapter)

        def both_have_it() -> bool:
            for stream in [engine.stream((5, 6), Sampling(max_new_tokens=30), 1) for _ in range(4)]:       # at once: a connection each
                assert len(ids(stream)) == 30
            return adapter.name in one.adapters and adapter.name in two.adapters

        until(both_have_it)
        engine.unload(1)
        until(lambda: not one.adapters and not two.adapters)
        engine.close()
        assert all(len(asked(server, "/v1/unload_lora_adapter")) < 6 for server in (one, two)), "it is asked for ever"


HOLDER = """
import sys
from pathlib import Path
from chat_app.engines import make_engine
from data.base_models import load_base_model
base, url, adapter = sys.argv[1:]
engine = make_engine("vllm", load_base_model(Path(base)), Path("unused"), vllm_url=url)
engine.load(1, Path(adapter))
print("loaded", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_chat_process_left_is_unloaded_with_the_next_version_and_what_a_living_one_holds_is_not(server, tiny_base, adapter, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tiny_base.folder), server.url, str(adapter)], cwd=Path(__file__).parent.parent.parent,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    later = []
    for seed in (2, 3):
        later.append(tmp_path / f"tiny-v{seed}")
        later[-1].mkdir()
        write_random_adapter(tiny_base, later[-1], seed=seed)
    server.adapters["of-another-app"] = "/elsewhere/of-another-app"
    engine = make_engine("vllm", tiny_base, tmp_path, vllm_url=server.url)
    assert other.stdout.readline() == "loaded\n"
    engine.load(2, later[0])
    engine.load(1, adapter)
    engine.unload(1)                                                  # the other process holds it too
    until(lambda: not engine._held._counts[adapter.name] and not engine._held._order.locked())
    assert set(server.adapters) == {"of-another-app", "tiny-v1", "tiny-v2"} and not asked(server, "/v1/unload_lora_adapter")
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    engine.load(3, later[1])
    assert set(server.adapters) == {"of-another-app", "tiny-v2", "tiny-v3"}
    engine.close()
    assert set(server.adapters) == {"of-another-app"}


def test_an_unloading_that_failed_is_made_up_for_when_the_next_version_is_loaded(tiny_base, adapter, tmp_path, caplog):
    later = tmp_path / "tiny-v2"
    later.mkdir()
    write_random_adapter(tiny_base, later, seed=2)
    with CompletionsServer(api_key="hush") as server:
        engine = make_engine("vllm", tiny_base, tmp_path, vllm_url=server.url, vllm_api_key="hush")
        engine.load(1, adapter)
        server.api_key = "another"
        engine.unload(1)
        until(lambda: "tiny-v1 may still be loaded" in caplog.text)
        server.api_key = "hush"
        assert set(server.adapters) == {"tiny-v1"}
        engine.load(2, later)
        assert set(server.adapters) == {"tiny-v2"}
        engine.close()


def test_a_cancelled_reply_hangs_up_and_keeps_what_there_is(server, engine):
    stream = engine.stream((5, 6), LONG, 0)
    rest = iter(stream)
    next(rest)
    stream.cancel()
    ids(rest)
    assert stream.result().finish_reason == "cancelled" and 0 < len(stream.result().completion_ids) < 400
    until(lambda: server.hung_up == 1)
    at_once = engine.stream((5, 6), LONG, 0)
    at_once.cancel()
    ids(at_once)
    assert at_once.result().finish_reason == "cancelled"


def test_a_server_that_lost_its_adapters_is_given_them_again(server, engine, adapter):
    server.adapters.clear()
    assert ids(engine.stream((5, 6), SHORT, 1)) == [40, 41, 42]
    assert server.adapters == {adapter.name: str(adapter)}


def test_where_several_servers_stand_behind_one_address_the_adapter_is_loaded_until_the_one_that_answers_has_it(server, engine):
    server.lacks_for = 3
    assert ids(engine.stream((5, 6), SHORT, 1)) == [40, 41, 42]
    assert len(asked(server, "/v1/load_lora_adapter")) == 1 + 2 + 3   # one more each time: taking turns would miss the same server for ever
    server.lacks_for = 99
    with pytest.raises(EngineFailed, match="does not exist"):
        ids(engine.stream((5, 6), SHORT, 1))


def test_a_reply_that_is_cut_off_fails_with_a_sentence_and_the_next_is_answered(server, engine):
    server.dies_after = 5
    stream = engine.stream((5, 6), LONG, 1)
    with pytest.raises(EngineFailed, match="the model's server closed the connection"):
        ids(stream)
    assert stream.result().finish_reason == "error" and len(stream.result().completion_ids) == 5
    server.dies_after = None
    assert ids(engine.stream((5, 6), SHORT, 1)) == [40, 41, 42]


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(server, engine):
    engine._held.server._client.timeout = 0.3
    server.token_seconds = 2
    with pytest.raises(EngineFailed, match="said nothing"):
        ids(engine.stream((5, 6), SHORT, 1))
    server.token_seconds = 0
    assert engine.loaded() == (0, 1) and ids(engine.stream((5, 6), SHORT, 1))


def test_a_server_that_went_away_is_served_from_again_when_it_is_back(tiny_base, adapter, tmp_path):
    """Through `Serving`: the version that a run published stays live, is not marked, and answers again without anybody's help."""
    store = Store(tmp_path / "chat.db")
    registry = AdapterRegistry(store, tmp_path / "adapters")

    def copy(folder):
        for file in adapter.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())

    registry.publish(copy, base_model=tiny_base.id, run_id=None, parent=0)
    first = CompletionsServer()
    first.stop()
    serving = Serving(make_engine("vllm", tiny_base, tmp_path, vllm_url=first.url), store, registry, tiny_base)
    serving.start()                                                   # nobody listens there yet
    with pytest.raises(EngineAway, match="cannot be used right now"):
        serving.stream((5, 6), SHORT)
    with CompletionsServer(port=first.port) as second:
        until(lambda: serving.live[0] == 1 and serving.engine.loaded() == (1,))
        assert ids(serving.stream((5, 6), SHORT).stream) == [40, 41, 42] and len(second.adapters) == 1
        running = iter(serving.stream((5, 6), LONG).stream)
        next(running)
    with pytest.raises(EngineFailed):
        ids(running)
    with pytest.raises(EngineFailed, match="does not answer"):
        ids(serving.stream((5, 6), SHORT).stream)
    with CompletionsServer(port=first.port):
        until(lambda: serving.engine.loaded() == (1,))
        assert ids(serving.stream((5, 6), SHORT).stream) == [40, 41, 42]
    assert store.version(1).error is None
    serving.close()


@pytest.mark.parametrize("fault, says", [
    ({"api_key": "hush"}, "set VLLM_API_KEY"),
    ({"loads_adapters": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ({"logprob": 0.0}, "--logprobs-mode raw_logprobs"),
])
def test_a_server_that_was_started_wrongly_is_told_apart_from_a_version_that_is_broken(server, tiny_base, adapter, tmp_path, fault, says):
    for name, value in fault.items():
        setattr(server, name, value)
    engine = make_engine("vllm", tiny_base, tmp_path, vllm_url=server.url)
    with pytest.raises(EngineAway, match=says):
        engine.load(1, adapter)
    assert engine.loaded() == ()
    server.api_key, server.loads_adapters, server.logprob = None, True, None
    with pytest.raises(EngineFailed, match="not finite"):             # that is the version's fault
        engine.load(1, adapter)
    engine.close()


def test_the_key_and_the_adapters_path_are_those_of_the_settings(tiny_base, adapter, tmp_path):
    with CompletionsServer(api_key="hush") as server:
        engine = make_engine("vllm", tiny_base, tmp_path, vllm_url=server.url, vllm_api_key="hush", vllm_adapters_dir="/shared/adapters")
        engine.load(1, adapter)
        assert server.adapters == {"tiny-v1": "/shared/adapters/tiny-v1"}
        engine.close()
        assert server.adapters == {}


def test_an_adapter_that_does_not_fit_is_refused_before_the_server_sees_it(server, engine, endless_base, tmp_path):
    wide = tmp_path / "wide"
    wide.mkdir()
    write_random_adapter(endless_base, wide, seed=2)
    with pytest.raises(AdapterMismatch, match="does not fit this base model"):
        engine.load(5, wide)
    (wide / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptAdapter):
        engine.load(5, wide)
    assert engine.loaded() == (0, 1) and not asked(server, "/v1/load_lora_adapter")


def test_without_an_address_the_engine_says_which_setting_it_needs(tiny_base, tmp_path):
    with pytest.raises(BadSetting, match="VLLM_URL"):
        make_engine("vllm", tiny_base, tmp_path)


def test_closing_cancels_every_reply_soon(server, tiny_base, tmp_path):
    engine = make_engine("vllm", tiny_base, tmp_path, vllm_url=server.url)
    engine.load(0, None)
    streams = [engine.stream((5, 6), LONG, 0) for _ in range(4)]
    begun = time.monotonic()
    engine.close()
    for stream in streams:
        ids(stream)
        assert stream.result().finish_reason == "cancelled"
    assert time.monotonic() - begun < 5 and engine.loaded() == ()
