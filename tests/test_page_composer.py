"""Writing a message, in Chromium: which Enter sends it, and that a refused one is not lost."""

import pytest
from playwright.sync_api import expect

from tests.browser_fixtures import open_chat

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
