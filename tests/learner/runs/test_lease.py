"""The learner's lease: one learner at a time, for as long as it lives."""

from __future__ import annotations

import time

import pytest

from data.adapters import WEIGHTS, AdapterRegistry
from data.errors import Busy, EndedMeanwhile
from learner.errors import Stopped
from learner.runs.lease import learner_lease
from learner.runs.session import open_run
from tests.support.conversations import store  # noqa: F401


def test_a_second_learner_waits_and_then_says_so(store):
    assert store.acquire_lease("learner", "elsewhere:1", 60)
    with pytest.raises(Busy, match="Another learner"):
        with learner_lease(store, wait=0.3):
            pass
    store.release_lease("learner", "elsewhere:1")
    with learner_lease(store, wait=0.3):
        assert not store.acquire_lease("learner", "elsewhere:1", 60)
    assert store.acquire_lease("learner", "elsewhere:1", 60)


def test_a_lease_is_renewed_while_the_run_computes_and_runs_out_after_a_kill(store):
    def expires_at() -> float:
        return store.row("SELECT expires_at FROM leases WHERE name = 'learner'")["expires_at"]

    with learner_lease(store, seconds=3):
        first, deadline = expires_at(), time.monotonic() + 60
        while expires_at() == first:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not store.acquire_lease("learner", "elsewhere:1", 60)
    assert store.acquire_lease("learner", "elsewhere:1", 0.2)        # killed: never released
    with learner_lease(store, wait=5):
        pass


def test_who_slept_until_another_learner_took_the_lease_is_told_so(store):
    with learner_lease(store, seconds=2) as lost:
        assert not lost.is_set()
        with store.write() as db:
            db.execute("UPDATE leases SET owner = 'elsewhere:1', expires_at = expires_at + 60 WHERE name = 'learner'")
        assert lost.wait(30)
    assert store.row("SELECT owner FROM leases WHERE name = 'learner'")["owner"] == "elsewhere:1"


def test_who_slept_until_another_learner_had_come_and_gone_is_told_so_too(store):
    with learner_lease(store, seconds=2) as lost:
        with store.write() as db:
            db.execute("DELETE FROM leases")
        assert lost.wait(30)


def test_two_threads_of_one_process_do_not_hold_the_lease_together(store):
    with learner_lease(store), pytest.raises(Busy):
        with learner_lease(store, wait=0.1):
            pass


def test_a_run_that_another_learner_has_ended_publishes_nothing(store, tmp_path):
    run = store.start_run("base", "shell")
    store.finish_run(run.id, "interrupted")
    with pytest.raises(EndedMeanwhile, match="another learner took over"):
        AdapterRegistry(store, tmp_path / "adapters").publish(lambda folder: (folder / WEIGHTS).write_bytes(b"x"), base_model="base", run_id=run.id, parent=0)
    assert not store.versions("base") and not list((tmp_path / "adapters").iterdir())
    assert store.finish_run(run.id, "refused").state == "interrupted"                  # nor does it say otherwise of itself


def test_a_run_that_another_learner_has_ended_does_not_ask_for_the_next_one_again(store, tmp_path):
    with open_run(store, AdapterRegistry(store, tmp_path / "adapters"), "base", "maintainer") as (run, _):
        store.finish_run(run.id, "interrupted")
        raise Stopped
    assert store.waiting_request() is None
