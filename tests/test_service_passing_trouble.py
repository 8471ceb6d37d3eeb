"""What keeps a version from being loaded and is not its fault: a base model that does not start."""

import pytest

import chat_app.engines.openvino as openvino
import chat_app.serving as serving
from data.errors import ModelUnavailable
from tests.service_fixtures import finished, server  # noqa: F401
from tests.waiting import until

KILLED = "import os; os.kill(os.getpid(), 9)"
"""A version's process as the kernel leaves it that has no memory to give."""


def trouble(server):
    return until(lambda: (change := server.serving.change) and change.trouble)


def test_a_base_model_that_does_not_start_is_tried_again_after_a_while_and_the_maintainer_is_told(server, monkeypatch, tmp_path):
    starts = tmp_path / "starts"
    with monkeypatch.context() as broken:
        broken.setattr(openvino, "CHILD", f"open({str(starts)!r}, 'a').write('x'); {KILLED}")
        broken.setattr(serving, "TROUBLE_SECONDS", 3.0)
        server.serving.engine._workers[0]._process.kill()
        assert isinstance(trouble(server), ModelUnavailable) and server.base.name in str(trouble(server))
        told = server.maintenance.overview()["change"]
        assert told["version"] == 0 and told["trouble"]["said"]["code"] == "base_cannot_be_loaded"
        begun = starts.stat().st_size
        with pytest.raises(AssertionError, match="did not happen"):
            until(lambda: starts.stat().st_size > begun, 2)
    until(lambda: server.serving.change is None)
    assert finished(server.service.send("me", None, "and now?")).error is None
