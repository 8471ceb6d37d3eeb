"""Rating by touch and by keyboard, at once, with the focus always in sight, in Chromium."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.accessibility import serious_violations
from tests.support.browser_fixtures import answered, until_held

pytestmark = pytest.mark.browser

# Whether the focused element can be told by an outline, or as the composer does it, by a ring around the field's frame.
FOCUS = """() => {
    const node = document.activeElement, ring = node.closest('.composer');
    const style = getComputedStyle(node), frame = ring && node.tagName === 'TEXTAREA' ? getComputedStyle(ring).boxShadow : 'none';
    return {name: node.getAttribute('aria-label') || node.innerText || node.tagName, outside: !node.closest('#chat'),
            seen: (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) || frame.includes('3px')};
}"""


def store_of(page, server):
    """What the store has of the one reply: its ratings, and the tags."""
    reply = server.store.reply(page.locator(".reply").get_attribute("data-reply"))
    reasons = server.store.reasons_of(reply.rater_id, reply.conversation_id).get(reply.id)
    return server.store.ratings_of(reply.rater_id, reply.conversation_id).get(reply.id), reasons and reasons.tags


def test_a_tap_rates_and_says_why(person, chat_server):
    page = answered(person(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True), chat_server)
    page.get_by_role("radio", name="2 of 5 stars").tap()
    page.get_by_role("button", name="Bad reply").tap()
    page.get_by_role("button", name="Too long").tap()
    expect(page.locator(".reasons .panel-note").last).to_have_text("Saved")
    expect(page.locator(".rating-note")).to_have_text("Saved")          # saved on a way of its own, the thumb after the stars
    expect(page.locator(".star.lit")).to_have_count(2)
    assert store_of(page, chat_server) == ({"thumb": -1, "stars": 2}, ("too_long",))


def test_the_space_bar_rates_and_says_why_and_the_mark_shows_before_the_server_has_heard(person, chat_server):
    page = answered(person(), chat_server)
    held = []
    page.route(re.compile("component_server"), lambda route: held.append(route) if "ui_rate" in (route.request.post_data or "") else route.continue_())
    down = page.get_by_role("button", name="Bad reply")
    down.focus()
    page.keyboard.press("Space")
    expect(down).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".rating-note")).to_have_text("Saving")
    until_held(page, held)
    assert store_of(page, chat_server) == (None, None)
    held[0].continue_()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    chip = page.get_by_role("button", name="Wrong", exact=True)
    chip.focus()
    page.keyboard.press("Space")
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(chip).to_be_focused()
    expect(page.locator(".reasons .panel-note").last).to_have_text("Saved")
    assert store_of(page, chat_server) == ({"thumb": -1}, ("wrong",))


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_open_panels_fit_every_width_and_the_focus_is_seen_wherever_it_goes(person, chat_server, locale):
    page = answered(person(locale=locale, viewport={"width": 1280, "height": 900}, reduced_motion="reduce"), chat_server)
    page.locator(".thumb.down").click()
    expect(page.locator(".rating-note")).not_to_be_empty()
    page.locator(".reasons .chip").first.click()
    page.locator(".reply-version").click()
    page.locator(".icon-button.correct").click()
    expect(page.locator(".correction-editor textarea")).to_be_focused()
    page.locator(".topbar .icon-dots").click()
    expect(page.locator(".menu")).to_be_visible()
    for width in (360, 390, 561, 768, 1101, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("""() => [...document.querySelectorAll('#chat .page *')].filter(node => {
            const box = node.getBoundingClientRect();
            return box.width && !node.closest('.sr') && getComputedStyle(node).visibility === 'visible' && (box.left < -1 || box.right > innerWidth + 1);
        }).map(node => node.outerHTML.slice(0, 90))""") == []
    if locale == "zh-CN":
        assert serious_violations(page) == []
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUS))
        if seen[-1]["outside"]:
            break
    assert seen[-1]["outside"] and len(seen) > 25                       # from the header through the panels to the composer, and out again
    assert [stop["name"] for stop in seen[:-1] if not stop["seen"]] == []
