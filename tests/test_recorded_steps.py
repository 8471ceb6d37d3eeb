"""Which steps a GPU records: few sizes, and none that reads a long prompt. That they say the same as unrecorded ones takes a GPU: tests/external/test_gpu.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chat_app.engines.transformers_graphs import MOST_TOKENS, RECORDING, RecordedSteps

LIBRARYS_OWN = (2048, 16384)


@pytest.fixture
def runner():
    recorded = []
    return SimpleNamespace(
        cache=SimpleNamespace(max_batch_tokens=2048, max_tokens_read=90_000), inputs_and_outputs=SimpleNamespace(num_q_tokens=0), recorded=recorded,
        maybe_pad_inputs=lambda *_: LIBRARYS_OWN, _get_forward_fn=lambda *_: ("forward", True), _capture_graph=lambda *step: recorded.append((step, RECORDING.locked())))


@pytest.mark.parametrize(("sizes", "padded"), [
    ((1, 0), (16, 0)), ((1, 90), (16, 1024)), ((17, 1025), (32, 2048)), ((200, 70_000), (256, 90_000)), ((MOST_TOKENS + 1, 90), LIBRARYS_OWN)])
def test_sizes_are_powers_of_two_and_those_of_long_prompts_the_librarys_own(runner, sizes, padded):
    RecordedSteps(runner)
    assert runner.maybe_pad_inputs(*sizes, False) == padded


def test_a_step_that_reads_a_long_prompt_is_not_recorded_and_others_one_at_a_time(runner):
    RecordedSteps(runner)
    chosen = []
    for tokens in (16, MOST_TOKENS, 512):
        runner.inputs_and_outputs.num_q_tokens = tokens
        chosen.append(runner._get_forward_fn(False))
    assert chosen == [("forward", True), ("forward", True), ("forward", False)]
    runner._capture_graph("forward", "stream")
    assert runner.recorded == [(("forward", "stream"), True)] and not RECORDING.locked()
