"""Whole runs on a tiny model: publication, killing, stopping, repeating."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from data.adapters import AdapterRegistry
from data.errors import Busy
from data.records import Progress, Run
from data.sentences import sentence
from learner.config import LearnerConfig
from learner.lease import learner_lease
from learner.run import train
from learner.session import close_interrupted_runs, open_run
from learner.steps import count_steps, learning_rate_at
from tests.conversations import RATER, add_rated_replies, add_reply, open_store, registry, store  # noqa: F401

CONFIG = LearnerConfig(lora_rank=4)
ROOT = Path(__file__).parent.parent


def test_ratings_become_a_live_version_with_receipts_and_a_report(store, registry, tiny_base):
    replies = add_rated_replies(store, tiny_base, 20)
    seen: list[Progress] = []
    run = train(store, registry, tiny_base, CONFIG, trigger="maintainer", on_progress=seen.append)
    assert run.state == "published" and run.version == store.live_version(tiny_base.id) == 1
    assert registry.verify(1).is_dir() and store.version(1).run_id == run.id
    assert store.fresh_ratings(tiny_base.id) == 0

    report = json.loads(json.dumps(run.report, allow_nan=False))
    assert report["ratings_used"] == 20 and report["data"]["thumbs_up"] == 7 and report["data"]["thumbs_down"] == 13
    assert report["gate"]["passed"] and len(report["gate"]["replies"]) == 8
    assert report["reason"] == ("It was only checked for broken language and passed; that it is better than the version before was not shown, "
                                "because every rating went into the training.")
    assert store.version(1).note == report["note"] == "Trained on 20 rated replies from 1 person."
    assert sentence(report["said"], "zh") == "只检查了语言是否损坏，候选版本通过了；没有证明它比上一版更好，因为所有评分都用在了训练上。"
    assert sentence(store.notes_said(tiny_base.id)[1], "zh") == "由 1 人评分的 20 条回答训练而成。"

    liked, = store.receipts(replies[0].id)
    disliked, = store.receipts(replies[1].id)
    assert (liked.version, liked.reward, disliked.reward) == (1, 1.0, -1.0)
    assert liked.advantage > 0 > disliked.advantage and len(liked.rating_ids) == 1
    assert liked.logprob_after > liked.logprob_before

    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == ["collect", "load", "anchor", "train", "gate", "publish"]
    steps = [progress for progress in seen if progress.stage == "train" and progress.step]
    assert [progress.step for progress in steps] == list(range(1, steps[-1].steps + 1)) and len(steps) >= 8
    assert all(p.loss is not None and p.reward is not None and p.kl is not None for p in steps)
    assert all(p.seconds_left is not None for p in steps[2:]) and not any(p.seconds_left for p in seen if p.stage in ("load", "anchor"))


def test_without_ratings_there_is_nothing_to_do(store, registry, tiny_base):
    add_reply(store, tiny_base, "hello", [5, 6, 2])
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert run.state == "nothing_to_do" and "no reply of this base model has a rating" in run.report["reason"]
    assert store.live_version(tiny_base.id) == 0


def test_ratings_that_were_all_deleted_are_forgotten_by_the_next_run(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 4)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    store.delete_everything(RATER)
    assert run.state == "published" and store.live_version(tiny_base.id) == run.version and store.fresh_ratings(tiny_base.id) == 4
    assert train(store, registry, tiny_base, CONFIG, trigger="time").state == "nothing_to_do" and store.live_version(tiny_base.id) == 0


def test_a_reply_that_is_too_long_is_left_out_and_counted(store, registry, tiny_base):
    lengths = sorted(len(reply.prompt_ids) + len(reply.completion_ids) for reply in add_rated_replies(store, tiny_base, 4))
    run = train(store, registry, tiny_base, replace(CONFIG, max_reply_tokens=lengths[2]), trigger="shell")
    assert run.state == "published" and run.report["ratings_used"] == 3
    assert (run.report["data"]["left_out_too_long"], run.report["data"]["replies"]) == (1, 3)
    none = train(store, registry, tiny_base, replace(CONFIG, max_reply_tokens=5), trigger="shell")
    assert none.state == "nothing_to_do" and "longer than 5 tokens" in none.report["reason"]


def test_the_same_ratings_and_seed_give_the_same_adapter_and_another_seed_another(tmp_path, tiny_base):
    def adapter(name: str, seed: int) -> str:
        store = open_store(tmp_path / name)
        add_rated_replies(store, tiny_base, 12)
        train(store, AdapterRegistry(store, tmp_path / name / "adapters"), tiny_base, replace(CONFIG, seed=seed), trigger="shell")
        return store.version(1).sha256

    assert adapter("one", 0) == adapter("two", 0) != adapter("three", 1)


def test_taking_a_rating_back_takes_its_influence_out_of_the_next_version(tmp_path, tiny_base):
    def store_with(name: str, count: int):
        store = open_store(tmp_path / name)
        return store, add_rated_replies(store, tiny_base, count), AdapterRegistry(store, tmp_path / name / "adapters")

    changed, replies, registry = store_with("changed", 9)
    train(changed, registry, tiny_base, CONFIG, trigger="shell")
    changed.add_rating(replies[-1].id, RATER, "thumb", 0)
    train(changed, registry, tiny_base, CONFIG, trigger="shell")
    never, _, registry = store_with("never", 8)
    train(never, registry, tiny_base, CONFIG, trigger="shell")
    assert changed.version(2).sha256 == never.version(1).sha256 != changed.version(1).sha256


def test_a_refused_candidate_leaves_the_live_version_alone(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 8)
    run = train(store, registry, tiny_base, replace(CONFIG, gate=replace(CONFIG.gate, max_kl=0.0)), trigger="shell")
    assert run.state == "refused" and "refused because it moved" in run.report["reason"] and not run.report["published"]
    assert store.live_version(tiny_base.id) == 0 and not store.versions(tiny_base.id) and not list(registry.folder.iterdir())


def test_few_ratings_get_more_passes_but_are_not_learnt_by_heart():
    assert count_steps(1, CONFIG) == 8                                # one reply: eight passes
    assert count_steps(4, CONFIG) == 16                               # 32 replies: four passes make 16 steps
    assert count_steps(24, CONFIG) == 48                              # 192 replies: the two passes asked for
    assert count_steps(4, replace(CONFIG, epochs=10)) == 40


def test_the_learning_rate_climbs_then_falls_to_a_third():
    rates = [learning_rate_at(step, 40, CONFIG) / CONFIG.learning_rate for step in range(40)]
    assert rates[0] == 0.25 and rates[-1] == pytest.approx(1 / 3) and max(rates) == rates[3] < 1


def test_training_that_diverges_is_refused_with_advice(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 8)
    run = train(store, registry, tiny_base, replace(CONFIG, learning_rate=1e30, max_gradient_norm=1e30), trigger="shell")
    assert run.state == "refused" and "LEARNING_RATE" in run.report["reason"] and run.report["gate"]["passed"] is False
    assert not store.versions(tiny_base.id)
    json.dumps(run.report, allow_nan=False)


def test_a_stop_request_ends_the_run_between_steps_and_publishes_nothing(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 8)

    def stop_at_third(progress: Progress) -> None:
        if progress.step == 3:
            store.request_stop()

    run = train(store, registry, tiny_base, CONFIG, trigger="maintainer", on_progress=stop_at_third)
    assert run.state == "stopped" and run.progress.step == 3 and not store.versions(tiny_base.id)
    assert "A maintainer stopped the run" in run.report["reason"] and run.report["said"] == {"code": "stopped", "minutes": 60}
    assert store.fresh_ratings(tiny_base.id) == 8                    # they still wait for a run that ends


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


def test_replies_of_an_earlier_version_are_compared_with_that_version(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 6)
    train(store, registry, tiny_base, CONFIG, trigger="shell")
    reply = add_reply(store, tiny_base, "again", [9, 10, 11, 2], version=1, logprobs=(-5.0, -5.0, -5.0, -5.0))
    store.add_rating(reply.id, RATER, "stars", 5)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    behavior = run.report["behavior"]
    assert behavior["versions"] == {"0": 6, "1": 1} and behavior["unreadable_versions"] == []
    assert behavior["compared_tokens"] == 4 and isinstance(behavior["served_minus_learner"], float)

    (registry.verify(1) / "adapter_model.safetensors").write_bytes(b"not weights")
    again = train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert again.state == "published" and again.report["behavior"]["unreadable_versions"] == [1]


def test_served_logprobs_are_compared_at_the_temperature_they_were_recorded_at(store, registry, tiny_base, monkeypatch):
    import torch

    from learner.batches import Example, make_batch
    from learner.policy import Policy

    reply = add_reply(store, tiny_base, "hello", [40, 41, 42, 2])
    with torch.no_grad():
        exact = Policy(tiny_base).scores(make_batch([Example(0, reply.prompt_ids, reply.completion_ids, 1.0)])).logprobs[0].tolist()
    known = add_reply(store, tiny_base, "hello", [40, 41, 42, 2], logprobs=[value + 0.25 for value in exact])
    store.add_rating(known.id, RATER, "thumb", 1)
    monkeypatch.setattr("learner.behavior.COMPARED_REPLIES", 1)
    store.add_correction(known.id, RATER, "ab")                      # a text that nothing sampled takes nobody's place
    behavior = train(store, registry, tiny_base, CONFIG, trigger="shell").report["behavior"]
    assert behavior["served_minus_learner"] == pytest.approx(0.25, abs=0.02) == behavior["served_abs_difference"]


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


def test_what_is_deleted_while_a_run_learns_from_it_is_in_no_version(store, registry, tiny_base):
    reply = add_rated_replies(store, tiny_base, 4)[0]
    run = train(store, registry, tiny_base, CONFIG, trigger="shell",
                on_progress=lambda p: p.stage == "gate" and not store.deleted_among([reply.id]) and store.delete_conversation(reply.conversation_id, RATER))
    assert run.state == "interrupted" and "deleted" in run.report["reason"] and not store.versions(tiny_base.id)
    again = train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert again.state == "published" and again.report["data"]["replies"] == 3 and not store.receipts(reply.id)


def test_a_run_killed_between_publication_and_its_last_word_is_closed_as_published(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 4)
    train(store, registry, tiny_base, CONFIG, trigger="shell")
    killed = store.start_run(tiny_base.id, "ratings")
    registry.publish(lambda folder: [(folder / path.name).write_bytes(path.read_bytes()) for path in registry.verify(1).iterdir()],
                     base_model=tiny_base.id, run_id=killed.id, parent=1)
    train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert store.run(killed.id).state == "published" and store.run(killed.id).version == 2


def shell(state: Path, tiny_base, *arguments: str, **environment: str) -> subprocess.Popen:
    """`python -m learner ...` on this state folder."""
    return subprocess.Popen([sys.executable, "-m", "learner", *arguments], cwd=ROOT, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "STATE_DIR": str(state), "BASE_MODEL": tiny_base.source, **environment})


def wait_for(condition, seconds: float = 400):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return found


def test_a_run_killed_in_its_middle_is_done_again_and_nothing_half_done_is_left(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 16)
    child = shell(tmp_path, tiny_base, "--once", EPOCHS="100")
    wait_for(lambda: (run := store.last_run()) and run.progress.step > 5)
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
from learner import __main__ as learner, policy
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


def test_a_script_that_finds_another_learner_at_work_is_told_so_in_json(tmp_path, tiny_base):
    store = open_store(tmp_path)
    assert store.acquire_lease("learner", "elsewhere:1", 60)
    script = """
