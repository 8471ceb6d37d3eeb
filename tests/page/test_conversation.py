"""A conversation on the page, in Chromium: new, in two tabs, and longer than the model can read."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import answered, finished, open_chat, until_held, write
from tests.support.factories import add_reply

pytestmark = pytest.mark.browser


def test_a_new_conversation_is_empty_and_the_old_one_is_one_step_back(person, chat_server):
    page = open_chat(person(), chat_server)
    page.locator(".example").first.click()
    finished(page)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".welcome")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(0)
    page.go_back()
    expect(page.locator(".turn")).to_have_count(1)


def test_two_tabs_agree(person, chat_server):
    context = person()
    page = answered(context, chat_server)
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


def test_a_server_that_has_not_answered_a_look_is_not_asked_for_another_one(person, chat_server):
    page, held = open_chat(person(), chat_server), []
    page.route(re.compile("component_server"), lambda route: held.append(route) if "ui_look" in (route.request.post_data or "") else route.continue_())
    look = lambda: page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    look()
    until_held(page, held)
    for _ in range(3):
        look()
    page.wait_for_timeout(3500)                                            # and one's time has come
    assert len(held) == 1
    held.pop().continue_()
    for _ in range(2):
        until_held(page, held)
        held.pop().abort()                                                 # neither an answer nor a lost one keeps the next one back


def test_a_person_and_a_script_are_told_how_many_of_the_oldest_turns_were_left_out(person, chat_server):
    long = {"message": "What a long story. " * 30, "text": "Is it?", "base_model": chat_server.base.id}       # a letter is a token, and the model reads 1,024
    context = person()
    open_chat(context, chat_server).close()                                # signs who this is
    conversation = add_reply(chat_server.store, chat_server.rater_of(context), **long).conversation_id
    page = open_chat(context, chat_server, f"/?c={conversation}")
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
