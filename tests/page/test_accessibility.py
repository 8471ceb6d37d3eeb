"""axe-core over both pages in Chromium: no serious or critical violation in any state that a person can open."""

import pytest
from playwright.sync_api import expect

from data.records import Generated, Sampling
from tests.page.test_consequence import train_on
from tests.support.accessibility import DESK, check_accessibility
from tests.support.browser_fixtures import contribute, finished, open_chat, sign_in, write

pytestmark = pytest.mark.browser

RICH = "# Tides\n\n1. one\n2. `two`\n\n> said\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nprint('x')\n```\n[link](http://example.org)"


def test_the_chat_has_no_serious_violation_whatever_is_open(person, chat_server):
    page = open_chat(person(viewport=DESK), chat_server)
    check_accessibility(page)                                                # the welcome, with the question of consent
    contribute(page)
    write(page, "Tell me of tides")
    finished(page)
    store = chat_server.store
    turn = store.reply(page.locator(".reply").get_attribute("data-reply")).turn_id
    rich = store.start_reply(turn, 0, None, chat_server.base.id, "openvino", Sampling(), (1,))
    store.finish_reply(rich.id, RICH, Generated((1,), (-1.0,), 1.0, "length"), 0.1, 0.2)
    page.reload()
    page.get_by_role("button", name="Bad reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.get_by_role("button", name="Wrong", exact=True).click()
    page.get_by_role("radio", name="2 of 5 stars").click()
    page.get_by_role("button", name="Correct this reply").click()
    page.get_by_role("button", name="Base model").click()
    number = train_on(chat_server, rich.id, data={"replies": 1, "raters": 1}, gate={
        "scale": 1, "replies": [{"prompt": "Say hi", "before": "Hi!", "after": "Hello!"}]}).version
    expect(page.locator(".toast")).to_be_visible(timeout=30_000)             # for 8 s, some seconds from now
    page.get_by_role("button", name=f"Your rating helped make version {number}").click()
    page.locator(".receipt-panel summary").click()
    check_accessibility(page)                                                # a conversation, with every panel of a reply
    page.set_viewport_size(DESK)
    page.locator(".reasons").get_by_role("button", name="Show me a better one").click()
    page.get_by_role("button", name="B is better").click()
    expect(page.locator(".side.better")).to_be_visible()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="Rename: Tell me of tides").click()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Delete my data").click()
    check_accessibility(page)                                                # ... two replies side by side, the drawer and the menu
    chat_server.store.promote(0, chat_server.base.id, "for the next test")


def test_the_maintainers_page_has_no_serious_violation_signed_out_and_in(person, chat_server):
    page = sign_in(person(viewport=DESK), chat_server, "a wrong password")
    expect(page.locator(".sign-in .problem")).to_be_visible()
    check_accessibility(page)
    page = sign_in(page.context, chat_server)
    expect(page.locator(".version-list")).to_contain_text("Trained on 1 rated reply")
    expect(page.locator(".rating-list li").first).to_be_visible()
    page.locator("summary").first.click()
    check_accessibility(page)
