"""Second opinions: who is offered whose reply, what they may do with it, and how it ends."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from sqlite_utils import Database

from chat_app.maintenance import Maintenance
from chat_app.receipts import receipt_view
from data.errors import NotYourReply, UnknownConversation, UnknownReply
from data.records import SecondOpinion
from data.store import Store
from data.store.agreement import interval, krippendorff_alpha, nominal, same_share
from data.store.migrations import migrations
from data.store.second_opinions import first_id_left_out
from tests.service.test_receipts import publish, receipt
from tests.support.factories import add_reply
from tests.support.service_fixtures import server  # noqa: F401


@pytest.fixture
def store(tmp_path) -> Store:
    """Ann has one reply; Ben has ten, enough to be asked once. Both contribute."""
    store = Store(tmp_path / "chat.db")
    add_reply(store, "ann", message="Call 13800138000?", text="I wrote to **ann@example.com**.")
    for number in range(10):
        add_reply(store, "ben", message=f"question {number}")
    for rater in ("ann", "ben"):
        store.set_consent(rater, True)
    return store


def of_ann(store):
    return store.conversation(store.conversations("ann")[-1].id).turns[0].replies[0]


def offer(store, rater="ben", share=1.0):
    return store.offer_second_opinion(rater, "base", share)


def test_somebody_elses_reply_is_offered_without_personal_data_and_may_be_rated(store):
    reply = of_ann(store)
    with pytest.raises(NotYourReply):
        store.add_rating(reply.id, "ben", "thumb", 1)
    shown = SecondOpinion(reply.id, "Call [phone]?", "I wrote to **[e-mail]**.")
    assert offer(store) == shown and offer(store) == shown                        # left unanswered, it is the same one
    assert store.add_rating(reply.id, "ben", "thumb", -1) == {"thumb": -1}
    store.add_rating(reply.id, "ann", "thumb", 1)
    assert [(r.rater_id, r.value) for r in store.rated_replies("base")[0].ratings] == [("ben", -1), ("ann", 1)]
    assert store.add_rating(reply.id, "ben", "thumb", 1) == {"thumb": 1} and offer(store) is None


def test_whose_second_opinion_trained_a_version_is_told_which(store, tmp_path):
    reply, own = of_ann(store), store.conversation(store.conversations("ben")[0].id).turns[0].replies[0]
    offer(store)
    for rated, rater in ((reply, "ben"), (reply, "ann"), (own, "ben")):
        store.add_rating(rated.id, rater, "thumb", 1)
    used = lambda: [store.second_opinions_used(rater, "base") for rater in ("ann", "ben")]
    publish(store, tmp_path, receipt(store, own))
    assert used() == [None, None]
    version = publish(store, tmp_path, receipt(store, own), receipt(store, reply))
    assert used() == [None, (1, version)] and store.second_opinions_used("ben", "another base") is None


def test_an_offer_lets_one_rate_and_nothing_else(store):
    reply, others = of_ann(store), add_reply(store, "ann")
    offered = offer(store).reply_id
    assert offered == others.id                                                   # the newest
    for attempt in (lambda: store.add_reasons(offered, "ben", ["wrong"]), lambda: store.add_correction(offered, "ben", "No."),
                    lambda: receipt_view(store, "ben", offered), lambda: store.add_comparison(offered, reply.id, "ben", "first"),
                    lambda: store.add_rating(reply.id, "ben", "thumb", 1), lambda: store.add_rating(offered, "cem", "thumb", 1)):
        with pytest.raises(NotYourReply):
            attempt()
    with pytest.raises(UnknownConversation):
        store.conversation(others.conversation_id, "ben")
    assert "ann@example.com" not in str(store.export("ben"))


def test_only_what_both_agreed_to_is_offered(store):
    for answer in (lambda: store.set_consent("ann", False), lambda: store.set_consent("ben", False)):
        answer()
        assert offer(store) is None
        store.set_consent("ann", True), store.set_consent("ben", True)
    reply_id = offer(store).reply_id
    store.set_consent("ann", False)
    with pytest.raises(NotYourReply):
        store.add_rating(reply_id, "ben", "thumb", 1)
    store.set_consent("ann", True)
    store.set_consent("ben", False)
    with pytest.raises(NotYourReply):
        store.add_rating(reply_id, "ben", "thumb", 1)


@pytest.mark.parametrize("whose", ["ann", "ben"])
def test_what_was_said_can_be_taken_back_when_nothing_more_may_be_said(store, whose):
    reply = of_ann(store)
    offer(store)
    store.add_rating(reply.id, "ben", "thumb", -1)
    store.set_consent(whose, False)
    with pytest.raises(NotYourReply):
        store.add_rating(reply.id, "ben", "thumb", 1)
    assert store.add_rating(reply.id, "ben", "thumb", 0) == {} and store.rated_replies("base") == []
    with pytest.raises(NotYourReply):
        store.add_rating(reply.id, "ben", "thumb", 0)


def test_whoever_agreed_before_other_people_were_named_is_left_in_peace(tmp_path):
    db = Database(sqlite3.connect(tmp_path / "chat.db", isolation_level=None))
    migrations.apply(db, stop_before="m009_second_opinions")
    db["raters"].insert_all({"id": rater, "kind": "anonymous", "created_at": "", "consent": 1} for rater in ("ann", "ben"))
    db.close()
    store = Store(tmp_path / "chat.db")
    add_reply(store, "ann")
    for _ in range(10):
        add_reply(store, "ben")
    assert offer(store) is None
    for rater in ("ann", "ben"):
        store.set_consent(rater, True)
    assert offer(store) is not None


def test_nobody_is_asked_more_than_once_in_ten_replies_nor_twice_about_one(store):
    add_reply(store, "ann")
    store.decline_second_opinion("ben", offer(store).reply_id)
    for _ in range(9):
        add_reply(store, "ben")
        assert offer(store) is None
    add_reply(store, "ben")
    assert offer(store).reply_id == of_ann(store).id                              # the other one
    store.decline_second_opinion("ben", of_ann(store).id)
    with pytest.raises(NotYourReply):
        store.add_rating(of_ann(store).id, "ben", "thumb", 1)
    for _ in range(10):
        add_reply(store, "ben")
    assert offer(store) is None


def test_a_reply_waits_for_one_person_at_a_time_and_is_not_offered_once_it_has_two_opinions(store):
    store.set_consent("cem", True)
    for _ in range(10):
        add_reply(store, "cem", conversation=store.new_conversation("cem").id, text=" ")      # nothing in it to rate
    reply_id = offer(store).reply_id
    store.set_consent("ben", False)                                               # ben's own replies are out of the way
    assert offer(store, "cem") is None
    store.set_consent("ben", True)
    store.decline_second_opinion("ben", reply_id)
    store.set_consent("ben", False)
    assert offer(store, "cem").reply_id == reply_id


def test_what_its_person_rated_comes_first_and_long_or_stopped_or_refused_replies_never(store):
    rated = of_ann(store)
    store.add_rating(rated.id, "ann", "stars", 4)
    add_reply(store, "ann")
    assert offer(store).reply_id == rated.id
    store.delete_conversation(rated.conversation_id, "ann")
    store.delete_conversation(store.conversations("ann")[0].id, "ann")
    for kind in ({"text": "x" * 2001}, {"message": "x" * 1001}, {"finish_reason": "cancelled"}, {"text": "\n "}, {"base_model": "another"}):
        add_reply(store, "ann", **kind)
    assert offer(store) is None


@pytest.mark.parametrize("share, of_256", [(0, 0), (0.05, 13), (0.5, 128), (1, 256)])
def test_the_share_is_a_share_of_the_random_ids(share, of_256):
    ids = [f"{number:02x}00000000000000" for number in range(256)]
    assert sum(id < first_id_left_out(share) for id in ids) == of_256


def test_the_setting_turns_it_off_and_maintainers_see_agreement_from_five_replies_on(server):      # noqa: F811
    service, store, base = server.service, server.store, server.base.id
    mine = [add_reply(store, "ben", base_model=base) for _ in range(10)]
    theirs = [add_reply(store, "ann", base_model=base) for _ in range(5)]
    for rater in ("ann", "ben"):
        store.set_consent(rater, True)
    service.settings = replace(service.settings, second_opinion_share=0)
    assert service.second_opinion("ben") is None
    service.settings = replace(service.settings, second_opinion_share=1)
    assert service.second_opinion("ben").reply_id == theirs[-1].id

    def both_rate(reply, other):
        store.offer_second_opinion("ben", base, 1)
        store.add_rating(reply.id, "ann", "thumb", 1)
        store.add_rating(reply.id, "ben", "thumb", other)
        for _ in mine:
            add_reply(store, "ben", base_model=base)

    for reply in theirs[:0:-1]:                                                   # the newest unrated one comes first
        both_rate(reply, 1)
    assert server.maintenance.overview()["agreement"] == {"thumb": None, "stars": None}
    both_rate(theirs[0], -1)
    assert server.maintenance.overview()["agreement"]["thumb"] is None            # asked again within the minute
    agreement = Maintenance(store, server.registry, server.serving, server.base, server.settings, server.service.fresh_ratings).overview()["agreement"]["thumb"]
    assert (agreement["replies"], agreement["same"]) == (5, 0.8)
    assert agreement["alpha"] == pytest.approx(1 - (2 / 10) / (2 * 9 / 90))       # one of ten thumbs is down: no more than chance


def test_deleting_a_conversation_ends_its_offer_and_takes_both_opinions_back(store):
    reply = of_ann(store)
    store.add_rating(reply.id, "ann", "thumb", 1)
    offer(store)
    store.add_rating(reply.id, "ben", "thumb", -1)
    assert store.delete_conversation(reply.conversation_id, "ann") == 1           # of hers
    assert store.rated_replies("base") == [] and offer(store) is None
    with pytest.raises(UnknownReply):
        store.add_rating(reply.id, "ben", "thumb", 1)


def test_deleting_everything_takes_back_what_one_said_of_other_peoples_replies(store):
    reply = of_ann(store)
    store.add_rating(reply.id, "ann", "thumb", 1)
    offer(store)
    store.add_rating(reply.id, "ben", "thumb", -1)
    [event], [shown] = store.export("ben")["second_opinions"], store.export("ann")["conversations"][0]["turns"][0]["replies"]
    assert [rating["value"] for rating in event["ratings"]] == [-1] and len(shown["shown_to_another_person_at"]) == 1
    assert [rating["value"] for rating in shown["ratings"]] == [1]
    assert store.delete_everything("ben").ratings == 1
    assert [(r.rater_id, r.value) for r in store.rated_replies("base")[0].ratings] == [("ann", 1)]
    with pytest.raises(NotYourReply):
        store.add_rating(reply.id, "ben", "thumb", 1)


def test_agreement_by_hand():
    thumbs = [(1, 1), (-1, -1), (1, -1), (1,)]                                   # a reply with one opinion says nothing
    assert same_share(thumbs) == pytest.approx(2 / 3)
    assert krippendorff_alpha(thumbs, nominal) == pytest.approx(1 - (2 / 6) / (2 * 3 * 3 / 30))
    assert krippendorff_alpha([(5, 5), (1, 1)], interval) == 1 and krippendorff_alpha([(1, 1)], nominal) is None
    assert krippendorff_alpha([(1, 3), (5, 3)], interval) == pytest.approx(1 - (16 / 4) / (64 / 12))      # pairs 13 13 35 35 15: 4 4 4 4 16, twice
    assert same_share([]) is None and krippendorff_alpha([], nominal) is None
