"""`python -m learner` as a person or a script starts it: what it prints, and what it exits with."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from data.adapters import AdapterRegistry
from data.errors import UnknownReply
from learner.config import LearnerConfig
from learner.feedback.rewards import rewards
from learner.feedback.why import why
from learner.runs.run import train
from tests.support.conversations import add_rated_replies, add_reply, open_store
from tests.support.factories import write_adapter
from tests.support.learner_process import shell
from tests.support.server_process import ROOT

CONFIG = LearnerConfig(lora_rank=4)


def test_a_script_that_finds_another_learner_at_work_is_told_so_in_json(tmp_path, tiny_base):
    store = open_store(tmp_path)
    assert store.acquire_lease("learner", "elsewhere:1", 60)
    script = """
import functools, sys
from learner import __main__ as learner
from learner.runs import session
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


def test_the_shell_tells_how_a_reply_came_to_its_reward_step_by_step(tmp_path, tiny_base):
    """Ten of ann's replies, four liked, and one of ben's, whose word counts half: it was rated last."""
    store = open_store(tmp_path)
    *_, anns = add_rated_replies(store, tiny_base, 10)
    bens = add_reply(store, tiny_base, "ben's", [5, 6, 2], rater="ben")
    store.add_rating(bens.id, "ben", "thumb", -1)
    run = store.start_run(tiny_base.id, "shell")
    store.finish_run(run.id, "refused", report={"data": {"rater_weights": [{"rater": "ben", "ratings": 1, "honest": 0.5, "weight": 0.5}]}})
    told = why(store, tiny_base, 320)
    assert told["reply"] == bens.id and told["trust_of_run"] == run.id and told["receipts"] == []
    assert [(one["rater"], one["value"], one["trust"]) for one in told["raters"]] == [("ben", -1.0, 0.5)]
    half, whole = (rewards(store.rated_replies(tiny_base.id), trust)[-1].weight for trust in ({"ben": 0.5}, {}))
    assert told["weight"] == pytest.approx(half, abs=1e-4) and half < whole
    child = shell(tmp_path, tiny_base, "--why", anns.id)
    output, errors = child.communicate(timeout=400)
    said = json.loads(output)
    assert child.returncode == 0 and (said["reply"], said["message"]) == (anns.id, "question 9") and said["raters"][0]["value"] == 1
    with pytest.raises(UnknownReply, match="'nobody'"):
        why(store, tiny_base, 320, "nobody")


def test_a_fresh_lineage_lets_the_base_model_answer_and_deletes_nothing(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, CONFIG, trigger="shell")
    child = shell(tmp_path, tiny_base, "--fresh")
    _, errors = child.communicate(timeout=400)
    assert child.returncode == 0 and "answers without an adapter now (version 1 did before)" in errors
    assert store.live_version(tiny_base.id) == 0 and len(store.versions(tiny_base.id)) == 1 and len(store.rated_replies(tiny_base.id)) == 4


def test_a_run_from_the_shell_ends_by_removing_the_versions_that_are_too_old(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    registry = AdapterRegistry(store, tmp_path / "adapters")
    for number in range(3):
        registry.publish(write_adapter(bytes([number])), base_model=tiny_base.id, run_id=None, parent=store.live_version(tiny_base.id))
    child = shell(tmp_path, tiny_base, "--once", "--json", KEEP_VERSIONS="2", REFINE="false", LORA_RANK="4")
    output, errors = child.communicate(timeout=400)
    assert json.loads(output.splitlines()[-1])["state"] == "published", errors
    assert [(v.number, v.removed_at is not None) for v in store.versions(tiny_base.id)] == [(4, False), (3, False), (2, True), (1, True)]
    assert {path.name for path in registry.folder.iterdir()} == {store.version(number).folder for number in (3, 4)}
