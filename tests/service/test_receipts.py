"""What a person is told of the consequence of their ratings, over a real store and registry."""

from dataclasses import replace
from math import exp

import pytest

from chat_app.receipts import receipt_view, times_as_likely, version_view
from data.adapters import AdapterRegistry
from data.errors import NotYourReply
from data.records import Outcome, ReceiptRow
from data.store import Store
from tests.support.factories import add_reply, write_adapter


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def rating_ids(store, reply_id):
    return tuple(row["id"] for row in store.rows("SELECT id FROM current_ratings WHERE reply_id = ?", reply_id))


def publish(store, tmp_path, *rows: ReceiptRow, report=None) -> int:
    """As a learner does it: a run, a version with receipts, the run's end."""
    run = store.start_run("base", "shell")
    version = AdapterRegistry(store, tmp_path / "adapters").publish(write_adapter(), base_model="base", run_id=run.id, parent=0,
                                                                     receipts=rows, note="Trained on 2 rated replies from 1 person.")
    store.finish_run(run.id, "published", version=version.number, report=report or {})
    return version.number


def receipt(store, reply, *, weight=0.5, advantage=0.4, before=-10.0, after=-8.0) -> ReceiptRow:
    return ReceiptRow(0, reply.id, 1.0, weight, advantage, before, after, rating_ids(store, reply.id))


def test_a_receipt_says_which_ratings_trained_how_much_and_to_what_effect(store, tmp_path):
    liked, other = add_reply(store, "me", completion_ids=range(20)), add_reply(store, "me")
    for kind, value in (("thumb", 1), ("stars", 4)):
        store.add_rating(liked.id, "me", kind, value)
    store.add_rating(other.id, "me", "thumb", -1)
    assert store.outcomes("me", liked.conversation_id) == {}
    pairs = [{"prompt": "p", "before": "b", "after": "a"}] * 3
    version = publish(store, tmp_path, receipt(store, liked, weight=0.5), receipt(store, other, weight=0.3, advantage=-0.2),
                      report={"gate": {"replies": pairs}})

    assert store.outcomes("me", liked.conversation_id) == {liked.id: Outcome(liked.id, version, None)}
    told = receipt_view(store, "me", liked.id)
    assert (told["version"], told["used"], told["replies"], told["towards"], told["changed"]) == (version, {"thumb": 1, "stars": 4}, 2, True, False)
    assert told["share"] == pytest.approx(0.5 / 0.8)
    assert told["times"] == pytest.approx(exp(10 * 2 / 20)) and told["tokens"] == 10          # 2 nats over 20 tokens
    assert told["pairs"] == pairs[:2] and told["refused"] is None
    assert receipt_view(store, "me", other.id)["towards"] is False
    publish(store, tmp_path, receipt(store, liked, advantage=0.0), receipt(store, other, advantage=0.1))
    assert receipt_view(store, "me", liked.id)["towards"] is None, "it was left alone"
    with pytest.raises(NotYourReply):
        receipt_view(store, "somebody else", liked.id)


def test_a_reply_shorter_than_the_stretch_is_compared_as_a_whole(store, tmp_path):
    short = add_reply(store, "me", completion_ids=(1, 2, 3, 4))
    store.add_rating(short.id, "me", "thumb", 1)
    row = receipt(store, short, before=-6.0, after=-5.0)
    assert times_as_likely(row, 4, tokens=4) == pytest.approx(exp(1.0))
    publish(store, tmp_path, row)
    assert receipt_view(store, "me", short.id)["tokens"] == 4


def test_a_changed_rating_keeps_its_receipt_and_the_receipt_says_that_it_changed(store, tmp_path):
    reply = add_reply(store, "me")
    store.add_rating(reply.id, "me", "thumb", 1)
    first = publish(store, tmp_path, receipt(store, reply))
    second = publish(store, tmp_path, receipt(store, reply))
    store.add_rating(reply.id, "me", "thumb", -1)
    told = receipt_view(store, "me", reply.id)
    assert (told["version"], told["also"], told["used"], told["changed"]) == (second, [first], {"thumb": 1}, True)


def test_a_refused_candidate_is_told_to_those_whose_ratings_it_saw_and_to_nobody_else(store, tmp_path):
    seen, late, unrated = (add_reply(store, "me") for _ in range(3))
    store.add_rating(seen.id, "me", "thumb", 1)
    run = store.start_run("base", "shell")
    store.add_rating(late.id, "me", "thumb", 1)
    store.finish_run(run.id, "refused", report={"reason": "It repeats itself."})
    assert store.outcomes("me", seen.conversation_id) == {seen.id: Outcome(seen.id, None, run.id)}
    assert receipt_view(store, "me", seen.id) == {"version": None, "refused": {"said": None, "reason": "It repeats itself."}}
    assert store.outcomes("me", late.conversation_id) == store.outcomes("me", unrated.conversation_id) == {}

    version = publish(store, tmp_path, receipt(store, seen))            # a later run that passes ends the matter
    assert store.outcomes("me", seen.conversation_id) == {seen.id: Outcome(seen.id, version, None)}


def test_a_version_tells_what_it_learned_from_and_what_that_changed(store, tmp_path):
    liked, lost, blamed, unmoved = (add_reply(store, "me") for _ in range(4))
    rows = [receipt(store, liked), receipt(store, lost, after=-11.0), replace(receipt(store, blamed, after=-12.0), reward=-0.5),
            replace(receipt(store, unmoved), reward=0.0)]
    version = publish(store, tmp_path, *rows, report={"data": {"replies": 4, "raters": 1}, "gate": {"scale": 0.5}})
    changed = {"liked": 2, "likelier": 1, "disliked": 1, "less_likely": 1, "corrected": 0, "corrected_likelier": 0, "comparisons": 0}
    assert version_view(store, version) == {"note": "Trained on 2 rated replies from 1 person.", "replies": 4, "corrections": 0, "raters": 1, "scale": 0.5, "changed": changed}
    assert version_view(store, 0) == {"note": ""}
