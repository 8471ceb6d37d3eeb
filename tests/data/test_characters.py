"""Half a surrogate pair, as a cut emoji leaves it, is no character: what comes with one is stored without it."""

from __future__ import annotations

import http.client
import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from chat_app.identity import Identity
from chat_app.page.chat_page import chat_calls
from chat_app.page.history_calls import history_calls
from chat_app.page.rating_calls import rating_calls
from data.base_models.tokenizer import ChatTokenizer
from data.importing import import_conversations
from data.texts.characters import storable
from tests.support.service_fixtures import finished, server  # noqa: F401

HALF = "\ud83d"


def test_whole_characters_stay_and_what_is_no_text_too():
    assert storable(f"a{HALF}b") == "a?b" and storable("caf\u00e9 \U0001f600") == "caf\u00e9 \U0001f600" and storable(None) is None and storable(3) == 3


def test_every_text_that_a_page_may_send_is_taken(server):      # noqa: F811
    identity, request = Identity("a key for tests"), SimpleNamespace(cookies={}, session_hash="me")
    service, me = server.service, Identity("a key for tests").rater(request)
    call = {one.__name__: one for one in (*chat_calls(service, identity), *history_calls(service, identity), *rating_calls(service, identity))}
    job = finished(service.send(me, None, f"cut {HALF}"))
    named, reply = {"conversation": job.conversation_id}, {"reply": job.reply_id}
    assert call["ui_rename"]({**named, "title": f"cut {HALF}"}, request) == {"ok": True, "title": "cut ?"}
    assert [entry["title"] for entry in call["ui_history"]({"search": f"cut {HALF}"}, request)["entries"]] == ["cut ?"]
    assert call["ui_reasons"]({**reply, "tags": [], "comment": f"cut {HALF}"}, request)["reasons"]["comment"] == "cut ?"
    assert call["ui_correct"]({**reply, "text": f"cut {HALF}"}, request)["ok"]
    refused = [("ui_reasons", {**reply, "tags": [HALF]}, "BadRating"), ("ui_rate", {"reply": HALF, "kind": "thumb", "value": 1}, "UnknownReply"),
               ("ui_rate", {**reply, "kind": HALF, "value": 1}, "BadRating"), ("ui_open", {"conversation": HALF}, "UnknownConversation"),
               ("ui_send", {"conversation": HALF, "text": "hi"}, "UnknownConversation"), ("ui_send", {**named, "text": "hi", "task": HALF}, "BadTask"),
               ("ui_compare", {"first": HALF, "second": HALF, "preferred": HALF, "asked_by": HALF}, "BadRating")]
    for name, payload, kind in refused:
        assert call[name](payload, request)["kind"] == kind, name


@pytest.mark.parametrize(("name", "data", "says"), [
    ("rate", [HALF, "thumb", 1], "There is no reply"), ("compare", [HALF, HALF, "first"], "There is no reply"),
    ("send", ["hi", HALF, None, True], "There is no conversation"), ("regenerate", [HALF, True], "There is no conversation")])
def test_a_scripts_ids_are_answered_with_a_sentence(chat_server, name, data, says):
    connection = http.client.HTTPConnection(urlsplit(chat_server.url).netloc, timeout=30)
    connection.request("POST", f"/gradio_api/call/{name}", json.dumps({"data": data}), {"content-type": "application/json"})
    event = json.load(connection.getresponse())["event_id"]
    connection.request("GET", f"/gradio_api/call/{name}/{event}")
    assert says in connection.getresponse().read().decode()
    connection.close()


def test_a_file_of_conversations_may_hold_some(server, tmp_path):      # noqa: F811
    file = tmp_path / "cut.json"
    file.write_text(json.dumps([{"messages": [{"role": "user", "content": HALF}, {"role": "assistant", "content": f"cut {HALF}"}], "rating": {"thumb": 1}, "rater": HALF}]))
    imported = [import_conversations(server.store, server.base, ChatTokenizer(server.base.folder), file) for _ in range(2)]
    assert [one.already_there for one in imported] == [0, 1]
    assert [rated.reply.text for rated in server.store.rated_replies(server.base.id)] == ["cut ?"]
