"""Writing a message, in Chromium: which Enter sends it, and that a refused one is not lost."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser_fixtures import finished, open_chat, until_held
from tests.factories import add_reply

pytestmark = pytest.mark.browser


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


def test_a_message_sent_before_the_server_said_what_is_open_waits_and_goes_into_that_conversation(person, chat_server):
    context, held = person(), []
    page = open_chat(context, chat_server)
    conversation = add_reply(chat_server.store, chat_server.rater_of(context), message="Hello", text="Is it?").conversation_id
    page.route(re.compile("component_server"), lambda route: held.append(route) if not held and "ui_open" in (route.request.post_data or "") else route.continue_())
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
