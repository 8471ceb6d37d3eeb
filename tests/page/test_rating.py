"""Thumbs and stars on a reply, in Chromium: given, changed and taken back, by mouse and by keyboard, and kept."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import answered, contribute, finished, open_chat, until_held, write

pytestmark = pytest.mark.browser


def ratings_of(server, context):
    """What the store says this person gave, newest conversation only."""
    rater = server.rater_of(context)
    return server.store.ratings_of(rater, server.store.conversations(rater)[0].id)


def test_a_rating_given_in_place_is_there_after_a_reload(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    write(page, "Hello there")
    finished(page)
    expect(page.locator(".bubble")).to_have_text("Hello there")
    expect(page.locator(".reply-version")).to_have_text("Base model")

    page.get_by_role("button", name="Good reply").click()
    page.get_by_role("radio", name="4 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    text = page.locator(".reply-body").inner_text()

    page.reload()
    expect(page.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("radio", name="4 of 5 stars")).to_have_attribute("aria-checked", "true")
    expect(page.locator(".reply-body")).to_have_text(text)
    assert list(ratings_of(chat_server, context).values()) == [{"thumb": 1, "stars": 4}]

    page.goto(chat_server.url)                       # without an address of its own, the latest conversation opens
    expect(page.locator(".bubble")).to_have_text("Hello there")


def test_a_mind_is_changed_and_a_rating_taken_back(person, chat_server):
    context = person()
    page = answered(context, chat_server)
    up, down = page.get_by_role("button", name="Good reply"), page.get_by_role("button", name="Bad reply")
    for _ in range(3):
        up.click()
        down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(up).to_have_attribute("aria-pressed", "false")
    page.get_by_role("radio", name="2 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    assert list(ratings_of(chat_server, context).values()) == [{"thumb": -1, "stars": 2}]

    down.click()
    page.get_by_role("radio", name="2 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Taken back")
    expect(page.locator(".star.lit")).to_have_count(0)
    assert ratings_of(chat_server, context) == {}


def test_stars_are_given_and_taken_back_by_keyboard(person, chat_server):
    context = person()
    page = answered(context, chat_server)
    page.get_by_role("button", name="Bad reply").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")                # passing over a star gives nothing
    expect(page.get_by_role("radio", name="3 of 5 stars")).to_be_focused()
    assert ratings_of(chat_server, context) == {}
    page.keyboard.press("Enter")
    expect(page.locator(".star.lit")).to_have_count(3)
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.keyboard.press("5")
    expect(page.locator(".star.lit")).to_have_count(5)
    page.keyboard.press("Delete")
    expect(page.locator(".rating-note")).to_have_text("Taken back")
    assert ratings_of(chat_server, context) == {}


def test_another_attempt_keeps_the_rating_of_the_first(person, chat_server):
    context = person()
    page = answered(context, chat_server)
    page.get_by_role("button", name="Bad reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.get_by_role("button", name="Try another reply").click()
    expect(page.locator(".attempt-count")).to_have_text("2/2")
    finished(page)
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Earlier reply").click()
    expect(page.locator(".attempt-count")).to_have_text("1/2")
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")


def test_what_is_rated_while_the_conversation_is_fetched_anew_stays_as_it_is(person, chat_server):
    page = answered(person(), chat_server)
    held = []

    def hold(route):
        if "ui_open" in (route.request.post_data or ""):
            held.append((route, route.fetch()))                      # what the server knew before
        else:
            route.continue_()

    page.route(re.compile("component_server"), hold)
    contribute(page)                                                 # the replies now say whether they train
    until_held(page, held)
    page.get_by_role("radio", name="4 of 5 stars").click()
    page.get_by_role("button", name="Bad reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.get_by_role("button", name="Wrong", exact=True).click()
    expect(page.locator(".reasons .panel-note").last).to_have_text("Saved")
    route, answer = held[0]
    with page.expect_response(lambda response: "ui_open" in (response.request.post_data or "")):
        route.fulfill(response=answer)
    page.wait_for_timeout(200)
    expect(page.locator(".star.lit")).to_have_count(4)
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Wrong", exact=True)).to_have_attribute("aria-pressed", "true")


def test_a_rating_that_cannot_be_saved_falls_back_and_says_so(person, chat_server):
    context = person()
    page = answered(context, chat_server)
    page.get_by_role("radio", name="2 of 5 stars").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.route(re.compile("component_server"), lambda route: route.abort())
    page.get_by_role("radio", name="5 of 5 stars").click()
    expect(page.locator(".reply .problem[role=alert]")).to_contain_text("not saved")
    expect(page.locator(".star.lit")).to_have_count(2)

    page.locator(".composer textarea").fill("Do not lose me")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("did not answer")
    page.unroute(re.compile("component_server"))
    page.reload()
    expect(page.locator(".composer textarea")).to_have_value("Do not lose me")
    expect(page.locator(".star.lit")).to_have_count(2)
