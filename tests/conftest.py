"""Shared fixtures: a tiny random base model for mechanics, and the real default one for claims."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")      # before torch: as the learner does, for the same reason
os.environ.setdefault("TRAIN_WHEN_IDLE", "false")        # other tests keep the cores busy all the time

import pytest
from hypothesis import HealthCheck, settings

from data.base_models import import_base_model
from data.records import BaseModel
from tests.support.browser_fixtures import browser, chat_server, endless_server, person  # noqa: F401
from tests.support.tiny import write_tiny_gguf

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])      # a busy machine disproves nothing
settings.load_profile("patient")


LONG = ("whole/test_browser_walk", "whole/test_learning_real", "learner/runs/test_run_interrupted", "whole/test_walk", "learner/runs/test_watch",
        "engines/test_real", "whole/test_feedback_real", "page/test_maintainer_page", "service/test_versions", "page/test_streaming", "learner/runs/test_run",
        "engines/test_versions")
"""Files that take long, longest first: begun last, one of them would keep one worker busy alone."""


def pytest_collection_modifyitems(items) -> None:
    place = {Path(__file__).parent / f"{name}.py": index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))        # stable: the others stay in order


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> BaseModel:
    """A tiny random llama, imported from a GGUF file."""
    folder = tmp_path_factory.mktemp("tiny")
    return import_base_model(str(write_tiny_gguf(folder / "Tiny.gguf")), folder / "models")


@pytest.fixture(scope="session")
def real_base() -> BaseModel:
    """SmolLM2-135M-Instruct, fetched once and kept between runs in TEST_MODELS_DIR or the user's cache."""
    cache = os.environ.get("TEST_MODELS_DIR") or Path.home() / ".cache" / "chat-ratings-tests"
    return import_base_model("smollm2-135m-instruct", Path(cache))


@pytest.fixture(scope="session")
def endless_base(tmp_path_factory) -> BaseModel:
    """A tiny model whose replies go on until they are stopped, long enough to do things meanwhile."""
    folder = tmp_path_factory.mktemp("endless")
    file = write_tiny_gguf(folder / "Endless.gguf", hidden=128, feed_forward=512, layers=4, context_length=8192, endless=True)
    return import_base_model(str(file), folder / "models")


@pytest.fixture(scope="session")
def unhurried_base(tmp_path_factory) -> BaseModel:
    """The same with three times the layers, for pages: on a fast processor 3,000 tokens of the other are over in two seconds, before a busy browser has drawn the first."""
    folder = tmp_path_factory.mktemp("unhurried")
    file = write_tiny_gguf(folder / "Endless.gguf", hidden=128, feed_forward=512, layers=12, context_length=8192, endless=True)
    return import_base_model(str(file), folder / "models")
