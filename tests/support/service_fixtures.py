"""A chat service over a real engine, OpenVINO with a tiny random model; a test file imports `server` where it uses it."""

from __future__ import annotations

import pytest

from chat_app.engines import make_engine
from chat_app.maintenance import Maintenance
from chat_app.service import ChatService
from chat_app.serving import Serving
from data.adapters import AdapterRegistry
from data.settings import Settings
from data.store import Store
from tests.support.random_adapter import write_random_adapter
from tests.support.waiting import until


class Server:
    """The parts of one chat server, as app.py puts them together."""

    def __init__(self, base, state_dir, **settings):
        self.settings = Settings(**{"state_dir": state_dir, "max_new_tokens": 40, **settings})
        self.store = Store(self.settings.database)
        self.registry = AdapterRegistry(self.store, self.settings.adapters_dir)
        self.serving = Serving(make_engine("openvino", base, state_dir / "merged"), self.store, self.registry, base)
        self.serving.start()
        self.service = ChatService(self.store, self.serving, base, self.settings)
        self.maintenance = Maintenance(self.store, self.registry, self.serving, base, self.settings, self.service.fresh_ratings)
        self.base = base

    def publish(self, seed: int, scale: float = 0.1) -> int:
        version = self.registry.publish(lambda folder: write_random_adapter(self.base, folder, seed=seed, scale=scale),
                                        base_model=self.base.id, run_id=None, parent=self.store.live_version(self.base.id))
        return version.number

    def close(self):
        self.service.close()
        self.serving.close()


@pytest.fixture
def server(tiny_base, tmp_path):
    server = Server(tiny_base, tmp_path / "state")
    yield server
    server.close()


def finished(job, seconds: float = 60):
    until(lambda: job.done, seconds)
    return job
