"""Three chat servers and a learner over one state folder, as processes, and another host that sends its ratings to them."""

import json

import pytest
from gradio_client.exceptions import AppError

from data.adapters import AdapterRegistry
from data.store import Store
from learner.config import LearnerConfig
from tests.support.factories import add_reply
from tests.support.hosts import Host, texts_in
from tests.support.random_adapter import write_random_adapter
from tests.support.server_process import ServerProcess
from tests.support.waiting import until


@pytest.fixture(scope="module")
def replicas(endless_base, tmp_path_factory):
    state = tmp_path_factory.mktemp("replicas") / "state"
    settings = {"SYNC_URL": f"file://{state.parent / 'place'}", "SYNC_SECONDS": "1", "LEARNER": "false", "MAX_NEW_TOKENS": "6000", "TRAIN_EVERY_RATINGS": "0", "MAX_STREAMS": "4"}
    servers = [ServerProcess(state, endless_base, wait=False, **settings) for _ in range(3)]
    for server in servers:
        server.wait_until_up()
    yield servers
    for server in servers:
        server.close()


def as_one_person(servers):
    """A client of each server in one session: their key is the state folder's, so they are one person."""
    clients = [server.client() for server in servers]
    for client in clients[1:]:
        client.session_hash = clients[0].session_hash
    return clients


@pytest.mark.slow
def test_a_person_sees_one_conversation_whichever_server_answers_and_a_version_reaches_all(replicas, endless_base, tmp_path):
    first, second, third = as_one_person(replicas)
    store = Store(replicas[0].state_dir / "chat.db")
    writing = first.submit("a long story", None, api_name="/send")
    row = until(lambda: store.row("SELECT replies.id AS id, conversation_id FROM replies JOIN turns ON turns.id = turn_id WHERE text <> '' AND state = 'streaming'"))
    with pytest.raises(AppError, match="still being written"):
        second.predict("and then?", row["conversation_id"], api_name="/send")
    store.stop_replies(row["conversation_id"])                # what Stop does at another server
    assert writing.result(30)["reply_id"] == row["id"] and store.reply(row["id"]).finish_reason == "cancelled"

    going_on = second.submit("and then?", row["conversation_id"], api_name="/send")
    until(lambda: store.row("SELECT id FROM replies WHERE text <> '' AND state = 'streaming'"))             # of an empty one there is nothing to learn
    store.stop_replies(row["conversation_id"])
    answer = going_on.result(30)
    turns = store.conversation(row["conversation_id"]).turns
    assert [turn.message for turn in turns] == ["a long story", "and then?"]
    assert len(store.reply(answer["reply_id"]).prompt_ids) > len(store.reply(row["id"]).completion_ids)        # it has read the first one's answer
    for server, reply, stars in ((third, row["id"], 1), (first, answer["reply_id"], 5)):
        assert server.predict(reply, "stars", stars, api_name="/rate") == {"stars": stars}

    elsewhere = Host(tmp_path / "elsewhere", replicas[0].environment["SYNC_URL"])
    sent = add_reply(elsewhere.store, "somebody", base_model=endless_base.id)
    elsewhere.store.add_rating(sent.id, "somebody", "stars", 4)
    elsewhere.sync.round()
    learnt = replicas[0].learn("--once", "--json")
    assert learnt.returncode == 0, learnt.stderr
    lengths = [len(reply.prompt_ids) + len(reply.completion_ids) for reply in map(store.reply, (row["id"], answer["reply_id"], sent.id))]
    short_enough = [length for length in lengths if length <= LearnerConfig.max_reply_tokens]               # a fast machine writes long stories
    assert json.loads(learnt.stdout.splitlines()[-1])["ratings_used"] == len(short_enough)
    elsewhere.sync.round()
    assert elsewhere.registry.verify(1) and [receipt.version for receipt in elsewhere.store.receipts(sent.id)] == [1]
    assert row["id"] in texts_in(tmp_path / elsewhere.sync.place.url.removeprefix("file://")), "the servers do not send"
    registry = AdapterRegistry(store, replicas[0].state_dir / "adapters")
    for number in (1, 2):                                     # each time the servers sweep what the others have loaded, or are loading
        until(lambda number=number: {client.predict(api_name="/status")["version"] for client in (first, second, third)} == {number})
        if number < 2:
            registry.publish(lambda folder, seed=number: write_random_adapter(endless_base, folder, seed=seed, scale=0.1), base_model=endless_base.id,
                             run_id=None, parent=number)
    assert not store.rows("SELECT number FROM versions WHERE error IS NOT NULL")


@pytest.mark.slow
def test_a_reply_whose_server_was_killed_is_ended_by_the_next_one_that_looks(replicas):
    *_, survivor, victim = replicas
    here, there = as_one_person([survivor, victim])
    store = Store(survivor.state_dir / "chat.db")
    there.submit("another story", None, api_name="/send")
    row = until(lambda: store.row("SELECT replies.id AS id, conversation_id FROM replies JOIN turns ON turns.id = turn_id WHERE text <> '' AND state = 'streaming'"))
    victim.kill()
    reply = here.submit("what happened?", row["conversation_id"], api_name="/send")
    until(lambda: store.reply(row["id"]).state == "failed")
    until(lambda: store.written_elsewhere(row["conversation_id"]))
    store.stop_replies(row["conversation_id"])
    assert reply.result(30)["conversation_id"] == row["conversation_id"]
