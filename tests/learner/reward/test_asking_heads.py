"""The small model of the ratings that the app asks by: a run makes it, the server computes it alike, a deletion takes it away."""

from __future__ import annotations

import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_app.asking import sureness_of
from data.base_models.tokenizer import ChatTokenizer
from data.records import AskingHeads, Reply, Sampling
from data.store import Store
from data.texts.reply_features import FEATURES, STYLE, reply_features
from learner.config import LearnerConfig
from learner.feedback.rewards import rewards
from learner.model.batches import Example
from learner.reward.asking_heads import MIN_REPLIES, keep_asking_heads
from learner.reward.reliability import People
from learner.reward.reward_model import MAX_NOTHING, fit_reward_model
from learner.reward.scoring import feature_table
from learner.runs.run import train
from learner.training.anchor import Reference
from tests.service.test_asking import asked_about
from tests.support.conversations import RATER, registry, store  # noqa: F401
from tests.support.factories import add_reply

END = 2


@pytest.fixture(scope="module")
def tokenizer(tiny_base) -> ChatTokenizer:
    return ChatTokenizer(tiny_base.folder)


def add_one(store: Store, length: int, sure: float, *, base_model: str = "base", rater: str = RATER) -> Reply:
    """A reply to a prompt of its own, of different tokens but the one that ends it, each as sure as the others."""
    prompt = random.Random(length + sure).sample(range(100, 200), 8)
    return add_reply(store, rater, base_model=base_model, prompt_ids=prompt, completion_ids=[*range(3, 3 + length), END], logprobs=[-sure] * (length + 1))


def add_rated(store: Store, count: int = 48, *, base_model: str = "base", coin: bool = False) -> list[Reply]:
    """Replies of 4 to 43 tokens, of which the shorter half is liked, or half of them by a coin."""
    dice, added = random.Random(0), []
    for _ in range(count):
        length = dice.randrange(4, 44)
        added.append(add_one(store, length, dice.uniform(0.5, 2.5), base_model=base_model))
        store.add_rating(added[-1].id, RATER, "thumb", dice.choice((1, -1)) if coin else 1 if length < 24 else -1)
    return added


def fit(store: Store, base_model: str = "base", meanwhile=lambda: None) -> dict:
    """What a run does for it, and nothing else of a run."""
    rated, run = store.rated_replies(base_model), store.start_run(base_model, "shell")
    meanwhile()
    examples = [Example(place, one.reply.prompt_ids, one.reply.completion_ids, 1.0) for place, one in enumerate(rated)]
    return keep_asking_heads(store, run, rated, rewards(rated), examples, People(), seed=0)


def test_after_a_run_on_enough_ratings_the_app_asks_where_the_ratings_leave_most_open(store, registry, tiny_base):      # noqa: F811
    rated = add_rated(store, base_model=tiny_base.id)
    between = add_one(store, 24, 0.4, base_model=tiny_base.id)           # between what is liked and what is not, in words it is sure of
    short = add_one(store, 4, 2.6, base_model=tiny_base.id)              # surely liked, in words that it is not
    store.set_consent(RATER, True)
    which = lambda: [asked_about(store, reply, share=0.5) for reply in (between, short)]
    assert which() == [False, True]
    run = train(store, registry, tiny_base, LearnerConfig(lora_rank=4, epochs=1, min_steps=1), trigger="shell")
    asking, heads = json.loads(json.dumps(run.report))["asking"], store.asking_heads(tiny_base.id)
    assert asking["useful"] and asking["replies"] == 48 == heads.replies and heads.run_id == run.id
    assert heads.correlation == asking["correlation"] > 0.5
    assert which() == [True, False]
    store.delete_conversation(rated[0].conversation_id, RATER)
    assert which() == [False, True]


@settings(deadline=None)
@given(st.lists(st.integers(3, 30), min_size=1, max_size=40), st.booleans(), st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_both_sides_compute_the_same_of_a_reply(tokenizer, said, ended, prompt):
    ids = [*said, END] if ended else said
    reply = Reply("r", "t", "c", "me", 0, "done", tokenizer.decode(ids), 0, None, "base", "openvino", Sampling(), tuple(prompt), tuple(ids), (-1.0,) * len(ids), 1.0,
                  "stop" if ended else "length", 0, "", None, None)
    _, style = feature_table([Example(0, tuple(prompt), tuple(ids), 1.0)], Reference({}, {}, {0: torch.zeros(2)}), tokenizer)
    assert reply_features(reply)[:len(STYLE)] == pytest.approx(style[0].tolist(), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 20))
