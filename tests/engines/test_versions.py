"""Versions of both engines: loaded, swapped and unloaded while replies run, and refused when they are not sound."""

from __future__ import annotations

import numpy as np
import pytest

from chat_app.engines import VersionNotLoaded
from data.errors import AdapterMismatch, ChatError, CorruptAdapter
from data.records import Sampling
from tests.support.engine_fixtures import GREEDY, adapter, engine, finish, prompts, tokenizer, until_it_speaks  # noqa: F401
from tests.support.loras import write_random_lora


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
