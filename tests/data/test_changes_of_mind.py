"""How often a person may change what they say of one reply: events are kept, and a disk is full some day."""

import pytest

from data.errors import BadRating
from data.records import Generated, Sampling
from data.store import Store
from tests.support.factories import add_reply


@pytest.mark.parametrize("table", ["ratings", "reasons", "corrections", "comparisons"])
def test_a_hundred_changes_of_mind_are_kept_the_next_is_refused_and_the_last_word_can_be_taken_back(tmp_path, table):
    store = Store(tmp_path / "chat.db")
    replies = [add_reply(store, "me") for _ in range(2)]
    pairs = {reply.id: _another_attempt(store, reply) for reply in replies}
    say = {"ratings": lambda reply, at: store.add_rating(reply.id, "me", ("thumb", "stars")[at // 2 % 2], 1 + at % 2 if at // 2 % 2 else (-1) ** at),
           "reasons": lambda reply, at: store.add_reasons(reply.id, "me", ["wrong"], f"comment {at % 2}"),
           "corrections": lambda reply, at: store.add_correction(reply.id, "me", f"{at % 2}" * 20_000),
           "comparisons": lambda reply, at: store.add_comparison(*(reply.id, pairs[reply.id])[::1 - 2 * (at % 2)], "me", "first")}[table]
    back = {"ratings": lambda reply: [store.add_rating(reply.id, "me", kind, 0) for kind in ("thumb", "stars")],
            "reasons": lambda reply: store.add_reasons(reply.id, "me", [], ""),
            "corrections": lambda reply: store.add_correction(reply.id, "me", ""),
            "comparisons": lambda reply: store.add_comparison(reply.id, pairs[reply.id], "me", "none")}[table]
    count = lambda: store.row(f"SELECT count(*) AS n FROM {table}")["n"]
    for at in range(100):
        say(replies[0], at)
    assert count() == 100
    with pytest.raises(BadRating, match="100 times"):
        say(replies[0], 100)
    assert count() == 100
    say(replies[1], 0)                                                    # of another one there is as much to say
    back(replies[0])
    taken_back = 2 if table == "ratings" else 1
    assert count() == 101 + taken_back and replies[0].id not in {row["reply_id"] for row in store.rows("SELECT reply_id FROM current_ratings")}
    with pytest.raises(BadRating):
        say(replies[0], 1)
    back(replies[0])
    assert count() == 101 + taken_back


def _another_attempt(store: Store, reply) -> str:
    attempt = store.start_reply(reply.turn_id, 0, None, "base", "openvino", Sampling(), (1, 2, 3))
    return store.finish_reply(attempt.id, "ho", Generated((4, 6), (-1.0, -0.5), 1.0, "stop"), 0.1, 0.2).id