def test_the_server_is_as_unsure_as_the_learners_model(seed, far):
    torch.manual_seed(seed)
    features, rewards = torch.randn(40, len(FEATURES), dtype=torch.float64), torch.randint(0, 2, (40,)) * 2.0 - 1
    model = fit_reward_model(torch.zeros(40, 0), features, rewards, torch.rand(40) + 0.1, list(range(40)), seed=0)
    stored = AskingHeads("run", 40, 0.0, **{name: tuple(values) for name, values in json.loads(json.dumps(model.as_dict())).items()})
    _, std = model.predict(torch.zeros(40, 0), features * far)
    assert sureness_of((features * far).tolist(), stored) == pytest.approx((-std).tolist(), abs=1e-9)


def test_too_few_ratings_or_such_that_do_not_predict_each_other_are_nothing_to_ask_by(tmp_path):
    few, coin = Store(tmp_path / "few.db"), Store(tmp_path / "coin.db")
    rated = add_rated(few, MIN_REPLIES)
    assert fit(few)["useful"] and few.asking_heads("base") and few.asking_heads("another") is None
    few.add_rating(rated[0].id, RATER, "thumb", 0)
    assert fit(few) == {"replies": MIN_REPLIES - 1, "useful": False} and few.asking_heads("base") is None     # the newest run's counts, also when it has none
    add_rated(coin, coin=True)
    told = fit(coin)
    assert (told["replies"], told["useful"]) == (48, False) and told["nothing"] >= MAX_NOTHING and coin.asking_heads("base") is None


def test_replies_without_log_probs_and_corrections_tell_nothing(store):      # noqa: F811
    rated = add_rated(store, MIN_REPLIES)
    store.add_correction(rated[0].id, RATER, "better")
    imported = add_reply(store, RATER, logprobs=())
    store.add_rating(imported.id, RATER, "thumb", 1)
    assert fit(store)["replies"] == MIN_REPLIES


def test_a_deletion_takes_what_it_taught_out_of_what_is_asked_by_and_no_other_does(store):      # noqa: F811
    rated, unrated = add_rated(store), add_one(store, 9, 1.0)
    fit(store)
    exported = lambda: {reply["helps_to_choose_what_to_ask"] for conversation in store.export(RATER)["conversations"]
                        for turn in conversation["turns"] for reply in turn["replies"]}
    store.delete_conversation(unrated.conversation_id, RATER)
    assert store.asking_heads("base") and exported() == {True}
    store.delete_conversation(rated[0].conversation_id, RATER)
    assert store.asking_heads("base") is None and exported() == {False}
    assert store.row("SELECT count(model) AS n FROM asking_heads")["n"] == 0
    fit(store)
    assert store.asking_heads("base").replies == 47


def test_only_the_newest_model_of_a_lineage_is_kept_and_told_of(store):      # noqa: F811
    rated, others = add_rated(store), add_rated(store, base_model="another")
    fit(store), fit(store, "another")
    store.add_rating(rated[0].id, RATER, "thumb", 0)
    fit(store)
    assert [store.taught_what_to_ask(reply.id) for reply in (rated[0], rated[1], others[0])] == [False, True, True]
    assert [tuple(row) for row in store.rows("SELECT base_model, model IS NOT NULL FROM asking_heads ORDER BY id")] == [("base", 0), ("another", 1), ("base", 1)]
    assert store.row("SELECT count(*) AS n FROM asking_heads_replies")["n"] == 47 + 48
    assert store.asking_heads("base").replies == 47 and store.asking_heads("another").replies == 48


def test_somebody_elses_opinion_leaves_it_too_when_they_delete_everything(store):      # noqa: F811
    rated = add_rated(store)
    for rater in (RATER, "ben", "cem"):
        store.set_consent(rater, True)
        store.db["second_opinions"].insert({"reply_id": rated[0].id, "rater_id": rater, "event": "offered", "created_at": "2026"})
    store.add_rating(rated[0].id, "ben", "thumb", 1)
    fit(store)
    store.delete_everything("cem")                                       # was asked, and said nothing
    assert store.asking_heads("base")
    store.delete_everything("ben")
    assert store.asking_heads("base") is None


@pytest.mark.parametrize("delete", [lambda store, reply: store.delete_conversation(reply.conversation_id, RATER),
                                    lambda store, reply: store.delete_everything("somebody else")])
def test_what_is_deleted_while_a_run_goes_on_is_not_stored_by_it(store, delete):      # noqa: F811
    rated = add_rated(store)
    assert fit(store, meanwhile=lambda: delete(store, rated[0]))["useful"] and store.asking_heads("base") is None


def test_a_model_on_other_features_than_this_programs_is_not_asked(store, monkeypatch):      # noqa: F811
    add_rated(store)
    fit(store)
    monkeypatch.setattr("data.store.asking.FEATURES", (*FEATURES, "one_more"))
    assert store.asking_heads("base") is None
