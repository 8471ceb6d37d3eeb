"""Two replies side by side, in Chromium."""

import pytest
from playwright.sync_api import expect

from data.records import Generated, Sampling
from tests.support.accessibility import check_accessibility
from tests.support.browser_fixtures import answered, finished, prefer, write

pytestmark = pytest.mark.browser


def test_a_better_reply_is_asked_for_compared_and_gone_on_from(person, chat_server):
    context = person(viewport={"width": 390, "height": 800})
    page = answered(context, chat_server, contributes=True)
    old = page.locator(".reply").get_attribute("data-reply")
    page.get_by_role("button", name="Bad reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    page.locator(".reasons").get_by_role("button", name="Show me a better one").click()
    side_a, side_b = page.get_by_role("group", name="Reply A"), page.get_by_role("group", name="Reply B")
    a, b = (page.get_by_role("button", name=f"{side} is better") for side in "AB")
    expect(a).to_be_enabled()                                            # both are whole
    box_a, box_b = side_a.bounding_box(), side_b.bounding_box()
    assert box_b["y"] >= box_a["y"] + box_a["height"] and box_a["width"] == box_b["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".compare .reply-version:visible").count() == 0
    page.set_viewport_size({"width": 1280, "height": 800})
    assert side_a.bounding_box()["y"] == side_b.bounding_box()["y"]

    ids = [side.locator(".reply").get_attribute("data-reply") for side in (side_a, side_b)]
    assert ids == sorted(ids) and old in ids
    page.reload()                                                        # before anything was said, the two still stand there
    expect(side_a.locator(".reply")).to_have_attribute("data-reply", ids[0])
    choose_old, choose_new = (a, b) if ids[0] == old else (b, a)
    note = page.locator(".compare > .panel-end .panel-note")
    a.focus()
    page.keyboard.press("Enter")
    expect(note).to_have_text("Saved")
    expect(a).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="About the same").click()
    expect(a).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="About the same").click()
    expect(note).to_have_text("Taken back")
    choose_new.click()
    choose_old.click()
    expect(note).to_have_text("Saved")
    expect(choose_new).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".compare .reply-version")).to_have_text(["Base model", "Base model"])
    page.locator(".compare > .panel-end").get_by_role("button", name="Done").click()
    line = page.get_by_role("button", name="You found this one better than another reply")
    expect(line).to_be_focused()

    store = chat_server.store
    aside = store.start_reply(store.reply(old).turn_id, 0, None, chat_server.base.id, "openvino", Sampling(), (1,), aside=True)
    store.finish_reply(aside.id, "Not compared", Generated((1,), (-1.0,), 1.0, "stop"), 0.1, 0.2)     # no attempt to page to, as long as it is not
    page.reload()
    expect(line).to_be_visible()
    expect(page.locator(".attempt-count")).to_have_text("1/2")
    expect(page.locator(".reply")).to_have_attribute("data-reply", old)
    line.click()
    expect(choose_old).to_have_attribute("aria-pressed", "true")
    write(page, "Go on")                                                 # closes it
    finished(page)
    expect(page.locator(".compare")).to_have_count(0)
    rater = chat_server.rater_of(context)
    [said] = store.comparisons_of(rater, store.reply(old).conversation_id)
    assert [said.first_id, said.second_id] == ids and {"first": ids[0], "second": ids[1]}[said.preferred] == old and said.asked_by == "person"
    assert store.conversation(store.reply(old).conversation_id, rater).turns[0].answer_id == old


def test_what_the_app_wrote_aside_is_offered_and_shown_only_when_one_compares(person, chat_server):
    context = person()
    page = answered(context, chat_server, contributes=True)
    store, first = chat_server.store, page.locator(".reply").get_attribute("data-reply")
    aside = store.start_reply(store.reply(first).turn_id, 0, None, chat_server.base.id, "openvino", Sampling(), (1,), aside=True)
    store.finish_reply(aside.id, "Another answer", Generated((1,), (-1.0,), 1.0, "stop"), 0.1, 0.2)
    offer = page.get_by_role("button", name="Compare with another answer?")
    expect(offer).to_be_visible()                                        # it comes by itself, and what is read stays
    expect(page.locator(".reply")).to_have_attribute("data-reply", first)
    expect(page.locator(".attempts")).to_be_hidden()
    offer.click()
    page.locator(".side", has_text="Another answer").wait_for()
    prefer(page, "A" if aside.id < first else "B")
    check_accessibility(page)
    page.locator(".compare > .panel-end").get_by_role("button", name="Done").click()
    expect(page.locator(".reply-body")).to_have_text("Another answer")
    expect(page.locator(".attempt-count")).to_have_text("2/2")
    [said] = store.comparisons_of(chat_server.rater_of(context), aside.conversation_id)
    assert said.asked_by == "app"
