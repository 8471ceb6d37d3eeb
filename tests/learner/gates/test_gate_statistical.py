"""G1: who judges, how sure it is, and what it does when it cannot tell."""

from __future__ import annotations

import random

import pytest
import torch

from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.records import Generated, Sampling
from data.sentences import said, sentence
from data.texts.reply_features import style_features
from learner.config import LearnerConfig
from learner.gates.gate import GateReport
from learner.gates.statistical import MARGIN, MIN_CLUSTERS, bootstrap_lower_bound, cluster_means, compare, hold_out, t_quantile, threads, undecidable, verdict
from learner.model.policy import Policy
from learner.reward.nonsense import Nonsense
from learner.reward.reward_model import Fit, fit_reward_model
from learner.reward.scoring import Bounds
from learner.runs.run import train
from tests.learner.gates.test_gate import GOOD
from tests.support.conversations import RATER, add_reply, open_store

END = 2


def test_values_are_averaged_by_prompt_before_anything_else():
    assert cluster_means([1.0, 3.0, 10.0, 0.0], ["a", "a", "b", "c"]) == [2.0, 10.0, 0.0]


def test_the_bound_of_equal_differences_is_that_difference_and_of_a_wide_spread_lies_where_the_normal_says():
    assert bootstrap_lower_bound([0.25] * 9, seed=0) == pytest.approx(0.25)
    values = [-1.0, 1.0] * 50                                       # mean 0, standard error 0.1
    assert bootstrap_lower_bound(values, seed=0) == pytest.approx(-0.1645, abs=0.03)


def test_what_is_worse_by_exactly_the_margin_passes_one_time_in_twenty_also_by_few_prompts():
    generator = torch.Generator().manual_seed(0)
    rows = (-MARGIN + 0.3 * torch.randn(3000, MIN_CLUSTERS, generator=generator, dtype=torch.float64)).tolist()
    passed = sum(bootstrap_lower_bound(row, seed) >= -MARGIN for seed, row in enumerate(rows)) / len(rows)
    assert 0.035 < passed < 0.065                                   # the plain percentile lets .08 pass; standard error .004


def test_the_quantiles_of_students_t_are_those_of_the_tables():
    assert [t_quantile(freedom) for freedom in (7, 15, 31, 63)] == pytest.approx([1.8946, 1.7531, 1.6955, 1.6694], rel=2e-3)


