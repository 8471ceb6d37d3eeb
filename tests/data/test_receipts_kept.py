"""Receipts of removed versions go, and nobody is told anything else than before: what of theirs trained first and last, how much, and whether it ever did."""

import os
import signal
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from chat_app.receipts import receipt_view, version_view
from data.adapters import AdapterRegistry
from data.errors import UnknownConversation, UnknownReply
from data.records import CorrectionReceipt, ReceiptRow, Reply
from data.store import Store
from tests.support.factories import add_reply, write_adapter
from tests.support.hosts import Host, rounds, said_everything

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
RATERS = ("me", "you")


def publish(store: Store, registry: AdapterRegistry, used: list[tuple[Reply, set[str], str]]) -> int:
    """As a learner does it. `used`: replies, whose ratings of them count, and whether that and the corrected text each made an example: "reply", "text" or "both"."""
    receipts, corrected = [], []
    for place, (reply, raters, examples) in enumerate(used):
        events = {rater: store.current_events(rater, reply.conversation_id).get(reply.id, {}) for rater in raters}
        ratings = tuple(number for of in events.values() for number in of.get("ratings", ()))
        corrections = [number for of in events.values() for number in of.get("corrections", ())]
        receipts += [ReceiptRow(0, reply.id, 0.5 - place, 0.25 * (place + 1), 0.1, -9.0, -8.0 + place, ratings, {"corrections": corrections})] * (examples != "text")
        corrected += [CorrectionReceipt(0, number, 1.0, 0.5, 0.5, 3, -5.0, -4.0) for number in corrections if examples != "reply"]
    run = store.start_run("base", "shell")
    version = registry.publish(write_adapter(os.urandom(8)), base_model="base", run_id=run.id, parent=store.live_version("base"), receipts=receipts, of_corrections=corrected)
    store.finish_run(run.id, "published", version=version.number, report={"reason": "It passed."})
    return version.number


def told(store: Store, replies: list[Reply]) -> dict:
    """All that is read from receipts, but for the versions between the first and the last."""
    def receipt(reply):
        try:
            return {name: value for name, value in receipt_view(store, "me", reply.id).items() if name != "also"}
        except UnknownReply:                                               # its conversation is deleted
            return None

    return {"outcomes": [store.outcomes(rater, reply.conversation_id).get(reply.id) for reply in replies for rater in RATERS],
            "first": [store.row("SELECT min(version) AS version FROM used_feedback WHERE reply_id = ? AND rater_id = ?", reply.id, rater)["version"] for reply in replies for rater in RATERS],
            "receipts": [receipt(reply) for reply in replies],
            "opinions": [store.second_opinions_used(rater, "base") for rater in RATERS],
            "trained": [store._may_have_trained(rater) for rater in RATERS],
            "versions": [(version_view(store, v.number), store.training_weight(v.number)) for v in store.versions("base")],
            "deleted": {v.number: store.learned_from_deleted(v.number) for v in store.versions("base") if not v.removed_at}}


LESSONS = st.lists(st.tuples(st.integers(0, 3), st.sets(st.sampled_from(RATERS), min_size=1), st.sampled_from(["reply", "text", "both"])), max_size=4, unique_by=lambda lesson: lesson[0])
ACTIONS = st.lists(st.one_of(st.tuples(st.just("publish"), LESSONS), st.tuples(st.just("say"), st.tuples(st.integers(0, 3), st.sampled_from(RATERS), st.booleans())),
                             st.tuples(st.just("delete"), st.integers(0, 3))), min_size=6, max_size=24)


@settings(max_examples=50)
@given(ACTIONS)
def test_whatever_was_rated_corrected_and_deleted_nobody_is_told_anything_else_once_receipts_are_removed(actions):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        store = Store(Path(name, "chat.db"))
        registry = AdapterRegistry(store, Path(name, "adapters"))
        replies = [add_reply(store, "me") for _ in range(4)]
        store.ensure_rater("you")
        for reply in replies:
            for rater in RATERS:
                say(store, reply, rater, correct=False), say(store, reply, rater, correct=True)
            with store.write() as db:
                db["second_opinions"].insert({"reply_id": reply.id, "rater_id": "you", "event": "offered", "created_at": "then"})
        for action, what in [*actions, *[("publish", [(0, {"me"}, "both"), (1, {"you"}, "reply")])] * 3]:
            if action == "publish":
                publish(store, registry, [(replies[place], raters, examples) for place, raters, examples in what if not deleted(store, replies[place])])
                before = told(store, replies)
                registry.remove_old("base", 2)
                after = told(store, replies)
                assert {**after, "deleted": None} == {**before, "deleted": None}
                assert after["deleted"].items() <= before["deleted"].items()
            elif action == "say":
                say(store, replies[what[0]], what[1], correct=what[2])
            else:
                try:
                    store.delete_conversation(replies[what].conversation_id, "me")
                except UnknownConversation:
                    pass
        left = store.row("SELECT count(*) AS n FROM receipts JOIN versions ON number = version WHERE removed_at IS NOT NULL")["n"]
        assert left <= 2 * len(RATERS) * len(replies)
        store.close()


