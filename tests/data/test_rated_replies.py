"""Whether anything is left that a learner could be trained on, asked without reading all of it."""

from secrets import token_hex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Generated, Sampling
from data.store import Store
from tests.support.factories import add_reply

SAID = st.one_of(
    st.tuples(st.just("thumb"), st.sampled_from([-1, 0, 1])), st.tuples(st.just("stars"), st.sampled_from([0, 4])),
    st.tuples(st.just("tags"), st.sampled_from([(), ("clear",), ("wrong",), ("clear", "wrong")])), st.tuples(st.just("comment"), st.sampled_from(["", "so"])),
    st.tuples(st.just("text"), st.sampled_from(["", "better so"])), st.tuples(st.just("better"), st.sampled_from(["first", "same", "none"])))
CHANGED = st.sampled_from([{"contributes": None}, {"contributes": 0}, {"contributes": 1}, {"state": "failed"}, {"completion_ids": "[]"}, {"base_model": "another"}])


def say(store, pair, at, kind, value):
    reply = pair[at]
    match kind:
        case "thumb" | "stars":
            store.add_rating(reply, "me", kind, value)
        case "tags":
            store.add_reasons(reply, "me", value)
        case "comment":
            store.add_reasons(reply, "me", [], value)
        case "text":
            store.add_correction(reply, "me", value)
        case "better":
            store.add_comparison(*pair, "me", value)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """One for all examples, each of which has a lineage of its own."""
    return Store(tmp_path_factory.mktemp("said") / "chat.db")


def add_pair(store, base) -> tuple[str, str]:
    """Two attempts at one message."""
    first = add_reply(store, "me", base_model=base)
    second = store.start_reply(first.turn_id, 0, None, base, "openvino", Sampling(), (1,))
    store.finish_reply(second.id, "another", Generated((7,), (-1.0,), 1.0, "stop"), 0.1, 0.2)
    return first.id, second.id


@settings(max_examples=150)
@given(said=st.lists(st.tuples(st.sampled_from([0, 1]), SAID), max_size=5), changed=st.lists(st.tuples(st.sampled_from([0, 1]), CHANGED), max_size=2), deleted=st.booleans())
def test_there_are_rated_replies_exactly_where_reading_them_finds_one(store, said, changed, deleted):
    base = token_hex(4)
    pair = add_pair(store, base)
    for at, (kind, value) in said:
        say(store, pair, at, kind, value)
    with store.write() as db:
        for at, columns in changed:
            db["replies"].update(pair[at], {**columns, **({"base_model": base + " another"} if "base_model" in columns else {})})
    if deleted:
        store.delete_conversation(store.reply(pair[0]).conversation_id, "me")
    for lineage in (base, base + " another"):
        assert store.has_rated_replies(lineage) == bool(store.rated_replies(lineage))


@pytest.mark.parametrize("kind, value", [("thumb", -1), ("stars", 4), ("tags", ["wrong"]), ("text", "better so"), ("better", "second")])
def test_one_saying_of_any_kind_is_enough(store, kind, value):
    base = token_hex(4)
    pair = add_pair(store, base)
    assert not store.has_rated_replies(base)
    say(store, pair, 0, kind, value)
    assert store.has_rated_replies(base) and not store.has_rated_replies("another")
