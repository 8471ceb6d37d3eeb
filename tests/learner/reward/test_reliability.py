"""Trust in raters, from what everybody said of other replies."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from data.adapters import AdapterRegistry
from data.records import Generated
from learner.config import LearnerConfig
from learner.feedback.rewards import rewards
from learner.reward.crowd import PRIOR
from learner.reward.reliability import QUARANTINE, Heard, reliabilities
from learner.runs.run import train
from tests.support.conversations import add_reply, open_store


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
    found = reliabilities(*crowd(["honest"] * 10 + ["inverted"] * 2)).raters
    assert {rater for rater, one in found.items() if one.trust == 0} == {"10 inverted", "11 inverted"}
    honest = [one.trust for rater, one in found.items() if "honest" in rater]
    assert min(honest) > 0.5 and all(one.ratings == 12 for one in found.values())


def test_who_says_the_opposite_stays_in_quarantine_however_much_they_rate():
    for ratings in (40, 95):
        said, _, style = crowd(["honest"] * 9 + ["inverted"], each=ratings)
        some = [one for one in said if "inverted" in one.rater_id or one.row < 200]                  # 20 of each honest one's
        found = reliabilities(some, torch.zeros(len(style), 0), style).raters
        assert found["9 inverted".rjust(11, "0")].trust == 0 and sum(one.trust == 0 for one in found.values()) == 1, ratings


def test_who_only_compares_is_trusted_as_anybody_is_before_they_rated(tmp_path, tiny_base):
    store = open_store(tmp_path)
    dice = random.Random(0)
    for number in range(60):
        ids = [dice.randrange(3, 200) for _ in range(dice.choice((4, 30)))] + [2]
        reply = add_reply(store, tiny_base, f"question {number}", ids, rater=f"r{number % 5}")
        store.add_rating(reply.id, f"r{number % 5}", "thumb", 1 if len(ids) < 20 else -1)
    first = add_reply(store, tiny_base, "which", [5, 6, 2], rater="comparer")
    second = store.start_reply(first.turn_id, 0, None, tiny_base.id, "test", first.sampling, first.prompt_ids)
    store.finish_reply(second.id, "other", Generated((7, 8, 2), (), 1.0, "stop"), 0.1, 1.0)
    store.add_comparison(first.id, second.id, "comparer", "first")
    report = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, LearnerConfig(lora_rank=4, epochs=1, min_steps=1), trigger="shell").report
    told = {one["rater"]: one for one in report["data"]["rater_weights"]}
    assert told["comparer"]["weight"] == pytest.approx(PRIOR["honest"] + PRIOR["constant"] / 2, abs=1e-3) and told["r0"]["honest"] > PRIOR["honest"]


def test_who_likes_everything_whatever_it_is_says_little():
    found = reliabilities(*crowd(["honest"] * 10 + ["generous"] * 2, seed=1)).raters
    honest = [one for rater, one in found.items() if "honest" in rater]
    assert max(found["10 generous"].honest, found["11 generous"].honest) < 0.3 and min(one.trust for one in honest) > 0.9
    assert 0 < found["10 generous"].trust < 0.7      # it may be that they speak up for what they like alone
    assert found["10 generous"].levels["dialogue"] > 0.5 > max(abs(one.levels["dialogue"]) for one in honest) - 1


def test_who_speaks_up_for_what_they_like_alone_is_not_in_quarantine_however_much_they_say():
    said, summaries, style = crowd(["honest"] * 12, each=40, seed=2)
    selective = [one for one in said if one.rater_id != "11 honest" or one.value > 0]
    people = reliabilities(selective, summaries, style).raters
    assert people["11 honest"].trust > 0.3 and all(people[f"{number:02} honest"].trust > 0.9 for number in range(11))


def test_who_gives_two_to_four_stars_by_what_others_go_by_is_as_honest_as_who_thumbs():
    for seed in range(4):
        said, summaries, style = crowd(["honest"] * 10, each=30, seed=seed)
        mild = [replace(one, value=one.value / 2) if one.rater_id == "03 honest" else one for one in said]
        assert reliabilities(mild, summaries, style).raters["03 honest"].honest > 0.9


def test_where_two_parties_are_at_odds_nobody_is_distrusted():
    people = reliabilities(*crowd(["honest"] * 6 + ["inverted"] * 4, each=20, seed=1)).raters
    assert {one.trust for one in people.values()} == {1.0} and min(one.honest for one in people.values()) < QUARANTINE


def test_who_likes_everything_or_nothing_hides_no_one_who_says_the_opposite():
    found = reliabilities(*crowd(["honest"] * 10 + ["inverted"] * 2 + ["generous"] * 5 + ["strict"] * 5, each=16, seed=3)).raters
    assert found["10 inverted"].trust == found["11 inverted"].trust == 0
    assert all(one.trust > 0.9 for rater, one in found.items() if "honest" in rater)


def test_nobody_is_judged_by_few_raters_or_by_ratings_that_tell_nothing():
    lonely = reliabilities(*crowd(["honest"] * 3, each=30))
    assert all(one.trust == 1 and one.honest is None for one in lonely.raters.values()) and lonely.nothing == 0 and not lonely.levels
    neutral = [replace(one, value=0.0) for one in crowd(["honest"] * 5)[0]]
    for some in (0, 47):                                                         # three stars have no direction, so these say nothing of anybody
        told = reliabilities([*crowd(["honest"] * 5)[0][:some], *neutral[some:]], *crowd(["honest"] * 5)[1:])
        assert all(one.trust == 1 and one.honest is None and one.ratings == 12 for one in told.raters.values())
    least = [min(one.honest for one in reliabilities(*crowd(["honest"] * 10, taste=0.0, seed=seed)).raters.values()) for seed in range(8)]
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
    foe, *others = run.report["data"]["rater_weights"]
    assert foe["rater"] == "foe" and foe["ratings"] == 12 and foe["weight"] == 0 and foe["honest"] < 0.05
    assert len(others) == 5 and all(one["weight"] >= one["honest"] > 0.8 and one["ratings"] == 12 for one in others)
    assert not any(store.receipts(reply) for reply in theirs) and run.report["ratings_used"] == 60
    assert "60 rated replies from 5 people" in store.version(1).note
    store.delete_everything("foe")
    assert store.run(run.id).report["data"]["rater_weights"] == others and "foe" not in store.row("SELECT report FROM runs")["report"]
