"""What fails in an engine fails its own replies with a sentence, leaves nobody waiting, and the next reply is answered."""

from __future__ import annotations

import shutil
import threading

import pytest

from chat_app.engines import VersionNotLoaded, openvino
from chat_app.engines.gguf import servable_gguf
from chat_app.engines.protocol import EngineFailed
from chat_app.engines.streams import FedStream
from chat_app.serving import Serving
from data.adapters import AdapterRegistry
from data.records import Sampling
from data.store import Store
from tests.support.engine_fixtures import ENGINES, GREEDY, adapter, exact_engine, finish, prompts, tokenizer, until_it_speaks  # noqa: F401
from tests.support.waiting import until


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


def test_a_file_that_this_engine_made_itself_is_not_made_again_when_it_cannot_be_loaded(endless_base, tmp_path):
    engine = exact_engine("openvino", endless_base, tmp_path)
    engine.prepare(None, threads=2)
    [file] = tmp_path.rglob("*.gguf")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(EngineFailed, match="cannot serve"):
        engine.load(0, None)
    assert file.stat().st_size == 5000
    engine.close()


def test_a_reader_is_not_left_waiting_by_a_worker_that_died_without_a_word():
    stream = FedStream([1], Sampling(), worker_alive=lambda: False)
    with pytest.raises(EngineFailed, match="its worker died"):
        list(stream)
    assert stream.result().finish_reason == "error"


@pytest.mark.parametrize("name", ENGINES)
def test_a_version_that_died_is_freed_when_the_next_one_answers(name, endless_base, tmp_path, prompts, adapter):
    store = Store(tmp_path / "chat.db")
    registry = AdapterRegistry(store, tmp_path / "adapters")
    serving = Serving(exact_engine(name, endless_base, tmp_path / "merged"), store, registry, endless_base)
    serving._load(0)                                                     # and nobody who would load it again
    dead, rest = serving.engine._workers[0], until_it_speaks(serving.stream(prompts[0], Sampling(max_new_tokens=4000)).stream)
    sabotage(serving.engine)
    with pytest.raises(EngineFailed):
        list(rest)
    until(lambda: serving.engine.loaded() == ())
    number = registry.publish(lambda folder: shutil.copytree(adapter, folder, dirs_exist_ok=True), base_model=endless_base.id, run_id=None, parent=0).number
    assert serving._load(number) and serving.engine.loaded() == (number,)
    assert set(serving.engine._workers) == {number}
    until(lambda: dead._retired and (name == "openvino" or not hasattr(dead, "_manager")))
    assert finish(serving.stream(prompts[0], GREEDY).stream).finish_reason == "length"
    serving.close()


def test_what_goes_wrong_after_a_version_has_started_leaves_no_process_behind(endless_base, tmp_path, monkeypatch):
    def fails(folder):
        raise PermissionError(13, "sabotage")

    listening = lambda: {thread for thread in threading.enumerate() if thread.name.startswith("openvino-")}
    before, engine = listening(), exact_engine("openvino", endless_base, tmp_path)
    monkeypatch.setattr(openvino, "sweep_cache", fails)
    with pytest.raises(PermissionError):
        engine.load(0, None)
    assert engine.loaded() == ()
    until(lambda: listening() <= before)                                 # each listens until its process has ended
    engine.close()
