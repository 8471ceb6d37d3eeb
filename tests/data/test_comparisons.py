"""Which of two replies a person found better: events about a pair."""

import pytest

from data.errors import BadRating, NotYourReply
from data.records import Generated, Reply, Sampling
from data.store import Store
from tests.support.factories import add_reply


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def another_attempt(store: Store, reply: Reply, *, contributes: bool = True, finished: bool = True) -> Reply:
    started = store.start_reply(reply.turn_id, 0, None, "base", "openvino", Sampling(), reply.prompt_ids, contributes=contributes)
    return store.finish_reply(started.id, "hey", Generated((6, 7), (-1.0, -1.0), 1.0, "stop"), 0.1, 0.2) if finished else started


def pair(store: Store, rater: str = "me", **second) -> tuple[Reply, Reply]:
    first = add_reply(store, rater)
    return first, another_attempt(store, first, **second)


def test_what_was_said_last_of_a_pair_is_current_whichever_was_shown_first(store):
    one, two = pair(store)
    said = store.add_comparison(one.id, two.id, "me", "first")
    assert (said.turn_id, said.first_id, said.second_id, said.preferred, said.asked_by) == (one.turn_id, one.id, two.id, "first", "person")
    assert store.add_comparison(two.id, one.id, "me", "second").id == said.id              # the same again is no event
    store.add_comparison(two.id, one.id, "me", "first", "app")
    assert [(c.first_id, c.preferred, c.asked_by) for c in store.comparisons_of("me", one.conversation_id)] == [(two.id, "first", "app")]
    assert store.add_comparison(one.id, two.id, "me", "same").preferred == "same"
    assert store.add_comparison(one.id, two.id, "me", "none") is None
    assert store.comparisons_of("me", one.conversation_id) == []
    assert store.row("SELECT count(*) AS n FROM comparisons")["n"] == 4


def test_only_two_finished_attempts_at_one_message_of_ones_own_can_be_compared(store):
    one, two = pair(store)
    unfinished, elsewhere = another_attempt(store, one, finished=False), add_reply(store, "me")
    for other in (one, unfinished, elsewhere):
        with pytest.raises(BadRating):
            store.add_comparison(one.id, other.id, "me", "first")
    for preferred, asked_by in (("third", "app"), ("first", "nobody"), (None, "app")):
        with pytest.raises(BadRating):
            store.add_comparison(one.id, two.id, "me", preferred, asked_by)
    with pytest.raises(NotYourReply):
        store.add_comparison(one.id, two.id, store.ensure_rater("somebody else"), "first")
    assert store.row("SELECT count(*) AS n FROM comparisons")["n"] == 0


def test_the_learner_is_handed_a_comparison_with_both_replies_when_both_may_train(store):
    one, two = pair(store)
    said = store.add_comparison(one.id, two.id, "me", "second")
    private, other = pair(store, contributes=False)
    store.add_comparison(private.id, other.id, "me", "second")
    assert store.comparisons_by_reply("base") == {one.id: [said], two.id: [said]}
    assert store.comparisons_by_reply("another base") == {}
    assert store.fresh_ratings("base") == 1


def test_all_that_can_train_is_fresh_until_a_run_saw_it(store):
    one, two = pair(store)
    plain, tagged = add_reply(store, "me"), add_reply(store, "me")
    store.add_comparison(one.id, two.id, "me", "first")
    store.add_correction(plain.id, "me", "better")
    store.add_reasons(plain.id, "me", [], "only words")
    store.add_reasons(tagged.id, "me", ["wrong"])
    store.add_rating(two.id, "me", "thumb", 1)
    store.add_reasons(two.id, "me", ["clear"])                                             # explains the thumb: no news of its own
    assert store.fresh_ratings("base") == 4
    store.finish_run(store.start_run("base", "shell").id, "published")
    assert store.fresh_ratings("base") == 0
    store.add_comparison(one.id, two.id, "me", "second")
    store.add_correction(plain.id, "me", "")
    assert store.fresh_ratings("base") == 2
    store.add_comparison(two.id, one.id, "me", "second")                                   # what the run saw: nothing has changed
    assert store.fresh_ratings("base") == 1


def test_deleting_a_conversation_takes_comparisons_tags_and_corrections_back_and_is_news(store):
    one, two = pair(store)
    store.add_comparison(one.id, two.id, "me", "first")
    store.add_correction(one.id, "me", "a secret")
    store.add_reasons(two.id, "me", ["wrong"])
    store.finish_run(store.start_run("base", "shell").id, "published")
    store.delete_conversation(one.conversation_id, "me")
    assert store.comparisons_by_reply("base") == {} and store.fresh_ratings("base") == 3
    store.finish_run(store.start_run("base", "shell").id, "nothing_to_do")
    assert store.fresh_ratings("base") == 0


def test_an_export_holds_every_comparison_by_the_attempts_it_compared(store):
    one, two = pair(store)
    store.add_comparison(two.id, one.id, "me", "second", "app")
    store.add_comparison(two.id, one.id, "me", "none", "app")
    [turn] = store.export("me")["conversations"][0]["turns"]
    assert [(c["first"], c["second"], c["preferred"], c["asked_by"]) for c in turn["comparisons"]] == [(1, 0, "second", "app"), (1, 0, "none", "app")]
