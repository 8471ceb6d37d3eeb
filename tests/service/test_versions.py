"""The version that the chat service answers with: a new one, a rolled back, a corrupt one, and one that cannot be loaded yet."""

from dataclasses import replace

import pytest

import chat_app.serving as serving
from chat_app.maintenance import Maintenance
from data.base_models import import_base_model
from data.errors import CorruptAdapter, ModelUnavailable, NoLearnerHere, RemovedVersion, StorageFull, UnknownVersion
from tests.support.random_adapter import write_random_adapter
from tests.support.service_fixtures import Server, finished, server  # noqa: F401
from tests.support.tiny import write_tiny_gguf
from tests.support.waiting import until


def test_a_new_version_answers_within_seconds_while_a_running_reply_ends_whole_on_the_old_one(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=1000)
    try:
        old = server.service.send("me", None, "a long story")
        until(lambda: old.text)
        number = server.publish(seed=1)
        until(lambda: server.serving.version == number)
        new = server.service.send("you", None, "a long story")
        assert (old.version, new.version) == (0, number)
        finished(old), finished(new)
        assert old.error is None and server.store.reply(old.reply_id).state == "done"
        assert server.store.reply(new.reply_id).adapter_sha256 == server.store.version(number).sha256
    finally:
        server.close()


def test_rolling_back_serves_the_version_before(server):
    first = server.publish(seed=1)
    until(lambda: server.serving.version == first)
    second = server.publish(seed=2)
    until(lambda: server.serving.version == second)
    assert server.maintenance.roll_back() == first
    until(lambda: server.serving.version == first)
    assert server.maintenance.roll_back() == 0
    until(lambda: server.serving.version == 0)
    with pytest.raises(UnknownVersion, match="nothing to roll back"):
        server.maintenance.roll_back()
    server.maintenance.make_live(second)
    until(lambda: server.serving.version == second)


def test_of_a_removed_version_a_maintainer_sees_the_row_and_can_neither_make_it_live_nor_roll_back_to_it(server):
    old, between, last = (server.publish(seed=seed) for seed in (1, 2, 3))
    server.maintenance.make_live(between)
    server.maintenance.make_live(last)
    assert server.registry.remove_old(server.base.id, 2) == [old]
    assert [(v["number"], v["removed"]) for v in server.maintenance.overview()["versions"]] == [(last, False), (between, False), (old, True)]
    with pytest.raises(RemovedVersion, match=f"Version {old} cannot be used any more"):
        server.maintenance.make_live(old)
    assert [server.maintenance.roll_back(), server.maintenance.roll_back()] == [between, 0]
    until(lambda: server.serving.version == 0)


def test_of_a_run_a_maintainer_is_sent_what_the_page_shows_and_nobody_whose_honesty_it_doubts(server):
    run = server.store.start_run(server.maintenance.base.id, "shell")
    server.store.finish_run(run.id, "refused", report={
        "reason": "No.", "data": {"rater_weights": [{"rater": "foe"}]}, "refinement": {"reason": "Two.", "reached": {"steps": 6}}, "gate": None,
        "asking": {"nothing": 0.2, "told_by": {"tokens": -0.9}, "replies": 64}})
    [shown] = server.maintenance.overview()["runs"]
    assert shown["report"] == {"reason": "No.", "refinement": {"reason": "Two."}, "asking": {"nothing": 0.2, "told_by": {"tokens": -0.9}}, "gate": None}


