"""Which steps a GPU records: few sizes, and none that reads a long prompt. What recorded steps say is looked at on a GPU: tests/external/test_gpu.py."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from chat_app.engines.transformers_graphs import MOST_TOKENS, RECORDING, RecordedSteps
from data.records import Sampling
from tests.support.engine_fixtures import exact_engine, finish
from tests.support.waiting import until


@pytest.fixture
def processor():
    recorded = []
    runner = SimpleNamespace(
        cache=SimpleNamespace(max_batch_tokens=2048, max_tokens_read=90_000), recorded=recorded, mem_pool="memory", graph_pool_id=1,
        maybe_pad_inputs=None, _get_forward_fn=lambda *_: ("forward", True), _capture_graph=lambda *step: recorded.append((step, RECORDING.locked())))
    return SimpleNamespace(model_runner=runner, inputs_and_outputs=SimpleNamespace(num_q_tokens=0, max_kv_read=0, graphs="recordings", _get_graph_key=None))


@pytest.mark.parametrize(("sizes", "padded"), [
    ((1, 0), (16, 0)), ((1, 90), (16, 1024)), ((17, 1025), (32, 2048)), ((200, 70_000), (256, 90_000)), ((MOST_TOKENS + 1, 90), (MOST_TOKENS + 1, 90))])
def test_sizes_are_powers_of_two_and_those_of_long_prompts_what_they_are(processor, sizes, padded):
    RecordedSteps(processor)
    assert processor.model_runner.maybe_pad_inputs(*sizes, False) == padded


def test_a_step_that_reads_a_long_prompt_is_not_recorded_and_others_one_at_a_time(processor):
    RecordedSteps(processor)
    chosen, runner = [], processor.model_runner
    for tokens in (16, MOST_TOKENS, 512):
        processor.inputs_and_outputs.num_q_tokens = tokens
        chosen.append(runner._get_forward_fn(False))
    assert chosen == [("forward", True), ("forward", True), ("forward", False)]
    runner._capture_graph("forward", "stream")
    assert runner.recorded == [(("forward", "stream"), True)] and not RECORDING.locked()


def test_a_version_that_ends_gives_its_recordings_back_after_its_last_reply_and_while_nobody_records(endless_base, monkeypatch):
    """A real manager on a CPU, where nothing is recorded: the order is what counts."""
    seen = []
    monkeypatch.setattr("chat_app.engines.transformers_batches.give_back", lambda processor: seen.append((RECORDING.locked(), threads())))

    def threads() -> int:
        return sum(thread.name == "transformers-batches" for thread in threading.enumerate())

    engine = exact_engine("transformers", endless_base, None)
    engine.load(0, None)
    stream = engine.stream([5, 6, 7], Sampling(temperature=0, max_new_tokens=200), 0)
    assert threads() == 1
    engine.unload(0)
    assert len(finish(stream).completion_ids) == 200
    until(lambda: seen)
    assert seen == [(True, 0)]
    until(lambda: not RECORDING.locked())
    engine.close()
