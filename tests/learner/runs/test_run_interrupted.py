"""Runs on a tiny model that are stopped, or killed at any moment: nothing half done is left, and what was asked for is done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from data.adapters import AdapterRegistry
from data.records import Progress, Run
from data.store.database import now
from learner.config import LearnerConfig
from learner.model.policy import Policy
from learner.runs.run import train
from learner.runs.session import close_interrupted_runs, open_run
from tests.support.conversations import RATER, add_rated_replies, open_store, registry, store  # noqa: F401
from tests.support.learner_process import shell
from tests.support.server_process import ROOT
from tests.support.waiting import until

CONFIG = LearnerConfig(lora_rank=4)


def test_a_stop_request_ends_the_run_between_steps_and_publishes_nothing(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 8)

    def stop_at_third(progress: Progress) -> None:
        if progress.step == 3:
            store.request_stop()

    run = train(store, registry, tiny_base, CONFIG, trigger="maintainer", on_progress=stop_at_third)
    assert run.state == "stopped" and run.progress.step == 3 and not store.versions(tiny_base.id)
    assert "A maintainer stopped the run" in run.report["reason"] and run.report["said"] == {"code": "stopped", "minutes": 60}
    assert store.fresh_ratings(tiny_base.id) == 8                    # they still wait for a run that ends


def test_what_is_deleted_while_a_run_learns_from_it_is_in_no_version(store, registry, tiny_base):
    reply, deleted = add_rated_replies(store, tiny_base, 4)[0], []
    run = train(store, registry, tiny_base, CONFIG, trigger="maintainer",
                on_progress=lambda p: p.stage == "gate" and not deleted and deleted.append(store.delete_conversation(reply.conversation_id, RATER)))
    assert run.state == "interrupted" and "deleted" in run.report["reason"] and not store.versions(tiny_base.id)
    assert store.waiting_request() == "maintainer", "a maintainer's request is not lost by somebody's deletion"
    again = train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert again.state == "published" and again.report["data"]["replies"] == 3 and not store.receipts(reply.id)


def test_what_is_deleted_while_the_candidate_is_being_written_is_in_no_version_either(store, registry, tiny_base, monkeypatch):
    replies = add_rated_replies(store, tiny_base, 4)
    for rater in (RATER, "bea"):
        store.set_consent(rater, True)
    with store.write() as db:                                         # a second opinion: what it was of stays where it is
        db["second_opinions"].insert({"reply_id": replies[1].id, "rater_id": "bea", "event": "offered", "created_at": now()})
    store.add_rating(replies[1].id, "bea", "thumb", 1)
    save = Policy.save

    def train_and_meanwhile(then) -> Run:
        monkeypatch.setattr(Policy, "save", lambda policy, folder: [save(policy, folder), then()])
        return train(store, registry, tiny_base, CONFIG, trigger="shell")

    for then in (lambda: store.delete_conversation(replies[0].conversation_id, RATER), lambda: store.delete_everything("bea")):
        run = train_and_meanwhile(then)
        assert run.state == "interrupted" and "deleted" in run.report["reason"]
        assert not store.versions(tiny_base.id) and not list(registry.folder.iterdir())
    assert train_and_meanwhile(lambda: store.delete_everything("somebody else")).state == "published"


def test_a_run_whose_process_is_ended_says_so_and_what_a_maintainer_asked_for_is_asked_for_again(store, registry, tiny_base):
    def ended(trigger: str) -> Run:
        with open_run(store, registry, tiny_base.id, trigger, should_stop=lambda: True) as (run, pace):
            pace.stage("train")
        return store.run(run.id)

    run = ended("maintainer")
    assert (run.state, run.report["said"]["next"]["code"], store.waiting_request()) == ("interrupted", "again_asked", "maintainer")
    assert "no rating was lost. It starts again by itself" in run.report["reason"]
    for trigger, then in (("time", "again_due"), ("shell", "again_shell")):
        assert ended(trigger).report["said"]["next"]["code"] == then and store.waiting_request() is None


def test_after_two_kills_in_a_row_a_person_looks_first(store, registry, tiny_base):
    for then in ("again_asked", "again_by_hand"):
        killed = store.start_run(tiny_base.id, "maintainer")
        close_interrupted_runs(store, registry)
        assert store.run(killed.id).state == "interrupted" and store.run(killed.id).report["said"]["next"]["code"] == then
        assert store.waiting_request() == ("maintainer" if then == "again_asked" else None)
    stopped = store.start_run(tiny_base.id, "maintainer")
    store.request_stop()
    close_interrupted_runs(store, registry)
    assert store.run(stopped.id).state == "stopped" and store.waiting_request() is None


def test_a_run_killed_between_publication_and_its_last_word_is_closed_as_published(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 4)
    train(store, registry, tiny_base, CONFIG, trigger="shell")
    killed = store.start_run(tiny_base.id, "ratings")
    registry.publish(lambda folder: [(folder / path.name).write_bytes(path.read_bytes()) for path in registry.verify(1).iterdir()],
                     base_model=tiny_base.id, run_id=killed.id, parent=1)
    train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert store.run(killed.id).state == "published" and store.run(killed.id).version == 2


def test_a_run_killed_in_its_middle_is_done_again_and_nothing_half_done_is_left(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 16)
    child = shell(tmp_path, tiny_base, "--once", EPOCHS="100")
    until(lambda: (run := store.last_run()) and run.progress.step > 5, 400)
    child.kill()
    child.communicate()
    assert store.last_run().state == "running" and not store.versions(tiny_base.id)

    again = shell(tmp_path, tiny_base, "--once", "--json", EPOCHS="1")        # waits for the dead learner's lease to run out
    output, errors = again.communicate(timeout=400)
    assert again.returncode == 0, errors
    report = json.loads(output.splitlines()[-1])
    assert report["published"] is True and report["version"] == 1 and report["ratings_used"] == 16 and report["gate"]["passed"]
    assert sorted(run.state for run in store.runs()) == ["interrupted", "published"]
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [store.version(1).folder]


def test_a_run_killed_while_it_writes_the_adapter_leaves_no_version_and_the_next_sweeps(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    script = """
import os, signal, sys
from learner import __main__ as learner
from learner.model import policy
save = policy.Policy.save
def save_and_die(self, folder):
    save(self, folder)
    if "adapters" in folder.parts:                     # and not when it is written for the sampler alone
        os.kill(os.getpid(), signal.SIGKILL)
policy.Policy.save = save_and_die
sys.exit(learner.main(["--once"]))
"""
    died = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=400,
                          env={**os.environ, "STATE_DIR": str(tmp_path), "BASE_MODEL": tiny_base.source})
    assert died.returncode == -signal.SIGKILL and not store.versions(tiny_base.id)
    assert len(list((tmp_path / "adapters").iterdir())) == 1          # the folder without a row
    store.release_lease("learner", store.row("SELECT owner FROM leases WHERE name = 'learner'")["owner"])
    run = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, CONFIG, trigger="shell")
    assert run.state == "published"
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [store.version(1).folder]
