"""Saying why, in Chromium."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import answered, until_held, write

pytestmark = pytest.mark.browser


@pytest.fixture
def page(person, chat_server):
    page = answered(person(), chat_server, contributes=True)
    return page


def test_a_thumb_down_asks_why_and_the_answer_is_there_after_a_reload(page, chat_server):
    expect(page.locator(".reasons")).to_be_hidden()
    page.get_by_role("button", name="Bad reply").click()
    page.get_by_role("button", name="Too long").click()
    page.get_by_role("button", name="Wrong", exact=True).click()
    page.get_by_label("In your own words").fill("It rambles <b>on</b>.")
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".reasons")).to_be_hidden()
    expect(page.get_by_role("button", name="You said: Too long, Wrong")).to_be_focused()
    expect(page.get_by_label("Say why").locator(".panel-note")).to_have_text("Saved")

    page.reload()
    expect(page.locator(".reasons")).to_be_hidden()
    page.get_by_role("button", name="You said: Too long, Wrong").click()
    expect(page.get_by_label("In your own words")).to_have_value("It rambles <b>on</b>.")
    expect(page.get_by_role("button", name="Too long", exact=True)).to_have_attribute("aria-pressed", "true")
    reply = page.locator(".reply").get_attribute("data-reply")
    [rated] = [r for r in chat_server.store.rated_replies(chat_server.base.id) if r.reply.id == reply]
    assert (rated.reasons[0].tags, rated.reasons[0].comment) == (("too_long", "wrong"), "It rambles <b>on</b>.")


def test_reasons_that_were_put_away_stay_so_when_the_thumbs_answer_comes_while_they_are_being_saved(page):
    rates, reasons = [], []

    def hold(route):
        sent = route.request.post_data or ""
        held = rates if "ui_rate" in sent else reasons if "ui_reasons" in sent and not reasons else None
        route.continue_() if held is None else held.append(route)      # the comment and "Done" save one after the other

    page.route(re.compile("component_server"), hold)
    page.get_by_role("button", name="Bad reply").click()
    page.get_by_label("In your own words").fill("It rambles.")
    page.get_by_role("button", name="Done").click()
    until_held(page, rates)
    until_held(page, reasons)
    rates[0].continue_()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    expect(page.locator(".reasons")).to_be_hidden()
    reasons[0].continue_()
    expect(page.get_by_label("Say why").locator(".panel-note")).to_have_text("Saved")
    expect(page.locator(".reasons")).to_be_hidden()


def test_a_thumb_up_offers_tags_of_its_own_and_needs_none(page):
    page.get_by_role("button", name="Good reply").click()
    expect(page.locator(".chip")).to_have_text(["Helpful", "Clear", "Right length", "Good tone"])
    expect(page.get_by_label("In your own words")).to_be_hidden()
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Say why")).to_be_visible()
    page.get_by_role("button", name="Good reply").click()                  # without a thumb there is nothing to explain
    expect(page.get_by_role("button", name="Say why")).to_be_hidden()


def test_a_better_one_is_offered_at_the_newest_reply_and_elsewhere_it_is_said_why_not(page):
    page.get_by_role("button", name="Bad reply").click()
    reasons = page.locator(".reasons").first
    better, why_not = reasons.get_by_role("button", name="Show me a better one"), reasons.get_by_text("at the newest reply only")
    expect(better).to_be_visible()
    expect(why_not).to_be_hidden()
    write(page, "And now?")
    expect(why_not).to_be_visible()
    expect(better).to_be_hidden()
    page.get_by_role("button", name="Good reply").first.click()
    expect(why_not).to_be_hidden()


def test_a_half_written_comment_survives_looks_at_the_server_a_refused_save_and_a_reload(page):
    page.get_by_role("button", name="Bad reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    comment = page.get_by_label("In your own words")
    comment.press_sequentially("I meant")
    with page.expect_response(re.compile("component_server")):             # a look at the server
        pass
    page.wait_for_timeout(300)
    expect(comment).to_have_value("I meant")
    page.reload()
    expect(comment).to_have_value("I meant")
    comment.press("End")
    comment.press_sequentially(" salt")
    page.route(re.compile("component_server"), lambda route: route.abort())
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".panel-note.problem")).to_contain_text("not saved")
    page.unroute(re.compile("component_server"))
    page.reload()
    expect(comment).to_have_value("I meant salt")