def deleted(store: Store, reply: Reply) -> bool:
    return store.row("SELECT deleted_at FROM conversations WHERE id = ?", reply.conversation_id)["deleted_at"] is not None


def say(store: Store, reply: Reply, rater: str, *, correct: bool) -> None:
    if deleted(store, reply):
        return
    with store.write() as db:
        if correct:
            db["corrections"].insert({"reply_id": reply.id, "rater_id": rater, "text": f"better {os.urandom(4).hex()}", "created_at": "then"})
        else:
            db["ratings"].insert({"reply_id": reply.id, "rater_id": rater, "kind": "thumb", "value": 1, "created_at": "then"})


def test_of_many_versions_a_reply_keeps_its_first_receipt_and_those_of_the_versions_that_are_kept(tmp_path):
    store = Store(tmp_path / "chat.db")
    registry, reply = AdapterRegistry(store, tmp_path / "adapters"), add_reply(store, "me")
    say(store, reply, "me", correct=False)
    numbers = [publish(store, registry, [(reply, {"me"}, "reply")]) for _ in range(8)]
    weights = [store.training_weight(number) for number in numbers]
    registry.remove_old("base", 3)
    assert [receipt.version for receipt in store.receipts(reply.id)] == [8, 7, 6, 1]
    assert receipt_view(store, "me", reply.id)["also"] == [7, 6, 1] and [store.training_weight(number) for number in numbers] == weights


def test_a_kill_before_the_receipts_are_removed_is_made_up_for_with_the_next_version(tmp_path):
    store = Store(tmp_path / "chat.db")
    registry, reply = AdapterRegistry(store, tmp_path / "adapters"), add_reply(store, "me")
    say(store, reply, "me", correct=False)
    [publish(store, registry, [(reply, {"me"}, "reply")]) for _ in range(5)]
    store.close()                                                          # a connection is no good in a fork
    if (child := os.fork()) == 0:
        doomed = AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")
        doomed.store._tell_again = lambda numbers: os.kill(os.getpid(), signal.SIGKILL) if numbers == [2] else None     # the last words of its transaction
        try:
            doomed.remove_old("base", 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [receipt.version for receipt in store.receipts(reply.id)] == [5, 4, 3, 2, 1]
    publish(store, registry, [(reply, {"me"}, "reply")])
    assert registry.remove_old("base", 2) == [4] and [receipt.version for receipt in store.receipts(reply.id)] == [6, 5, 1]


def test_hosts_keep_the_receipts_of_their_own_replies_by_the_same_rule_and_the_place_holds_no_more(tmp_path):
    url = f"file://{tmp_path / 'place'}"
    a, learner = Host(tmp_path / "a", url, keep_versions=3), Host(tmp_path / "learner", url, learner=True, keep_versions=3)
    first, _ = said_everything(a)
    rounds(a, learner)
    there = {rated.reply.id: rated for rated in learner.store.rated_replies("base")}[first.id]
    receipt = ReceiptRow(0, first.id, 0.5, 0.9, 0.25, -9.0, -7.0, tuple(rating.id for rating in there.ratings))
    for _ in range(7):
        learner.publish(receipt, corrected=[CorrectionReceipt(0, there.corrections[0].id, 1.0, 0.5, 0.5, 3, -5.0, -4.0)])
        learner.registry.remove_old("base", 3)
        rounds(learner, a)
    for host, rater in ((a, "me"), (learner, there.ratings[0].rater_id)):
        assert [row.version for row in host.store.receipts(first.id)] == [7, 6, 5, 1]
        assert {row["version"] for row in host.store.rows("SELECT version FROM correction_receipts")} == {7, 6, 5, 1}
        assert host.store.outcomes(rater, host.store.reply(first.id).conversation_id)[first.id].version == 7
    told = [(record["number"], len(record["receipts"]), len(record["corrected"]), record["config"] is None)
            for number in range(1, 8) for record in learner.sync._with_configs(learner.store.shard_records("versions", number)) if record["type"] == "version"]
    assert told == [(1, 1, 1, True), *((number, 0, 0, True) for number in (2, 3, 4)), *((number, 1, 1, False) for number in (5, 6, 7))]
    assert learner.store.unsent_shard("versions", 0) is None
