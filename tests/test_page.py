"""The chat page in Chromium, in front of a real server with a tiny model."""

import re

import pytest
from playwright.sync_api import expect

from data.records import Generated, Sampling
from tests.browser_fixtures import contribute, finished, open_chat, until_held, write
from tests.factories import add_reply
from tests.waiting import until

pytestmark = pytest.mark.browser

HOSTILE = """<script>window.harmed=1</script> <img src="http://127.0.0.1:9/beacon.png" onerror="window.harmed=2">
[click](javascript:window.harmed=3) ![beacon](http://127.0.0.1:9/beacon2.png) <style>body{display:none}</style>
${window.harmed=4} {{constructor.constructor("window.harmed=5")()}} <div style="position:fixed;inset:0">over everything</div>"""


def ratings_of(server, context):
    """What the store says this person gave, newest conversation only."""
    rater = server.rater_of(context)
    return server.store.ratings_of(rater, server.store.conversations(rater)[0].id)


def test_a_rating_given_in_place_is_there_after_a_reload(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    write(page, "Hello there")
    finished(page)
    expect(page.locator(".bubble")).to_have_text("Hello there")
    expect(page.locator(".reply-version")).to_have_text("Base model")

    page.get_by_role("button", name="Good reply").click()
    page.get_by_role("radio", name="4 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    text = page.locator(".reply-body").inner_text()

    page.reload()
    expect(page.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("radio", name="4 of 5 stars")).to_have_attribute("aria-checked", "true")
    expect(page.locator(".reply-body")).to_have_text(text)
    assert list(ratings_of(chat_server, context).values()) == [{"thumb": 1, "stars": 4}]

    page.goto(chat_server.url)                       # without an address of its own, the latest conversation opens
    expect(page.locator(".bubble")).to_have_text("Hello there")


def test_a_mind_is_changed_and_a_rating_taken_back(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    write(page, "Hello")
    finished(page)
    up, down = page.get_by_role("button", name="Good reply"), page.get_by_role("button", name="Bad reply")
    for _ in range(3):
        up.click()
        down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(up).to_have_attribute("aria-pressed", "false")
    page.get_by_role("radio", name="2 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    assert list(ratings_of(chat_server, context).values()) == [{"thumb": -1, "stars": 2}]

    down.click()
    page.get_by_role("radio", name="2 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Taken back")
    expect(page.locator(".star.lit")).to_have_count(0)
    assert ratings_of(chat_server, context) == {}


def test_stars_are_given_and_taken_back_by_keyboard(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    write(page, "Hello")
    finished(page)
    page.get_by_role("button", name="Bad reply").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")                # passing over a star gives nothing
    expect(page.get_by_role("radio", name="3 of 5 stars")).to_be_focused()
    assert ratings_of(chat_server, context) == {}
    page.keyboard.press("Enter")
    expect(page.locator(".star.lit")).to_have_count(3)
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.keyboard.press("5")
    expect(page.locator(".star.lit")).to_have_count(5)
    page.keyboard.press("Delete")
    expect(page.locator(".rating-note")).to_have_text("Taken back")
    assert ratings_of(chat_server, context) == {}


def test_two_tabs_agree(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    write(page, "Hello")
    finished(page)
    other = open_chat(context, chat_server)
    page.bring_to_front()
    page.get_by_role("radio", name="5 of 5 stars").click()
    other.bring_to_front()
    expect(other.locator(".star.lit")).to_have_count(5)
    write(other, "And again")
    finished(other)
    page.bring_to_front()
    expect(page.locator(".bubble").last).to_have_text("And again")
    expect(page.locator(".reply-body").last).to_have_text(other.locator(".reply-body").last.inner_text())


def test_what_is_rated_while_the_conversation_is_fetched_anew_stays_as_it_is(person, chat_server):
    page = open_chat(person(), chat_server)
    write(page, "Hello")
    finished(page)
    held = []

    def hold(route):
        if "ui_open" in (route.request.post_data or ""):
            held.append((route, route.fetch()))                      # what the server knew before
        else:
            route.continue_()

    page.route(re.compile("component_server"), hold)
    contribute(page)                                                 # the replies now say whether they train
    until_held(page, held)
    page.get_by_role("radio", name="4 of 5 stars").click()
    page.get_by_role("button", name="Bad reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.get_by_role("button", name="Wrong", exact=True).click()
    expect(page.locator(".reasons .panel-note").last).to_have_text("Saved")
    route, answer = held[0]
    with page.expect_response(lambda response: "ui_open" in (response.request.post_data or "")):
        route.fulfill(response=answer)
    page.wait_for_timeout(200)
    expect(page.locator(".star.lit")).to_have_count(4)
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Wrong", exact=True)).to_have_attribute("aria-pressed", "true")


def test_a_rating_that_cannot_be_saved_falls_back_and_says_so(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    write(page, "Hello")
    finished(page)
    page.get_by_role("radio", name="2 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.route(re.compile("component_server"), lambda route: route.abort())
    page.get_by_role("radio", name="5 of 5 stars").click()
    expect(page.locator(".reply .problem[role=alert]")).to_contain_text("not saved")
    expect(page.locator(".star.lit")).to_have_count(2)

    page.locator(".composer textarea").fill("Do not lose me")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("did not answer")
    page.unroute(re.compile("component_server"))
    page.reload()
    expect(page.locator(".composer textarea")).to_have_value("Do not lose me")
    expect(page.locator(".star.lit")).to_have_count(2)


def test_a_person_and_a_script_are_told_how_many_of_the_oldest_turns_were_left_out(person, chat_server):
    long = {"message": "What a long story. " * 30, "text": "Is it?", "base_model": chat_server.base.id}       # a letter is a token, and the model reads 1,024
    context = person()
    page = open_chat(context, chat_server)
    conversation = add_reply(chat_server.store, chat_server.rater_of(context), **long).conversation_id
    page.goto(f"{chat_server.url}/?c={conversation}")
    write(page, long["message"])
    finished(page)
    expect(page.locator(".reply").last.locator(".reply-note").first).to_have_text(told := "The conversation is longer than the model can read at once, so its oldest turn was left out.")
    page.reload()
    expect(page.get_by_text(told)).to_be_visible()

    script = chat_server.client()
    first = script.predict("Hello", None, api_name="/send")
    assert "dropped_turns" not in first
    rater = chat_server.store.reply(first["reply_id"]).rater_id
    add_reply(chat_server.store, rater, conversation=first["conversation_id"], **long)
    last = script.predict(long["message"], first["conversation_id"], api_name="/send")
    assert last["dropped_turns"] == chat_server.store.reply(last["reply_id"]).dropped_turns >= 1
    assert last.keys() - first.keys() == {"dropped_turns"} and last["text"] == chat_server.store.reply(last["reply_id"]).text


def test_a_refused_message_stays_in_the_composer(person, chat_server):
    page = open_chat(person(), chat_server)
    long = "word " * 20_000
    page.locator(".composer textarea").fill(long)
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_be_visible()
    expect(page.locator(".composer textarea")).to_have_value(long)
    expect(page.locator(".turn")).to_have_count(0)


def test_enter_sends_but_not_with_shift_nor_while_an_input_method_composes(person, chat_server):
    page = open_chat(person(), chat_server)
    field = page.locator(".composer textarea")
    field.fill("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(field).to_have_value("one\ntwo")
    field.evaluate("node => node.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))")
    field.evaluate("node => node.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true}))")
    expect(page.locator(".turn")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text("one\ntwo")
    expect(field).to_have_value("")


def test_a_reply_goes_on_through_a_reload_and_is_whole(person, endless_server):
    context = person()
    page = open_chat(context, endless_server)
    write(page, "Tell me everything")
    expect(page.locator(".reply-body.writing")).to_have_text(re.compile(r"\S{10}"))
    page.reload()
    expect(page.locator(".reply-body.writing")).to_have_text(re.compile(r"\S{10}"))
    before = len(page.locator(".reply-body").inner_text())
    page.wait_for_function("n => document.querySelector('.reply-body').innerText.length > n", arg=before + 200)
    page.get_by_role("radio", name="3 of 5 stars").click()          # rated while it is being written
    expect(page.locator(".rating-note")).to_have_text("Saved")
    held = []
    page.route(re.compile("component_server"), lambda route: held.append(route) if "ui_stop" in (route.request.post_data or "") else route.continue_())
    page.get_by_role("button", name="Stop this reply").click()
    expect(page.locator(".composer")).to_contain_text("Stopping")   # before the server has heard of it
    until_held(page, held)
    held[0].continue_()
    finished(page)
    expect(page.locator(".composer")).not_to_contain_text("Stopping")
    expect(page.locator(".reply-notes")).to_have_text("You stopped this reply.")
    shown = page.locator(".reply-body").inner_text()
    page.reload()
    expect(page.locator(".reply-body")).to_have_text(shown)
    expect(page.locator(".star.lit")).to_have_count(3)


def test_several_people_are_answered_at_once(person, endless_server):
    store = endless_server.store
    pages = [open_chat(person(), endless_server) for _ in range(2)]          # pages that grow by hundreds of words a second: more keep one Chromium behind
    script = endless_server.client().submit("Tell me everything", None, api_name="/send")
    for page in pages:
        write(page, "Tell me everything")
    until(lambda: len(written := store.rows("SELECT conversation_id FROM replies JOIN turns ON turns.id = turn_id WHERE state = 'streaming' AND text <> ''")) == 3
          and [store.stop_replies(row["conversation_id"]) for row in written])
    for page in pages:
        finished(page)
        expect(page.locator(".reply-body")).not_to_be_empty()
    assert store.reply(script.result(30)["reply_id"]).finish_reason == "cancelled"


def test_another_attempt_keeps_the_rating_of_the_first(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    write(page, "Hello")
    finished(page)
    page.get_by_role("button", name="Bad reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.get_by_role("button", name="Try another reply").click()
    expect(page.locator(".attempt-count")).to_have_text("2/2")
    finished(page)
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Earlier reply").click()
    expect(page.locator(".attempt-count")).to_have_text("1/2")
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")


def test_a_new_conversation_is_empty_and_the_old_one_is_one_step_back(person, chat_server):
    page = open_chat(person(), chat_server)
    page.locator(".example").first.click()
    finished(page)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".welcome")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(0)
    page.go_back()
    expect(page.locator(".turn")).to_have_count(1)


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


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_page_fits_every_width_in_both_languages(person, chat_server, locale):
    page = open_chat(person(locale=locale), chat_server)
    welcome = {"en-US": "Chat, rate, and watch it learn", "zh-CN": "聊天、评分，看它学习"}[locale]
    expect(page.get_by_role("heading", name=welcome)).to_be_visible()
    page.locator(".composer textarea").fill("x" * 20_001)
    page.keyboard.press("Enter")
    refused = {"en-US": "20,001 characters and the limit is 20,000", "zh-CN": "20,001 个字符，上限是 20,000"}[locale]
    expect(page.locator(".notice")).to_contain_text(refused)
    write(page, "averyveryverylongwordwithoutanyspace" * 8)
    finished(page)
    for width in (360, 390, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        box = page.locator(".composer").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= 800
        for button in page.locator(".rating button").all():
            size = button.bounding_box()
            assert size["width"] >= 30 and size["height"] >= 40