def test_a_maintainer_sees_what_is_being_loaded_while_the_version_before_answers_and_what_is_in_its_way(server, monkeypatch):
    def seen():
        overview = server.maintenance.overview()
        return overview["serving"], overview["change"]

    assert seen() == (0, None)
    with server.serving.engine._load_lock:                              # as long as a large model takes
        number = server.publish(seed=1)
        until(lambda: server.serving.change)
        assert (server.service.status()["version"], server.service.status()["loading"]) == (0, number)
        assert seen() == (0, {"version": number, "seconds": 0, "trouble": None}) and server.maintenance.overview()["live"] == number
    until(lambda: seen() == (number, None))

    def no_room(*arguments):
        raise StorageFull("The disk is full; free some space.")

    monkeypatch.setattr(server.serving.engine, "load", no_room)
    assert server.maintenance.roll_back() == 0
    trouble = until(lambda: (change := seen()[1]) and change["trouble"])
    assert trouble == {"kind": "StorageFull", "error": "The disk is full; free some space.", "said": None} and server.serving.version == number
    assert server.service.status()["loading"] is None                   # nobody knows when


def test_a_corrupt_version_is_marked_and_the_old_one_stays(server):
    good = server.publish(seed=1)
    until(lambda: server.serving.version == good)
    version = server.registry.publish(lambda folder: write_random_adapter(server.base, folder, seed=2), base_model=server.base.id, run_id=None, parent=good)
    weights = server.registry.folder / version.folder / "adapter_model.safetensors"
    server.store.promote(good, server.base.id, "for the test")        # whatever was loaded meanwhile, go back ...
    until(lambda: server.serving.version == good)
    weights.write_bytes(weights.read_bytes()[:-8] + b"tampered")
    with pytest.raises(CorruptAdapter):
        server.maintenance.make_live(version.number)                   # ... the button is refused at once,
    server.store.promote(version.number, server.base.id, "for the test")
    until(lambda: server.store.version(version.number).error)          # and so is a promotion that came another way
    assert "sha256" in server.store.version(version.number).error
    assert server.serving.version == good and server.store.live_version(server.base.id) == good
    assert finished(server.service.send("me", None, "still there?")).version == good


def test_a_server_that_starts_on_a_damaged_version_falls_back_and_answers(tiny_base, tmp_path):
    server = Server(tiny_base, tmp_path)
    number = server.publish(seed=1)
    server.close()
    (server.registry.folder / server.store.version(number).folder / "adapter_model.safetensors").unlink()
    again = Server(tiny_base, tmp_path)
    try:
        assert again.serving.version == 0 and again.store.version(number).error
        assert finished(again.service.send("me", None, "hello")).error is None
    finally:
        again.close()


def test_a_model_file_that_is_gone_keeps_a_new_version_waiting_until_it_is_back_and_marks_nothing(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "TROUBLE_SECONDS", 0.1)
    base = import_base_model(str(write_tiny_gguf(tmp_path / "Tiny.gguf")), tmp_path / "models")
    server = Server(base, tmp_path / "state")
    try:
        gone = base.gguf.rename(tmp_path / "gone.gguf")
        number = server.registry.publish(lambda folder: write_random_adapter(tiny_base, folder, seed=1), base_model=base.id, run_id=None, parent=0).number
        trouble = until(lambda: (change := server.serving.change) and change.trouble)
        assert isinstance(trouble, ModelUnavailable) and "base.gguf" in str(trouble) and "missing" in str(trouble)
        assert server.store.version(number).error is None and server.store.live_version(base.id) == number
        assert (job := finished(server.service.send("me", None, "still there?"))).error is None and job.version == 0
        gone.rename(base.gguf)
        until(lambda: server.serving.version == number)
        assert finished(server.service.send("me", None, "and now?")).version == number
    finally:
        server.close()


def test_a_host_that_follows_a_learner_on_another_one_takes_no_request_that_nobody_would_hear(server):
    def maintenance(**settings):
        return Maintenance(server.store, server.registry, server.serving, server.base, replace(server.settings, **settings), server.service.fresh_ratings)

    with pytest.raises(NoLearnerHere, match="maintainer page of that host"):
        maintenance(sync_url="file:///somewhere", learner=False).train_now()
    assert server.store.waiting_request() is None
    for its_own in ({"sync_url": "file:///somewhere"}, {"learner": False}):         # beside this server, or started by hand
        maintenance(**its_own).train_now()
        assert server.store.waiting_request() == "maintainer"
        server.store.request_stop()
