"""What differs from what the last run saw, counted by looking at what came since: the same as by looking at everything."""

from contextlib import suppress
from secrets import token_hex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import BadRating
from data.store import Store
from tests.data.test_rated_replies import CHANGED, SAID, add_pair, say

EVENTS = st.lists(st.tuples(st.sampled_from([0, 1]), SAID), max_size=6)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """One for all examples, each of which has a lineage of its own."""
    return Store(tmp_path_factory.mktemp("fresh") / "chat.db")


def said_now(store, base) -> dict[tuple, str]:
    """What everybody currently says that can train: by source, reply, person and topic."""
    return {tuple(row)[:4]: row["said"] for row in store.rows("SELECT source, reply_id, rater_id, topic, said, max(id) FROM feedback GROUP BY source, reply_id, rater_id, topic")
            if all(reply is None or (reply["base_model"], reply["contributes"]) == (base, 1) for reply in (
                store.row("SELECT base_model, contributes FROM replies WHERE id = ?", name) for name in (row["reply_id"], row["topic"])))}


@settings(max_examples=100)
@given(before=EVENTS, meanwhile=EVENTS, changed=st.lists(st.tuples(st.sampled_from([0, 1]), CHANGED), max_size=1), ran=st.booleans())
def test_fresh_is_all_that_is_said_otherwise_than_when_the_last_run_began(store, before, meanwhile, changed, ran):
    base = token_hex(4)
    pair = add_pair(store, base)
    for at, (kind, value) in before:
        say(store, pair, at, kind, value)
    with store.write() as db:
        for at, columns in changed:
            db["replies"].update(pair[at], {**columns, **({"base_model": base + " another"} if "base_model" in columns else {})})
    earlier = said_now(store, base) if ran else {}
    thumbs = {reply for (source, reply, _, topic) in earlier if topic == "thumb"}
    if ran:
        store.finish_run(store.start_run(base, "shell").id, "published")
    for at, (kind, value) in meanwhile:
        if not (kind == "thumb" and pair[at] not in thumbs):          # a first thumb makes tags its explanation, which are then no news, also of before
            with suppress(BadRating):                                  # of a reply that is not finished any more there is no comparison
                say(store, pair, at, kind, value)
    later = said_now(store, base)
    assert store.fresh_ratings(base) == sum(said != earlier.get(key, "") for key, said in later.items())