import functools, sys
from learner import __main__ as learner, session
session.learner_lease = functools.partial(session.learner_lease, wait=0.1)
sys.exit(learner.main(["--once", "--json"]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=400, text=True,
                          env={**os.environ, "STATE_DIR": str(tmp_path), "BASE_MODEL": tiny_base.source})
    said = json.loads(done.stdout)
    assert done.returncode == 1 and "Another learner" in done.stderr and not store.runs()
    assert said == {"state": "busy", "reason": said["reason"], "published": False, "version": 0, "ratings_used": 0, "gate": None}


def test_the_shell_says_errors_in_one_sentence_and_exits_with_one(tmp_path, tiny_base):
    child = shell(tmp_path, tiny_base, "--once", "--json", BASE_MODEL=str(tmp_path / "no-such.gguf"))
    output, errors = child.communicate(timeout=400)
    assert child.returncode == 1 and output == "" and len(errors.strip().splitlines()) == 1 and "no-such.gguf" in errors


@pytest.mark.slow
def test_watching_serves_a_request_without_loading_torch_itself_and_ends_on_sigterm(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    child = shell(tmp_path, tiny_base, "--watch", TRAIN_EVERY_RATINGS="0")
    try:
        store.request_training("maintainer")
        wait_for(lambda: store.live_version(tiny_base.id) == 1)
        assert store.last_run().trigger == "maintainer"
        assert "torch" not in Path(f"/proc/{child.pid}/maps").read_text()
        child.send_signal(signal.SIGTERM)
        assert child.wait(90) == 0
    finally:
        child.kill()
        child.communicate()
    assert store.due_at() is not None


@pytest.mark.slow
def test_watching_starts_by_itself_after_enough_ratings_and_ends_with_its_parents_pipe(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    child = shell(tmp_path, tiny_base, "--watch", "--until-stdin-closes", TRAIN_EVERY_RATINGS="4")
    try:
        wait_for(lambda: store.live_version(tiny_base.id) == 1)
        assert store.last_run().trigger == "ratings"
        child.stdin.close()
        assert child.wait(90) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def test_a_fresh_lineage_lets_the_base_model_answer_and_deletes_nothing(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, CONFIG, trigger="shell")
    child = shell(tmp_path, tiny_base, "--fresh")
    _, errors = child.communicate(timeout=400)
    assert child.returncode == 0 and "answers without an adapter now (version 1 did before)" in errors
    assert store.live_version(tiny_base.id) == 0 and len(store.versions(tiny_base.id)) == 1 and len(store.rated_replies(tiny_base.id)) == 4
