"""Shards that arrive in any order, twice or late, and processes that are killed between any two steps."""

import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from data.store import Store
from data.sync.place import SharedPlace
from tests.support.factories import add_reply
from tests.support.hosts import Host, rounds, said_everything, texts_in

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""Hundreds of small transactions wait for the disk otherwise."""

ACTIONS = st.lists(st.tuples(st.sampled_from(["reply", "thumb", "stars", "correct", "second", "delete", "withhold", "give", "round", "carry", "gather"]),
                             st.integers(0, 1), st.integers(0, 2**32 - 1)), min_size=6, max_size=30)


@settings(max_examples=25)
@given(ACTIONS)
def test_whatever_happens_in_whatever_order_the_learner_ends_with_what_the_hosts_hold(actions):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder, place, delivered = Path(name), Path(name, "place"), Path(name, "delivered")
        blank = Store(folder / "blank.db")
        blank.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for host in ("a", "b", "learner"):
            (folder / host).mkdir()
            shutil.copy(folder / "blank.db", folder / host / "chat.db")
        hosts = [Host(folder / host, f"file://{place}") for host in ("a", "b")]
        learner = Host(folder / "learner", f"file://{delivered}", learner=True)
        for action, number, seed in actions:
            do(action, hosts[number], learner, place, delivered, random.Random(seed))
        rounds(*hosts)
        carry(place, delivered, share=1.0, dice=random.Random(0))
        rounds(learner)
        assert learner.trained() == hosts[0].trained() | hosts[1].trained()
        erased = [row["text"] for host in hosts for row in host.store.rows("SELECT 'words of ' || replies.id AS text FROM replies WHERE text = '' OR contributes = 0")]
        assert not any(text in texts_in(place) for text in erased)


def do(action: str, host: Host, learner: Host, place: Path, delivered: Path, dice: random.Random) -> None:
    store = host.store
    if action == "round":
        return rounds(host)
    if action == "carry":
        return carry(place, delivered, share=dice.random(), dice=dice)
    if action == "gather":
        return learner.sync.gather()
    if action == "reply" or not (replies := store.rows("""SELECT replies.id AS id, rater_id, conversation_id FROM replies JOIN turns ON turns.id = turn_id
            JOIN conversations ON conversations.id = conversation_id WHERE deleted_at IS NULL ORDER BY started_at""")):
        reply = add_reply(store, dice.choice(["one", "two"]))
        with store.write() as db:
            db["replies"].update(reply.id, {"text": f"words of {reply.id}"})
        return None
    reply = dice.choice(replies)
    if action in ("thumb", "stars"):
        store.add_rating(reply["id"], reply["rater_id"], action, dice.choice([-1, 0, 1] if action == "thumb" else range(6)))
    elif action == "correct":
        store.add_correction(reply["id"], reply["rater_id"], dice.choice(["", "better", "best"]))
    elif action == "second":
        with store.write() as db:
            db["ratings"].insert({"reply_id": reply["id"], "rater_id": store.ensure_rater("another"), "kind": "thumb", "value": dice.choice([-1, 0, 1]),
                                  "created_at": store.rows("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now') || lower(hex(randomblob(4))) AS now")[0]["now"]})
    elif action == "delete":
        store.delete_conversation(reply["conversation_id"], reply["rater_id"])
    else:
        with store.write() as db:
            db["replies"].update(reply["id"], {"contributes": int(action == "give")})
    return None


def carry(place: Path, delivered: Path, *, share: float, dice: random.Random) -> None:
    """A network between the two: some files arrive, in any order, and some that are gone at one end stay at the other."""
    files = {path.relative_to(place) for path in place.rglob("*.jsonl.gz")}
    there = {path.relative_to(delivered) for path in delivered.rglob("*.jsonl.gz")} if delivered.exists() else set()
    for path in sorted(files - there) + sorted(there - files):
        if path.parts[0] == "feedback" and dice.random() <= share:
            if path in files:
                (delivered / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place / path, delivered / path)
            else:
                (delivered / path).unlink()


class Doomed(Store):
    """A store whose process dies just before its n-th step that another process could see: a commit, a rename, a removal."""

    left = 0

    def _connect(self):
        db = super()._connect()
        db.conn.set_trace_callback(lambda statement: step() if statement == "COMMIT" else None)
        return db


def step() -> None:
    Doomed.left -= 1
    if Doomed.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


class DoomedPlace(SharedPlace):
    """A shared place whose process dies just before its n-th request that changes what is there."""

    def write(self, path, content):
        step()
        super().write(path, content)

    def _remove(self, path):
        step()
        super()._remove(path)


def killed_round(host: Host, steps: int, *, counted: str = "all") -> bool:
    """A round in a process of its own that is killed before its n-th step; False when it ended before.

    Args: counted: `requests`: only those that change the shared place, which need not be a local folder.
    """
    child = os.fork()
    if child == 0:
        if counted == "all":
            Doomed.left = steps + 1                                   # the first commit is the opening of the store
            sys.addaudithook(lambda event, _: step() if event in ("os.rename", "os.remove") else None)
            doomed = Host(host.folder, host.url, learner=host.sync.learner, store=Doomed)
        else:
            Doomed.left = steps
            doomed = Host(host.folder, host.url, learner=host.sync.learner)
            doomed.sync.place = DoomedPlace(host.url)
        try:
            doomed.sync.round()
            os._exit(0)
        finally:
            os._exit(1)                                               # never back into pytest
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), "the round failed by itself"
    return status != 0


def test_a_host_and_a_learner_may_be_killed_before_any_step_and_lose_and_repeat_nothing():
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        place = Path(name, "place")
        a, learner = (Host(Path(name, folder), f"file://{place}", learner=folder == "learner") for folder in ("a", "learner"))
        learner.sync.round()
        for who in (a, learner):
            steps, died = 0, True
            while died:
                steps += 1
                first, _ = said_everything(a, rater := f"person {steps}")
                if who is learner:
                    rounds(a)
                    learner.publish()
                died = killed_round(who, steps)
                a.store.delete_everything(rater)
                kept = add_reply(a.store, rater)
                a.store.add_rating(kept.id, rater, "thumb", 1)
                died = killed_round(who, steps) or died
                free_leases(a, learner)
                rounds(a, learner, a)
                assert learner.trained() == a.trained() and first.id not in learner.trained(), f"killed before step {steps}"
                assert "better so" not in texts_in(place)
                assert [v.folder for v in a.store.versions("base")] == [v.folder for v in learner.store.versions("base")]
                assert not [path for path in place.rglob(".*")] or who is learner
                assert steps < 60, "rounds never end"
            assert steps > 8
            assert len({row["id"] for row in learner.store.rows("SELECT DISTINCT reply_id AS id FROM ratings")}) >= steps


def free_leases(*hosts: Host) -> None:
    """As the time does that a killed process's lease runs out in."""
    for host in hosts:
        with host.store.write() as db:
            db.execute("DELETE FROM leases")
