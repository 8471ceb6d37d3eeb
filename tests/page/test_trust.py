"""Consent, download and deletion, in Chromium."""

import json

import pytest
from playwright.sync_api import expect

from tests.page.test_consequence import train_on
from tests.support.browser_fixtures import contribute, finished, open_chat, write
from tests.support.factories import add_reply

pytestmark = pytest.mark.browser


def rated(page):
    page.get_by_role("button", name="Good reply").last.click()
    expect(page.locator(".rating-note").last).to_have_text("Saved")
    return page.locator(".reply").last.get_attribute("data-reply")


def test_one_is_asked_once_and_what_was_rated_trains_only_after_a_yes(person, chat_server):
    training = lambda: [r.reply.id for r in chat_server.store.rated_replies(chat_server.base.id)]
    page = open_chat(person(), chat_server)
    expect(page.locator(".consent")).to_contain_text("stored on this server")
    write(page, "Hello")
    finished(page)
    reply = rated(page)
    waits = page.get_by_text("Your rating trains only once you agree below.")
    expect(waits).to_be_visible()
    assert reply not in training()
    contribute(page)
    expect(page.locator(".composer textarea")).to_be_focused()
    expect(waits).to_be_hidden()
    assert reply in training()
    page.reload()
    expect(page.locator(".bubble")).to_have_text("Hello")
    expect(page.locator(".consent")).to_be_hidden()


def test_one_chats_without_contributing_and_the_page_says_so(person, chat_server):
    page = open_chat(person(), chat_server)
    expect(page.locator(".welcome")).to_contain_text("If you agree, every thumb and star you give trains")
    page.get_by_role("button", name="Chat without contributing").click()
    expect(page.locator(".welcome")).to_contain_text("no new reply of yours trains this model")
    expect(page.locator(".dock")).not_to_contain_text("Rate a reply and the next version learns from it.")
    write(page, "Hello")
    finished(page)
    expect(page.locator(".reply-notes")).to_contain_text("Not used for training.")
    private = rated(page)
    page.get_by_role("button", name="Menu").click()
    switch = page.get_by_role("switch", name="Contribute to training")
    expect(switch).to_have_attribute("aria-checked", "false")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    page.keyboard.press("Escape")
    expect(switch).to_be_hidden()
    write(page, "And what did I say?")                                      # the answer repeats what was private
    finished(page)
    expect(page.locator(".turn").last.locator(".reply-notes")).to_contain_text("Not used for training.")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    write(page, "And now?")
    finished(page)
    given = rated(page)
    found = [r.reply.id for r in chat_server.store.rated_replies(chat_server.base.id)]
    assert given in found and private not in found


def test_ones_data_is_downloaded_and_then_deleted_with_a_receipt(person, chat_server):
    context = person(viewport={"width": 390, "height": 800})
    page = open_chat(context, chat_server)
    contribute(page)
    write(page, "My blue teapot")
    finished(page)
    reply = rated(page)
    page.get_by_role("button", name="Menu").click()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download my data").click()
    data = json.loads(downloading.value.path().read_text())
    assert data["conversations"][0]["turns"][0]["message"] == "My blue teapot"
    assert data["conversations"][0]["turns"][0]["replies"][0]["ratings"][0]["value"] == 1

    page.get_by_role("button", name="Delete my data").click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Delete my data").click()
    page.get_by_role("button", name="Delete everything").click()
    expect(page.locator(".erased")).to_have_text("Your data is deleted, and no version in use has learned from it.")
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.get_by_role("button", name="Menu")).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert reply not in [r.reply.id for r in chat_server.store.rated_replies(chat_server.base.id)]
    assert chat_server.store.conversations(chat_server.rater_of(context)) == []
    page.reload()
    expect(page.locator(".erased")).to_be_visible()


def test_a_deletion_that_weights_still_remember_waits_for_a_version_made_without_it_and_says_so(person, chat_server):
    store, base = chat_server.store, chat_server.base.id
    other = add_reply(store, base_model=base)
    store.add_rating(other.id, other.rater_id, "thumb", 1)                 # there is a next version to make
    page = open_chat(person(), chat_server)
    contribute(page)
    write(page, "My blue teapot")
    finished(page)
    train_on(chat_server, rated(page))
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Delete my data").click()
    page.get_by_role("button", name="Delete everything").click()
    expect(page.locator(".erased")).to_contain_text("The model that answers now still holds what it learned from your ratings")
    forgot = train_on(chat_server, other.id).version
    expect(page.locator(".erased")).to_have_text(f"Your data is deleted. Since version {forgot}, the model is trained without it.", timeout=30_000)
    store.promote(0, base, "for the next test")