def test_whole_people_are_held_out_and_whole_prompts_where_one_rates_alone():
    raters = [{f"r{place % 10}"} for place in range(100)]
    held = hold_out(raters, list(range(100)), share=0.2, minimum=50, seed=0)
    assert len(held) == 20 and len(set().union(*(raters[place] for place in held))) == 2
    prompts = [place // 4 for place in range(100)]
    held = hold_out([{"ann"}] * 100, prompts, share=0.2, minimum=50, seed=0)
    assert len(held) == 20 and not {prompts[place] for place in held} & {prompts[place] for place in range(100) if place not in held}


def test_what_several_people_rated_is_not_held_out_unless_they_all_are():
    raters = [{f"r{place % 20}"} | ({f"r{(place * 7 + 3) % 20}"} if place % 20 == 0 else set()) for place in range(1000)]       # 5% get a second opinion
    held = hold_out(raters, list(range(1000)), share=0.2, minimum=50, seed=0)
    people = set().union(*(raters[place] for place in held))
    assert 150 <= len(held) <= 200 and all(raters[place] & people != raters[place] for place in range(1000) if place not in held)


def test_whole_prompts_are_held_out_where_every_person_rated_more_than_that():
    held = hold_out([{f"r{place % 4}"} for place in range(400)], [place // 2 for place in range(400)], share=0.2, minimum=50, seed=0)
    assert len(held) == 80 and len({place // 2 for place in held}) == 40
    newcomer = hold_out([*({f"r{place % 4}"} for place in range(400)), {"newcomer"}], list(range(401)), share=0.2, minimum=50, seed=0)
    assert len(newcomer) == 80                                                                  # one reply is no judge
    pairs = hold_out([{"ann"}, {"ben"}, {"ann", "ben"}, {"cleo"}] * 100, list(range(400)), share=0.2, minimum=50, seed=0)
    assert len(pairs) == 80 and len({place % 4 for place in pairs}) == 4                        # three people, not four kinds of reply


def test_few_ratings_all_train_and_a_person_with_half_of_them_is_never_held_out():
    assert hold_out([{"ann"}] * 49, list(range(49)), 0.2, 50, 0) == frozenset()
    raters = [{"busy"}] * 50 + [{f"r{place}"} for place in range(50)]
    assert all(place >= 50 for seed in range(10) for place in hold_out(raters, list(range(100)), 0.2, 50, seed))


def test_who_is_held_out_stays_so_when_others_rate_too():
    raters = [{f"r{place}"} for place in range(200)]
    before, after = (hold_out(raters[:n], list(range(n)), 0.2, 50, 0) for n in (150, 200))
    assert len(before) == 30 and len(after) == 40 and len(before & after) >= 24          # by chance alone it would be 6


@pytest.fixture(scope="module")
def judged(tiny_base):
    """A judge who likes short replies; a function that compares replies of two lengths."""
    policy, tokenizer = Policy(tiny_base, dtype=torch.float32, device="cpu"), ChatTokenizer(tiny_base.folder)
    lengths = [4 + place % 40 for place in range(80)]
    style = torch.tensor([style_features("", (), range(length + 1), True) for length in lengths])
    rewards = torch.tensor([1.0 if length < 20 else -1.0 for length in lengths])
    states = torch.randn(80, 128, generator=torch.Generator().manual_seed(0)) * 1e-9
    judge = fit_reward_model(states, style, rewards, torch.ones(80), list(range(80)), seed=0)
    dice = random.Random(0)

    def of_length(length: int) -> Generated:
        return Generated((*[dice.randrange(40, 200) for _ in range(length)], END), (), 1.0, "stop")

    def decide(candidate: int, incumbent: int, prompts: int = 16, surprised_from: Nonsense = Nonsense()):        # noqa: B008
        asked = [(5, 6, 30 + place) for place in range(prompts)]
        return compare(policy, tokenizer, judge, Bounds(0.0, surprised_from), asked, asked, [of_length(candidate) for _ in asked],
                       [of_length(incumbent) for _ in asked], said("whom_before"), temperature=0.8, max_batch_tokens=1024, seed=0, check=lambda: None)

    return decide


def test_what_pleases_the_judge_more_passes_what_pleases_it_less_is_refused(judged):
    better, worse, same = judged(8, 40), judged(40, 8), judged(20, 20)
    assert better.decision == "passed" and better.difference > 0
    assert worse.decision == "refused" and worse.low < -0.05 and "may be" in worse.reason
    broken = GateReport(True, 1.0, said("gate_passed", strength=""), "", GOOD, (), ())
    assert sentence(verdict(broken, worse)).startswith("The candidate was refused because on 16 held-out prompts")
    assert sentence(verdict(broken, better)).startswith("Its language is not broken, and on 16 held-out prompts its score is +")
    assert abs(same.difference) < 0.5


def test_with_few_prompts_or_a_judge_who_is_not_sure_nothing_is_decided():
    sure, unsure = Fit(80, 80, 0.8, 0.7, nothing=0.1), Fit(80, 80, 0.1, -0.1, nothing=0.3)
    assert undecidable(sure, MIN_CLUSTERS) is None
    assert "only prompts of 7 conversations" in sentence(undecidable(sure, MIN_CLUSTERS - 1)) and "do not predict each other" in sentence(undecidable(unsure, 80))


def test_turns_of_a_conversation_are_one_thread_and_so_is_what_answers_the_same_prompt():
    assert threads(["a", "ab", "abc", "x"], [1, 1, 1, 2]) == ["a", "a", "a", "x"]
    assert threads(["hi", "hi and", "hi", "hi but", "x"], [1, 1, 2, 2, 3]) == ["hi"] * 4 + ["x"]
    assert threads(["b", "c", "b", "c"], [1, 2, 3, 4]) == ["b", "c", "b", "c"]                       # without turns a thread is a prompt


def test_a_few_long_conversations_judge_nothing(tmp_path, tiny_base):
    config = LearnerConfig(lora_rank=4, held_out_share=0.5, held_out_minimum=30, epochs=1, min_steps=1)
    store, dice = open_store(tmp_path), random.Random(0)
    for talk in range(6):
        conversation = store.new_conversation(store.ensure_rater(RATER)).id
        for number in range(16):
            turn = store.add_turn(conversation, f"question {talk} {number}")
            ids = (*[dice.randrange(3, 200) for _ in range(dice.choice((4, 6, 30, 40)))], END)
            reply = store.start_reply(turn.id, 0, None, tiny_base.id, "test", Sampling(), (5, 6, 7 + talk, *range(20, 21 + number)))
            store.finish_reply(reply.id, "words", Generated(ids, (), 1.0, "stop"), 0.1, 1.0)
            store.add_rating(reply.id, RATER, "thumb", 1 if len(ids) < 20 else -1)
    report = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, config, trigger="shell").report
    assert "only prompts of 3 conversations could be kept apart" in report["comparison"]["reason"] and report["data"]["replies"] == 96


def test_a_judge_of_replies_drawn_otherwise_strikes_no_ordinary_ones(judged):
    """Rated replies were greedy, say: each far likelier than what is drawn now. The incumbent's own say what is nonsense."""
    assert judged(8, 40, surprised_from=Nonsense([torch.full((60,), -0.1) - 1e-3 * torch.arange(60) * place for place in range(20)])).decision == "passed"


def test_held_out_ratings_get_no_receipt_and_do_not_move_the_adapter(tmp_path, tiny_base, monkeypatch):
    monkeypatch.setattr("learner.gates.statistical.MARGIN", 10.0)              # turned round, they would refuse what is looked at here
    config = LearnerConfig(lora_rank=4, held_out_share=0.5, held_out_minimum=30, epochs=1, min_steps=1, judge_prompts=8, judge_samples=1)

    def run(name: str, turned: frozenset[int] = frozenset()):
        store, dice = open_store(tmp_path / name), random.Random(0)
        replies = []
        for number in range(80):
            ids = [dice.randrange(3, 200) for _ in range(dice.choice((4, 6, 30, 40)))] + [END]
            replies.append(add_reply(store, tiny_base, f"question {number}", ids))
            store.add_rating(replies[-1].id, RATER, "thumb", 1 if (len(ids) < 20) != (number in turned) else -1)
        done = train(store, AdapterRegistry(store, tmp_path / name / "adapters"), tiny_base, config, trigger="shell")
        assert done.state == "published" and done.report["comparison"]["decision"] == "passed"
        return store.version(1).sha256, done.report, frozenset(place for place, reply in enumerate(replies) if not store.receipts(reply.id))

    adapter, report, held_out = run("one")
    assert report["data"]["held_out"] == len(held_out) == 40 and report["data"]["replies"] == report["ratings_used"] == 40
    assert run("two", turned=held_out)[0] == adapter != run("three", turned=frozenset(range(80)) - held_out)[0]


def test_a_candidate_that_the_judge_likes_less_is_refused_and_nothing_is_published(tmp_path, tiny_base):
    """The judge's ratings say short, the ones in training say long: the two halves of the prompts contradict each other."""
    config = LearnerConfig(lora_rank=4, held_out_share=0.5, held_out_minimum=30, learning_rate=5e-3)
    store, dice = open_store(tmp_path), random.Random(0)
    replies = []
    for number in range(80):
        ids = [dice.randrange(3, 200) for _ in range(dice.choice((4, 6, 30, 40)))] + [END]
        replies.append((add_reply(store, tiny_base, f"question {number}", ids), len(ids) < 20))
    order = {rated.reply.id: place for place, rated in enumerate(_rate_all(store, replies))}
    prompts = [reply.prompt_ids for reply, _ in sorted(replies, key=lambda one: order[one[0].id])]
    held_out = hold_out([{RATER}] * 80, prompts, 0.5, 30, 0)
    for reply, is_short in replies:
        store.add_rating(reply.id, RATER, "thumb", 1 if is_short == (order[reply.id] in held_out) else -1)
    done = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, config, trigger="shell")
    comparison = done.report["comparison"]
    assert comparison["judge"]["nothing"] < 0.2 and comparison["decision"] in ("refused", "passed")
    assert (done.state == "refused") == (comparison["decision"] == "refused") == (not store.versions(tiny_base.id))
    if done.state == "refused":
        assert "stays live" in done.report["reason"] and done.report["gate"]["passed"] is False


def test_held_out_ratings_by_a_coin_judge_nothing_so_they_train_and_the_report_says_so(tmp_path, tiny_base):
    config = LearnerConfig(lora_rank=4, held_out_share=0.5, held_out_minimum=30, epochs=1, min_steps=1)
    store, dice = open_store(tmp_path), random.Random(1)
    for number in range(60):
        ids = [dice.randrange(3, 200) for _ in range(dice.randrange(4, 40))] + [END]
        store.add_rating(add_reply(store, tiny_base, f"question {number}", ids).id, RATER, "thumb", dice.choice((1, -1)))
    report = train(store, AdapterRegistry(store, tmp_path / "adapters"), tiny_base, config, trigger="shell").report
    assert report["comparison"]["decision"] == "not evaluable" and report["comparison"]["prompts"] == 30
    assert "do not predict each other yet, so they trained too" in report["comparison"]["reason"]
    assert report["data"]["held_out"] == 0 and report["data"]["replies"] == report["ratings_used"] == 60
    assert all(store.receipts(rated.reply.id) for rated in store.rated_replies(tiny_base.id))


def _rate_all(store, replies):
    for reply, _ in replies:
        store.add_rating(reply.id, RATER, "thumb", 1)
    return store.rated_replies(replies[0][0].base_model)
