"""A whole run, on a tiny model, from feedback without a single rating: what trains, and what each person is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chat_app.receipts import receipt_view
from data.records import Generated
from learner.config import LearnerConfig
from learner.runs.run import train
from tests.support.conversations import RATER, add_reply, open_store, registry, store  # noqa: F401


def test_tags_comparisons_and_corrections_become_a_version_and_everybody_is_told_what_theirs_did(store, registry, tiny_base):
    tagged, corrected, first = (add_reply(store, tiny_base, f"question {n}", [n + 5, n + 9, n + 11, 2]) for n in range(3))
    second = store.start_reply(first.turn_id, 0, None, tiny_base.id, "test", first.sampling, first.prompt_ids)
    second = store.finish_reply(second.id, "another", Generated((40, 41, 42, 2), (), 1.0, "stop"), 0.1, 1.0)
    silent = add_reply(store, tiny_base, "question 4", [7, 8, 2])
    store.add_reasons(silent.id, RATER, ["other"], "hm")
    store.add_reasons(tagged.id, RATER, ["wrong"])
    store.add_correction(corrected.id, RATER, "ab ab ab")
    store.add_comparison(first.id, second.id, RATER, "second")

    run = train(store, registry, tiny_base, replace(LearnerConfig(), lora_rank=4), trigger="shell")
    data = run.report["data"]
    assert run.state == "published" and store.fresh_ratings(tiny_base.id) == 0
    assert (data["replies"], data["corrections"], data["comparisons"], data["tagged"], data["raters"], run.report["ratings_used"]) == (4, 1, 1, 2, 1, 0)
    assert store.version(run.version).note.startswith("Trained on 4 rated replies, 1 correction and 1 comparison from 1 person")
    changed = store.what_changed(run.version)
    assert (changed["liked"], changed["disliked"], changed["corrected"], changed["corrected_likelier"], changed["comparisons"]) == (1, 3, 1, 1, 1)

    assert store.receipts(silent.id) == []                              # what was said of it has no direction
    blamed, original, other, preferred = (store.receipts(reply.id)[0] for reply in (tagged, corrected, first, second))
    assert preferred.advantage > 0 > other.advantage and preferred.feedback_ids == other.feedback_ids == {"comparisons": [1]}
    assert blamed.reward < 0 and blamed.feedback_ids == {"reasons": [2]} and original.feedback_ids == {"corrections": [1]}
    [written] = store.correction_receipts([1], run.version)
    assert written.reward == pytest.approx(1) and written.advantage > 0 and written.logprob_after > written.logprob_before

    view = {reply.id: receipt_view(store, RATER, reply.id) for reply in (tagged, corrected, first, second)}
    assert [view[r.id]["version"] for r in (tagged, corrected, first, second)] == [run.version] * 4
    assert view[tagged.id]["used"] == {"tags": ["wrong"]} and view[corrected.id]["used"] == {"correction": True}
    assert view[first.id]["used"] == view[second.id]["used"] == {"comparisons": 1}
    assert view[corrected.id]["corrected"]["towards"] is True and view[corrected.id]["corrected"]["tokens"] == min(10, written.tokens)
    assert sum(view[r.id]["share"] for r in (tagged, corrected, first, second)) == pytest.approx(1.0)
    assert not any(view[r.id]["changed"] for r in (tagged, corrected, first, second))
    store.add_comparison(first.id, second.id, RATER, "first")
    assert receipt_view(store, RATER, first.id)["changed"] is True

    assert [store.outcomes(RATER, r.conversation_id)[r.id].version for r in (tagged, corrected, second)] == [run.version] * 3
    store.delete_everything(RATER)
    assert store.erasure(RATER, tiny_base.id).trained and store.rated_replies(tiny_base.id) == []


def test_a_refused_run_is_told_to_those_whose_comparison_it_saw(store, tiny_base):
    reply = add_reply(store, tiny_base, "question", [5, 6, 2])
    store.add_correction(reply.id, RATER, "ab")
    run = store.start_run(tiny_base.id, "shell")
    store.finish_run(run.id, "refused", report={"reason": "It repeats itself."})
    assert receipt_view(store, RATER, reply.id)["refused"] == {"reason": "It repeats itself.", "said": None}
    store.add_correction(reply.id, RATER, "ba")
    assert receipt_view(store, RATER, reply.id)["refused"] is None
