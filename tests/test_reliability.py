"""Trust in raters, from what everybody said of other replies."""

from __future__ import annotations

import math
import random

import torch

from data.adapters import AdapterRegistry
from learner.config import LearnerConfig
from learner.reliability import QUARANTINE, Heard, reliabilities
from learner.rewards import rewards
from learner.run import train
from tests.conversations import add_reply, open_store


def crowd(conducts, each: int = 12, seed: int = 0, taste: float = 2.5):
    """Raters who each rate `each` replies of their own; quality is one direction of the features."""
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    count = each * len(conducts)
    style = torch.randn(count, 16, generator=generator)
    said = []
    for row in range(count):
        rater = row % len(conducts)
        liked = dice.random() < 1 / (1 + math.exp(-taste * float(style[row, 0])))
        value = {"honest": liked, "inverted": not liked, "generous": True, "strict": False}[conducts[rater]]
        said.append(Heard(f"{rater:02} {conducts[rater]}", row, 1.0 if value else -1.0))
    return said, torch.zeros(count, 0), style


def test_who_says_the_opposite_is_quarantined_and_who_is_honest_is_not():
    found = reliabilities(*crowd(["honest"] * 10 + ["inverted"] * 2))
    assert {rater for rater, one in found.items() if one.quarantined} == {"10 inverted", "11 inverted"}
    honest = [one.trust for rater, one in found.items() if "honest" in rater]
    assert min(honest) > 0.5 and all(one.ratings == 12 for one in found.values())


def test_who_likes_everything_whatever_it_is_says_little():
    found = reliabilities(*crowd(["honest"] * 10 + ["generous"] * 2, seed=1))
    honest = [one for rater, one in found.items() if "honest" in rater]
    assert max(found["10 generous"].trust, found["11 generous"].trust) < 0.3 < 0.9 < min(one.trust for one in honest)


def test_who_likes_everything_or_nothing_hides_no_one_who_says_the_opposite():
    said = crowd(["honest"] * 10 + ["inverted"] * 2 + ["generous"] * 5 + ["strict"] * 5, each=16, seed=3)
    found = reliabilities(*said)
    assert found["10 inverted"].quarantined and found["11 inverted"].quarantined
    assert all(one.trust > 0.9 for rater, one in found.items() if "honest" in rater)


def test_nobody_is_judged_by_few_raters_or_by_ratings_that_tell_nothing():
    lonely = reliabilities(*crowd(["honest"] * 3, each=30))
    assert all(one.trust == 1 and one.honest is None for one in lonely.values())
    least = [min(one.honest for one in reliabilities(*crowd(["honest"] * 10, taste=0.0, seed=seed)).values()) for seed in range(8)]
    assert min(least) > QUARANTINE and sum(one > 0.7 for one in least) >= 7      # about as people are thought of before they rated


def rated_by(store, base, rater: str, ids: list[int], thumb: int, number: int) -> str:
    reply = add_reply(store, base, f"question {rater} {number}", ids, rater=rater)
    store.add_rating(reply.id, rater, "thumb", thumb)
    return reply.id


def add_crowd(store, base) -> list[str]:
    """Five people like short replies, a sixth the opposite; returns the sixth's replies."""
    dice, theirs = random.Random(0), []
    for number in range(12):
        for rater in ("ann", "ben", "cleo", "dan", "eva", "foe"):
            ids = [dice.randrange(3, 200) for _ in range(dice.choice((4, 6, 20, 24)))] + [2]
            likes = 1 if (len(ids) < 12) != (rater == "foe") else -1
            reply = rated_by(store, base, rater, ids, likes, number)
            theirs += [reply] if rater == "foe" else []
    return theirs


def test_what_a_rater_of_no_trust_said_is_as_if_unsaid(tmp_path, tiny_base):
    store, base_id = open_store(tmp_path), tiny_base.id
    theirs = add_crowd(store, tiny_base)
    everybody = store.rated_replies(base_id)
    without = {reward.reply_id: reward for reward in rewards(everybody, {"foe": 0.0})}
    alone = {reward.reply_id: reward for reward in rewards([rated for rated in everybody if rated.reply.id not in theirs])}
    assert all(without[reply].weight == 0 and not without[reply].rating_ids for reply in theirs)
    assert {reply: without[reply] for reply in alone} == alone
    half = {reward.reply_id: reward for reward in rewards(everybody, {"foe": 0.5})}
    full = {reward.reply_id: reward for reward in rewards(everybody)}
    assert all(half[reply].weight < full[reply].weight for reply in theirs)


def test_a_run_names_who_rates_against_all_others_and_learns_nothing_from_them(tmp_path, tiny_base):
    store = open_store(tmp_path)
    theirs = add_crowd(store, tiny_base)
    run = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, LearnerConfig(lora_rank=4, epochs=1, min_steps=1), trigger="shell")
    foe, *others = run.report["data"]["raters_judged"]
    assert foe["rater"] == "foe" and foe["ratings"] == 12 and foe["quarantined"]
    assert {one["rater"] for one in others} == {"ann", "ben", "cleo", "dan", "eva"} and not any(one["quarantined"] for one in others)
    assert not any(store.receipts(reply) for reply in theirs) and run.report["ratings_used"] == 60
    assert "60 rated replies from 5 people" in store.version(1).note
