"""Whole runs on a tiny model: ratings become a version, or none, and the report says why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from data.adapters import AdapterRegistry
from data.errors import ChatError
from data.records import Progress
from data.sentences import sentence
from learner.config import LearnerConfig
from learner.runs.run import train
from tests.support import factories
from tests.support.conversations import RATER, add_rated_replies, add_reply, open_store, registry, store  # noqa: F401

CONFIG = LearnerConfig(lora_rank=4)


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


@pytest.mark.parametrize(("count", "state"), [(8, "published"), (40, "nothing_to_do")])
def test_of_thumbs_down_alone_a_few_push_away_and_many_tell_no_reply_from_another(store, registry, tiny_base, count, state):
    """From 24 on the baseline is lower than any of them can be pushed: what was left was rounding, and a version of it."""
    for reply in add_rated_replies(store, tiny_base, count):
        store.add_rating(reply.id, RATER, "thumb", -1)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert run.state == state and (state == "published" or "all ratings say the same" in run.report["reason"])


def test_ratings_that_were_all_deleted_are_forgotten_by_the_next_run(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 4)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    store.delete_everything(RATER)
    assert run.state == "published" and store.live_version(tiny_base.id) == run.version and store.fresh_ratings(tiny_base.id) == 4
    assert train(store, registry, tiny_base, CONFIG, trigger="time").state == "nothing_to_do" and store.live_version(tiny_base.id) == 0


def test_a_version_of_deleted_ratings_does_not_live_on_by_what_teaches_nothing(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 4)
    assert train(store, registry, tiny_base, CONFIG, trigger="shell").state == "published"
    store.delete_everything(RATER)
    store.add_reasons(factories.add_reply(store, "another", base_model=tiny_base.id).id, "another", ["helpful", "wrong"])
    assert len(store.rated_replies(tiny_base.id)) == 1
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
    assert run.state == "refused" and "refused because it moved" in run.report["reason"] and not run.report["published"] and "kl" not in run.report
    assert store.live_version(tiny_base.id) == 0 and not store.versions(tiny_base.id) and not list(registry.folder.iterdir())


def with_one_who_left(store, registry, base) -> None:
    """A live version that two people's ratings made, one of whom deleted everything since."""
    add_rated_replies(store, base, 8)
    store.add_rating(add_reply(store, base, "mine", [5, 6, 7, 2], rater="leaver").id, "leaver", "thumb", 1)
    assert train(store, registry, base, CONFIG, trigger="shell").state == "published"
    store.delete_everything("leaver")


@pytest.mark.parametrize("changed", [{"gate": replace(CONFIG.gate, max_kl=0.0)}, {"learning_rate": 1e30, "max_gradient_norm": 1e30}, {"max_reply_tokens": 1}])
def test_what_somebody_deleted_does_not_live_on_where_no_version_without_it_is_published(store, registry, tiny_base, changed):
    with_one_who_left(store, registry, tiny_base)
    run = train(store, registry, tiny_base, replace(CONFIG, **changed), trigger="time")
    assert run.state in ("refused", "nothing_to_do") and store.live_version(tiny_base.id) == 0
    assert "holds what somebody deleted" in store.promotions(tiny_base.id)[0].reason
    assert "so the base model answers from now on" in run.report["reason"] and "stays live" not in run.report["reason"]


def test_where_a_version_made_without_what_was_deleted_cannot_be_loaded_the_base_model_answers(store, registry, tiny_base):
    with_one_who_left(store, registry, tiny_base)
    assert train(store, registry, tiny_base, CONFIG, trigger="time").version == store.live_version(tiny_base.id) == 2
    store.mark_failed(2, ChatError("damaged"))
    assert store.live_version(tiny_base.id) == 0


def test_training_that_diverges_is_refused_with_advice(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 8)
    run = train(store, registry, tiny_base, replace(CONFIG, learning_rate=1e30, max_gradient_norm=1e30), trigger="shell")
    assert run.state == "refused" and "LEARNING_RATE" in run.report["reason"] and run.report["gate"]["passed"] is False
    assert not store.versions(tiny_base.id)
    json.dumps(run.report, allow_nan=False)
