"""Writing a message, in Chromium: which Enter sends it, and that a refused one is not lost."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import answered, finished, open_chat, until_held, write
from tests.support.factories import add_reply

pytestmark = pytest.mark.browser

CALLS = re.compile("component_server")


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


def test_a_refused_message_stays_in_the_composer(person, chat_server):
    page = open_chat(person(), chat_server)
    long = "word " * 20_000
    page.locator(".composer textarea").fill(long)
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_be_visible()
    expect(page.locator(".composer textarea")).to_have_value(long)
    expect(page.locator(".turn")).to_have_count(0)


def lose_answer(page):
    """The next message reaches the server, and its answer does not come back."""
    lost = []

    def lose(route):
        if lost or "ui_send" not in (route.request.post_data or ""):
            return route.continue_()
        lost.append(route.fetch())
        route.abort()

    page.route(CALLS, lose)


def said(server, context):
    """What this person's conversations hold."""
    store = server.store
    return [[turn.message for turn in store.conversation(each.id).turns] for each in store.conversations(server.rater_of(context))]


@pytest.mark.parametrize("begun", [False, True])
def test_a_message_whose_answer_was_lost_is_not_said_twice_when_it_is_sent_again(person, chat_server, begun):
    context = person()
    page = answered(context, chat_server) if begun else open_chat(context, chat_server)
    lose_answer(page)
    looks = []                                                             # else the next one would find that it came through
    page.route(CALLS, lambda route: looks.append(route) if "ui_look" in (route.request.post_data or "") else route.fallback())
    field = page.locator(".composer textarea")
    field.fill("And now?")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("did not answer")
    expect(field).to_have_value("And now?")
    page.get_by_role("button", name="Send message").click()
    expect(page.locator(".bubble")).to_have_text([*(["Hello"] if begun else []), "And now?"])
    expect(field).to_have_value("")
    finished(page)
    assert said(chat_server, context) == [[*(["Hello"] if begun else []), "And now?"]]
    write(page, "And now?")                                                # once more on purpose
    finished(page)
    assert said(chat_server, context)[0][-2:] == ["And now?", "And now?"]


def test_a_message_that_came_through_leaves_the_composer_though_its_answer_was_lost(person, chat_server):
    page = open_chat(person(), chat_server)
    lose_answer(page)
    field = page.locator(".composer textarea")
    field.fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("did not answer")
    page.reload()
    expect(page.locator(".bubble")).to_have_text("Hello")
    expect(field).to_have_value("")
    finished(page)
    lose_answer(page)
    field.fill("And now?")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text(["Hello", "And now?"])       # the next look at the server has found it
    expect(field).to_have_value("")
    expect(page.locator(".notice")).to_be_hidden()


def test_a_message_sent_before_the_server_said_what_is_open_waits_and_goes_into_that_conversation(person, chat_server):
    context, held = person(), []
    page = open_chat(context, chat_server)
    conversation = add_reply(chat_server.store, chat_server.rater_of(context), message="Hello", text="Is it?").conversation_id
    page.route(CALLS, lambda route: held.append(route) if not held and "ui_open" in (route.request.post_data or "") else route.continue_())
    page.goto(f"{chat_server.url}/?c={conversation}")
    page.locator(".composer textarea").fill("And now?")
    page.keyboard.press("Enter")
    until_held(page, held)
    expect(page.locator(".composer textarea")).to_have_value("And now?")
    held[0].continue_()
    expect(page.locator(".bubble")).to_have_text(["Hello", "And now?"])
    finished(page)
    expect(page.locator(".composer textarea")).to_have_value("")
    assert page.url.endswith(conversation)
