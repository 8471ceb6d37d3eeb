"""Replies that are being written, in Chromium: through a lost connection and a reload to their own end or a stop, rated meanwhile, several at once."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import ChatServer, finished, open_chat, until_held, write
from tests.support.waiting import until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(unhurried_base, tmp_path_factory):
    """Replies last some seconds and end by themselves."""
    with ChatServer(tmp_path_factory.mktemp("streaming") / "state", unhurried_base, max_new_tokens=3000) as server:
        yield server


def begun(person, server):
    """Somebody who is being answered: their context, their page, their reply's id."""
    context = person()
    page = open_chat(context, server)
    write(page, "Tell me everything")
    expect(page.locator(".reply-body.writing")).to_have_text(re.compile(r"\S{10}"))
    return context, page, page.locator(".reply").get_attribute("data-reply")


def letters(text):
    """What markdown leaves alone."""
    return re.sub(r"[\W\d_]", "", text)


def is_whole(page, server, reply_id):
    """What the page shows is what the store holds, to the last token that was allowed."""
    finished(page)
    reply = server.store.reply(reply_id)
    assert (reply.state, reply.finish_reason, len(reply.completion_ids)) == ("done", "length", 3000)
    assert letters(page.locator(".reply-body").inner_text()) == letters(reply.text)
    expect(page.locator(".reply-notes")).to_contain_text("reached its length limit")


def test_a_lost_connection_is_said_and_the_reply_goes_on_and_is_whole(person, server):
    context, page, reply_id = begun(person, server)
    context.set_offline(True)
    expect(page.locator(".notice")).to_have_text("The connection is lost; trying again. What you wrote is kept.")
    shown = len(page.locator(".reply-body").inner_text())
    context.set_offline(False)
    page.wait_for_function("n => document.querySelector('.reply-body').innerText.length > n", arg=shown)
    expect(page.locator(".notice")).to_be_hidden()
    is_whole(page, server, reply_id)


def test_a_reply_that_ends_by_itself_after_a_reload_is_whole(person, server):
    _, page, reply_id = begun(person, server)
    page.reload()
    is_whole(page, server, reply_id)


def test_a_burst_of_thumbs_and_stars_while_a_reply_is_written_is_kept_to_the_last(person, server):
    _, page, reply_id = begun(person, server)
    page.evaluate("""() => {
        for (let i = 0; i < 10; i++) for (const button of document.querySelectorAll('.reply .thumb, .reply .star')) button.click();
    }""")
    expect(page.locator(".reply-body.writing")).to_be_visible()
    rows = lambda: [(row["kind"], row["value"]) for row in server.store.rows("SELECT kind, value FROM ratings WHERE reply_id = ? ORDER BY id", reply_id)]
    given = [("thumb", 1), ("thumb", -1), *(("stars", stars) for stars in range(1, 6))]
    until(lambda: len(rows()) == 10 * len(given), 30)
    assert rows() == 10 * given                                           # each click in its order, and none twice
    expect(page.locator(".rating-note")).to_have_text("Saved")
    expect(page.locator(".star.lit")).to_have_count(5)
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")
    finished(page)
    page.reload()
    expect(page.locator(".star.lit")).to_have_count(5)
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")


def test_a_reply_goes_on_through_a_reload_and_is_whole(person, endless_server):
    context = person()
    page = open_chat(context, endless_server)
    write(page, "Tell me everything")
    expect(page.locator(".reply-body.writing")).to_have_text(re.compile(r"\S{10}"))
    page.reload()
    expect(page.locator(".reply-body.writing")).to_have_text(re.compile(r"\S{10}"))
    before = len(page.locator(".reply-body").inner_text())
    page.wait_for_function("n => document.querySelector('.reply-body').innerText.length > n", arg=before + 200)
    page.get_by_role("radio", name="3 of 5 stars").click()          # rated while it is being written
    expect(page.locator(".rating-note")).to_have_text("Saved")
    held = []
    page.route(re.compile("component_server"), lambda route: held.append(route) if "ui_stop" in (route.request.post_data or "") else route.continue_())
    page.get_by_role("button", name="Stop this reply").click()
    expect(page.locator(".composer")).to_contain_text("Stopping")   # before the server has heard of it
    until_held(page, held)
    held[0].continue_()
    finished(page)
    expect(page.locator(".composer")).not_to_contain_text("Stopping")
    expect(page.locator(".reply-notes")).to_have_text("You stopped this reply.")
    shown = page.locator(".reply-body").inner_text()
    page.reload()
    expect(page.locator(".reply-body")).to_have_text(shown)
    expect(page.locator(".star.lit")).to_have_count(3)


def test_several_people_are_answered_at_once(person, endless_server):
    store = endless_server.store
    pages = [open_chat(person(), endless_server) for _ in range(2)]          # pages that grow by hundreds of words a second: more keep one Chromium behind
    script = endless_server.client().submit("Tell me everything", None, api_name="/send")
    for page in pages:
        write(page, "Tell me everything")
    until(lambda: len(written := store.rows("SELECT conversation_id FROM replies JOIN turns ON turns.id = turn_id WHERE state = 'streaming' AND text <> ''")) == 3
          and [store.stop_replies(row["conversation_id"]) for row in written])
    for page in pages:
        finished(page)
        expect(page.locator(".reply-body")).not_to_be_empty()
    assert store.reply(script.result(30)["reply_id"]).finish_reason == "cancelled"
