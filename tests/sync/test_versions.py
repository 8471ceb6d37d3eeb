"""Versions travel from the learner to every host over a shared folder: whole, with their receipts, and with what they forgot."""

import json

import pytest

from chat_app.receipts import version_view
from data.adapters import WEIGHTS
from data.records import CorrectionReceipt, Outcome, ReceiptRow
from tests.support.factories import add_reply
from tests.support.hosts import Host, hosts, place, rounds, said_everything  # noqa: F401


def test_a_version_reaches_every_host_with_its_files_its_receipts_and_the_same_number(hosts):
    a, b, learner = hosts
    first, _ = said_everything(a)
    said_everything(b)
    rounds(a, b, learner)
    there = {r.reply.id: r for r in learner.store.rated_replies("base")}[first.id]
    number = learner.publish(ReceiptRow(0, first.id, 0.5, 0.9, 0.25, -9.0, -7.0, tuple(r.id for r in there.ratings), {"reasons": [there.reasons[0].id], "comparisons": [there.comparisons[0].id]}),
                             corrected=[CorrectionReceipt(0, there.corrections[0].id, 1.0, 0.5, 0.5, 3, -5.0, -4.0)])
    rounds(learner, a, b)
    for host in (a, b):
        assert host.store.live_version("base") == number == 1
        assert (host.registry.verify(number) / "adapter_config.json").read_text() == "{}"
        assert host.store.version(number).sha256 == learner.store.version(number).sha256
    [receipt] = a.store.receipts(first.id)
    assert (receipt.reward, receipt.weight, receipt.logprob_after) == (0.5, 0.9, -7.0)
    assert {r.kind: r.value for r in a.store.used_ratings(receipt, "me")} == {"thumb": -1, "stars": 2}
    assert set(a.store.used_feedback(receipt, "me")) == {"ratings", "reasons", "comparisons", "corrected"}
    assert a.store.outcomes("me", first.conversation_id)[first.id] == Outcome(first.id, 1, None)
    assert version_view(b.store, number)["changed"] == version_view(learner.store, number)["changed"] != b.store.what_changed(number)      # b has no receipt of it
    assert b.store.receipts(first.id) == [] and a.store.fresh_ratings("base") == 0
    assert "rater_weights" not in json.dumps(a.store.run(a.store.version(1).run_id).report)
    rounds(learner, a, a)
    assert len(a.store.versions("base")) == 1 and len(a.store.promotions("base")) == 1
    learner.store.promote(0, "base", "maintainer")
    rounds(learner, a)
    assert a.store.live_version("base") == 0


@pytest.mark.parametrize("scheme", ["file", "memory"])
@pytest.mark.parametrize("left", ["half of it", "as long, but not it"])
def test_an_adapter_that_was_written_half_is_written_again_whole_and_then_left_alone(tmp_path, scheme, left):
    """As a place leaves it that does not write whole files, when the learner is killed."""
    url = f"{scheme}://{tmp_path / 'place'}"
    learner, a = Host(tmp_path / "learner", url, learner=True), Host(tmp_path / "a", url)
    version = learner.store.version(learner.publish())
    weights = (learner.registry.verify(version.number) / WEIGHTS).read_bytes()
    assert len(weights) == 8
    path = f"adapters/{version.folder}/{WEIGHTS}"
    learner.sync.place.write(path, weights[:4] if left == "half of it" else bytes(8))
    rounds(learner, a)
    assert a.store.live_version("base") == version.number and (a.registry.verify(version.number) / WEIGHTS).read_bytes() == weights
    if scheme == "file":
        written = (tmp_path / "place" / path).stat()
        learner.sync.place.put_file(path, weights)
        assert (tmp_path / "place" / path).stat() == written


def test_a_deletion_is_done_when_a_version_was_trained_by_a_learner_that_had_heard_of_it(hosts):
    a, _, learner = hosts
    reply = add_reply(a.store, "me")
    a.store.add_rating(reply.id, "me", "thumb", 1)
    rounds(a, learner)
    learner.publish()
    a.store.delete_everything("me")                       # before the version that learned from it has arrived
    assert a.store.erasure("me", "base").trained
    rounds(a)
    learner.publish()                                     # began after the deletion, and had not heard of it
    rounds(learner, a)
    assert a.store.live_version("base") == 2 and a.store.erasure("me", "base").versions == ()
    forgotten = learner.publish()
    rounds(learner, a)
    assert a.store.erasure("me", "base").versions == (forgotten,) == (3,)
