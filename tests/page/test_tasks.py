"""Choosing what a new conversation is for, in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import finished, open_chat, write

pytestmark = pytest.mark.browser


def test_a_task_is_chosen_by_keyboard_or_touch_shown_and_kept_and_the_next_conversation_is_a_dialogue_again(person, chat_server):
    page = open_chat(person(viewport={"width": 360, "height": 780}), chat_server)
    chosen, field = page.locator(".tasks [aria-checked=true]"), page.locator(".composer textarea")
    expect(chosen).to_have_text("Dialogue")
    expect(page.locator(".example").first).to_contain_text("why the sky is blue")
    chosen.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(chosen).to_have_text("Translation")
    expect(chosen).to_be_focused()
    expect(page.locator(".example").first).to_contain_text("Into French")
    expect(field).to_have_attribute("placeholder", "Text, and target language")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator(".example").first.click()
    finished(page)
    expect(page.get_by_role("heading", name="Translation")).to_be_visible()
    reply = chat_server.store.reply(page.locator(".reply").get_attribute("data-reply"))
    assert reply.task == "translation"

    page.reload()
    expect(page.get_by_role("heading", name="Translation")).to_be_visible()
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator(".history-open .muted")).to_contain_text("Translation")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="New conversation").click()
    expect(chosen).to_have_text("Dialogue")
    expect(field).to_have_attribute("placeholder", "Write a message")
    write(page, "Hello")
    finished(page)
    expect(page.get_by_role("heading", name="Translation")).to_have_count(0)
    assert chat_server.store.reply(page.locator(".reply").get_attribute("data-reply")).task == "dialogue"
