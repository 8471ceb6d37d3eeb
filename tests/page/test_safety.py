"""What the page keeps harmless, in Chromium: hostile text, and strangers who ask for what is not theirs."""

import pytest
from playwright.sync_api import expect

from data.records import Generated, Sampling
from tests.support.browser_fixtures import finished, open_chat, write

pytestmark = pytest.mark.browser

HOSTILE = """<script>window.harmed=1</script> <img src="http://127.0.0.1:9/beacon.png" onerror="window.harmed=2">
[click](javascript:window.harmed=3) ![beacon](http://127.0.0.1:9/beacon2.png) <style>body{display:none}</style>
${window.harmed=4} {{constructor.constructor("window.harmed=5")()}} <div style="position:fixed;inset:0">over everything</div>"""


def test_hostile_text_of_model_and_people_is_inert(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    write(page, HOSTILE)
    finished(page)
    store, rater = chat_server.store, chat_server.rater_of(context)
    turn = store.add_turn(store.conversations(rater)[0].id, "And the model says")
    reply = store.start_reply(turn.id, 0, None, chat_server.base.id, "openvino", Sampling(), (1,))
    store.finish_reply(reply.id, HOSTILE, Generated((1,), (-1.0,), 1.0, "stop"), 0.1, 0.2)
    page.reload()
    expect(page.locator(".reply-body").last).to_contain_text("over everything")
    expect(page.locator(".reply-body").last).to_contain_text("window.harmed=1")
    page.wait_for_timeout(500)
    assert page.evaluate("window.harmed") is None
    assert page.locator("#chat img, #chat script, #chat [style*=fixed], #chat a[href^=javascript]").count() == 0
    assert [url for url in requests if not url.startswith((chat_server.url, "data:"))] == []


def test_nobody_reads_rates_stops_or_follows_what_is_somebody_elses(person, chat_server):
    mine = open_chat(person(), chat_server)
    write(mine, "My secret is a blue teapot")
    finished(mine)
    conversation = mine.url.split("c=")[1]
    reply = mine.locator(".reply").get_attribute("data-reply")

    stranger = person()
    page = open_chat(stranger, chat_server)
    page.goto(f"{chat_server.url}/?c={conversation}")
    expect(page.locator(".notice")).to_contain_text("no conversation")
    expect(page.locator("#chat")).not_to_contain_text("blue teapot")
    component = mine.evaluate("window.gradio_config.components.find(c => c.props.elem_id === 'chat').id")
    for name, payload in [("ui_open", {"conversation": conversation}), ("ui_look", {"conversation": conversation}),
                          ("ui_send", {"conversation": conversation, "text": "hi"}), ("ui_regenerate", {"conversation": conversation}),
                          ("ui_stop", {"conversation": conversation}), ("ui_rate", {"reply": reply, "kind": "thumb", "value": 1}),
                          ("ui_open", {"conversation": {"$ne": 1}, "fresh": "x"}), ("ui_rate", {"reply": reply, "kind": "stars", "value": "five"}),
                          ("ui_rate", {"reply": reply, "kind": "stars", "value": 6})]:
        answer = stranger.request.post(f"{chat_server.url}/gradio_api/component_server", data={
            "data": payload, "component_id": component, "session_hash": "stranger", "fn_name": name}).json()
        assert answer["ok"] is (payload.get("fresh") == "x"), (name, answer)
        assert "teapot" not in str(answer)
    assert chat_server.store.ratings_of(chat_server.rater_of(stranger), conversation) == {}
