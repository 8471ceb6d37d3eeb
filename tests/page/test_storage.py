"""Where the browser stores nothing, in Chromium: storage and cookies are blocked, or storage is full."""

from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import answered, open_chat, write

pytestmark = pytest.mark.browser

BLOCKED = """for (const area of ['localStorage', 'sessionStorage'])
    Object.defineProperty(window, area, {get() { throw new DOMException('Access is denied for this document.', 'SecurityError'); }});"""


def blocked(context):
    context.add_init_script(BLOCKED)
    return context


def test_without_storage_one_chats_rates_says_why_corrects_and_chooses_colours(person, chat_server):
    page = answered(blocked(person()), chat_server)
    page.get_by_role("button", name="Bad reply").click()
    page.get_by_label("In your own words").fill("Too cold")
    page.get_by_role("button", name="Correct this reply").click()
    expect(page.locator(".reasons .panel-note").last).to_have_text("Saved")
    page.locator(".correction-editor textarea").fill("Hello to you")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".correction-text")).to_have_text("Hello to you")
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("body.dark")).to_have_count(1)


def test_without_cookies_or_storage_the_page_says_what_it_needs(person, chat_server):
    page = blocked(person()).new_page()
    page.route(f"{chat_server.url}/", lambda route: route.fulfill(body=urlopen(route.request.url).read(), content_type="text/html"))       # sets no cookie
    page.goto(f"{chat_server.url}/")
    expect(page.locator(".notice")).to_contain_text("allow cookies for this page and reload it")
    expect(page.locator(".composer textarea")).to_be_visible()


def test_a_draft_for_which_there_is_no_room_is_sent_all_the_same(person, chat_server):
    page = open_chat(person(), chat_server)
    page.evaluate("sessionStorage.setItem('room', ''); for (let n = 2 ** 22; n >= 1; n /= 2) try { sessionStorage.room += 'x'.repeat(n); } catch {}")
    page.locator(".composer textarea").fill("Hello")
    expect(page.get_by_role("button", name="Send message")).to_be_enabled()
    write(page, "Hello again")
    expect(page.locator(".composer textarea")).to_have_value("")
