"""Editing a reply into what it should have been, in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import answered

pytestmark = pytest.mark.browser


def test_a_reply_is_corrected_and_what_the_model_said_stays(person, chat_server):
    context = person()
    page = answered(context, chat_server)
    said = page.locator(".reply-body").inner_text()
    reply = chat_server.store.reply(page.locator(".reply").get_attribute("data-reply"))
    page.get_by_role("button", name="Correct this reply").click()
    field = page.get_by_label("What it should have been")
    expect(field).to_be_focused()
    assert field.input_value() == reply.text.replace("\r\n", "\n").replace("\r", "\n")
    field.fill("Good <b>morning</b>")
    page.reload()                                                       # a half-written edit is the person's own
    expect(field).to_have_value("Good <b>morning</b>")
    page.get_by_role("button", name="Save").click()
    expect(field).to_be_hidden()
    page.reload()
    page.get_by_text("Your correction").click()
    expect(page.locator(".correction-text")).to_have_text("Good <b>morning</b>")
    expect(page.locator(".reply-body")).to_have_text(said)
    assert chat_server.store.corrections_of(chat_server.rater_of(context), reply.conversation_id) == {reply.id: "Good <b>morning</b>"}
    assert chat_server.store.reply(reply.id).text == reply.text

    page.get_by_role("button", name="Correct this reply").click()
    expect(field).to_have_value("Good <b>morning</b>")
    field.fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your correction")).to_be_hidden()


def test_an_escape_that_dismisses_an_input_methods_candidates_leaves_the_editor_and_its_text(person, chat_server):
    page = answered(person(), chat_server)
    page.get_by_role("button", name="Correct this reply").click()
    field = page.get_by_label("What it should have been")
    field.fill("早上好")
    press = lambda event: field.evaluate("(field, event) => field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true, ...event}))", event)
    for of_an_input_method in ({"isComposing": True}, {"keyCode": 229}):
        press(of_an_input_method)
        expect(field).to_have_value("早上好")
        expect(field).to_be_visible()
    press({})
    expect(field).to_be_hidden()
