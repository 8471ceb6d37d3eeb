"""Engines on a tiny model that talks on, in numbers that can be compared; a test file imports the fixtures that it uses."""

from __future__ import annotations

import pytest

from data.base_models.tokenizer import ChatTokenizer
from data.records import Message, Sampling
from tests.support.loras import write_random_lora

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
