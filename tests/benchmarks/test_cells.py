"""Whole cells on a tiny model: real engine, real store, real learner, real peers."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.learning.cells import Cell
from benchmarks.learning.evaluation import matched, reply_rows, score
from benchmarks.learning.pool import ReplyPool
from benchmarks.learning.serving import Sampled
from benchmarks.learning.task import pool_size, rate_replies, record
from benchmarks.learning.work import run_cell, sampling_of
from data.base_models.tokenizer import ChatTokenizer
from data.records import Sampling
from data.store import Store
from learner.model.policy import Policy


@pytest.fixture(scope="module")
def place(tiny_base, tmp_path_factory):
    """A folder with a filled pool, and the cell of the base model in it."""
    folder = tmp_path_factory.mktemp("bench")
    cell = Cell("base", "length", 16, 0, base_model=tiny_base.id, max_new_tokens=16, held_out=6)
    ReplyPool(folder, tiny_base, sampling_of(cell), folder / "serving").fill(16)
    return folder, cell


def test_the_pool_is_sampled_once_and_its_replies_are_whole(tiny_base, place):
    folder, cell = place
    pool = ReplyPool(folder, tiny_base, sampling_of(cell), folder / "serving")
    before = pool.file.read_bytes()
    pool.fill(16)
    assert pool.file.read_bytes() == before
    for reply in pool.first(16):
        assert len(reply.completion_ids) == len(reply.logprobs) and reply.ended == (reply.completion_ids[-1] in ChatTokenizer(tiny_base.folder).eos_ids)
    with pytest.raises(ValueError, match="10000 are wanted"):
        pool.first(10_000)


def test_a_round_that_a_kill_cut_short_is_sampled_again_with_its_own_seed(tiny_base, tmp_path, monkeypatch):
    def seed_as_text(base, adapter, prompts, sampling, cache_dir):
        return [Sampled(prompt, (1,), (5,), (-1.0,), str(sampling.seed), False) for prompt in prompts]

    monkeypatch.setattr("benchmarks.learning.pool.sample_replies", seed_as_text)
    pool = ReplyPool(tmp_path, tiny_base, Sampling(), tmp_path / "serving")
    size = len(pool.prompts)
    pool.fill(2 * size)
    whole = pool.first(2 * size)
    pool.file.write_bytes(pool.file.read_bytes()[:-100])
    assert pool.first(size) == whole[:size]                                              # what is whole is of use meanwhile
    pool.fill(3 * size)
    assert pool.first(2 * size) == whole and [reply.text for reply in pool.first(3 * size)[::size]] == ["1000", "1001", "1002"]


def test_ratings_reach_the_store_as_they_were_given(tiny_base, place, tmp_path):
    folder, cell = place
    cell = replace(cell, crowd="varied", flip=0.25, hostile=0.2, n=8)
    pool = ReplyPool(folder, tiny_base, sampling_of(cell), folder / "serving")
    pool.fill(pool_size(cell))
    rated = rate_replies(cell, pool.first(pool_size(cell)))
    assert rated == rate_replies(replace(cell, arm="ours", rate=1e-3), pool.first(pool_size(cell)))      # every arm is told the same
    store = Store(tmp_path / "chat.db")
    conduct = record(store, tiny_base, rated, sampling_of(cell))
    stored = store.rated_replies(tiny_base.id)
    assert [(row.reply.completion_ids, row.message, row.ratings[0].kind, row.ratings[0].value, row.ratings[0].rater_id) for row in stored] == [
        (one.sampled.completion_ids, one.sampled.prompt, one.rating.kind, one.rating.value, one.rating.rater.id) for one in rated]
    assert set(conduct) == {one.rating.rater.id for one in rated}


def test_the_base_model_is_at_no_distance_from_itself_and_matches_itself(tiny_base, place):
    folder, cell = place
    replies = ReplyPool(folder, tiny_base, sampling_of(cell), folder / "serving").first(6)
    tokenizer = ChatTokenizer(tiny_base.folder)
    figures, view = score(Policy(tiny_base), None, replies, tokenizer, 0.8)
    again = matched(replies, view, tokenizer)
    assert figures["kl_token"] == 0 and figures["kl_reply"] == 0
    assert again["matched_overlap"] == pytest.approx(figures["overlap"]) and again["matched_distinct2"] == pytest.approx(figures["distinct2"], abs=0.02)
    served = [x for reply in replies for x in reply.logprobs]
    assert figures["nll"] == pytest.approx(-sum(served) / len(served), abs=0.1)         # the engine said nearly the same
    first_only = [replace(reply, completion_ids=reply.completion_ids[:1], ended=False) for reply in replies]
    assert matched(first_only, view, tokenizer)["matched_nll"] == pytest.approx(-sum(row[0] for row in view.rows.base) / 6)


def test_an_adapter_that_changes_the_model_is_at_a_distance(tiny_base, place, tmp_path):
    folder, cell = place
    replies = ReplyPool(folder, tiny_base, sampling_of(cell), folder / "serving").first(4)
    policy = Policy(tiny_base)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05)
    policy.save(tmp_path)
    near, far = reply_rows(policy, None, replies, 0.8), reply_rows(Policy(tiny_base), tmp_path, replies, 0.8)
    assert near.base == far.base and near.pmi == far.pmi
    assert all(kl > 0.01 for kl in far.kl) and near.kl == [0.0] * 4


@pytest.mark.parametrize("arm", ["base", "sft", "reinforce", "ours", "trl-kto", "trl-rloo", "best-of-4", "ours-refined"])
def test_a_cell_of_every_arm_runs_from_ratings_to_figures(arm, tiny_base, place):
    if arm.startswith("trl"):
        pytest.importorskip("trl")
    folder, cell = place
    figures = run_cell(replace(cell, arm=arm, rate=None if arm in ("base", "best-of-4") else 5e-4), tiny_base, folder)
    json.dumps(figures, allow_nan=False)
    assert len(figures["gold_rows"]["tone"]) == 6 and 0 <= figures["gold"]["length"] <= 1
    untrained = arm in ("base", "best-of-4")
    assert figures["published"] != untrained or figures["report"]["state"] == "refused"
    assert (figures["train_tokens"] > 0) != untrained
    assert (figures["children_peak_mb"] > 50) == (arm.startswith("ours") and not torch.cuda.is_available())      # the engine's process
    assert not list(folder.glob(".cell-*"))                                              # nothing is left behind
