"""One's own conversations, in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import finished, open_chat, write

pytestmark = pytest.mark.browser


def talk(page, *messages):
    for message in messages:
        page.get_by_role("button", name="New conversation").click()
        write(page, message)
        finished(page)


def test_a_conversation_is_found_resumed_and_renamed(person, chat_server):
    page = open_chat(person(), chat_server)
    talk(page, "Tell me of rivers", "Tell me of stars")
    page.get_by_role("button", name="Conversations").click()
    rows = page.locator(".history-title")
    expect(rows).to_have_text(["Tell me of stars", "Tell me of rivers"])
    expect(page.locator("[aria-current] .history-title")).to_have_text("Tell me of stars")
    page.get_by_label("Search conversations").fill("rivers")
    expect(rows).to_have_text(["Tell me of rivers"])
    rows.click()
    expect(page.locator(".bubble")).to_have_text("Tell me of rivers")

    page.get_by_role("button", name="Rename: Tell me of rivers").click()
    page.get_by_label("Rename").fill("<i>Water</i>")
    page.keyboard.press("Enter")
    page.get_by_label("Search conversations").fill("")
    expect(rows).to_have_text(["Tell me of stars", "<i>Water</i>"])
    page.keyboard.press("Escape")
    expect(page.locator(".drawer")).to_be_hidden()
    page.go_back()
    expect(page.locator(".bubble")).to_have_text("Tell me of stars")


def test_older_conversations_are_a_click_away_however_many_there_are(person, chat_server):
    context = person()
    page, store = open_chat(context, chat_server), chat_server.store
    rater = store.ensure_rater(chat_server.rater_of(context))
    with store.write():
        for number in range(103):
            store.new_conversation(rater, f"talk {number:03}")
    page.get_by_role("button", name="Conversations").click()
    rows, more = page.locator(".history-title"), page.get_by_role("button", name="Show more")
    expect(rows).to_have_count(50)
    expect(rows.first).to_have_text("talk 102")
    more.focus()
    page.keyboard.press("Enter")
    expect(rows).to_have_count(100)
    expect(page.locator(".history-open").nth(50)).to_be_focused()
    more.click()
    expect(rows).to_have_count(103)
    expect(more).to_be_hidden()
    page.get_by_label("Search conversations").fill("talk")
    expect(rows).to_have_count(50)
    expect(more).to_be_visible()


def test_a_deleted_conversation_is_gone_here_in_other_tabs_and_from_training(person, chat_server):
    context = person()
    page = open_chat(context, chat_server)
    talk(page, "A secret", "Something else")
    page.get_by_role("button", name="Good reply").click()
    expect(page.locator(".rating-note")).to_have_text("Saved")
    reply, other = page.locator(".reply").get_attribute("data-reply"), open_chat(context, chat_server)
    expect(other.locator(".bubble")).to_have_text("Something else")
    page.bring_to_front()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="Delete: Something else").click()
    expect(page.locator(".history-row.editing")).to_contain_text("Delete “Something else”? Its text is erased now")
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Delete: Something else").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".toast")).to_have_text("Deleted. The next version is trained without its rating.")
    expect(page.locator(".history-title")).to_have_text(["A secret"])
    expect(page.locator(".welcome")).to_be_visible()
    assert reply not in [rated.reply.id for rated in chat_server.store.rated_replies(chat_server.base.id)]
    other.bring_to_front()
    expect(other.locator(".welcome")).to_be_visible()
    expect(other.locator(".notice")).to_contain_text("no conversation")


def test_why_a_rename_or_a_deletion_failed_stays_when_the_list_is_drawn_anew(person, chat_server):
    context = person()
    page, store = open_chat(context, chat_server), chat_server.store
    rater = store.ensure_rater(chat_server.rater_of(context))
    gone = [store.new_conversation(rater, title).id for title in ("Rivers", "Stars")]
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="Rename: Rivers").click()
    store.delete_conversation(gone[0], rater)                                    # in another tab
    page.get_by_label("Rename", exact=True).fill("Water")
    page.keyboard.press("Enter")
    expect(page.locator(".history-title")).to_have_text(["Stars"])
    expect(page.locator(".drawer [role=status]")).to_contain_text("no conversation")
    page.get_by_role("button", name="Delete: Stars").click()
    store.delete_conversation(gone[1], rater)
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".history-title")).to_have_count(0)
    expect(page.locator(".drawer [role=status]")).to_contain_text("no conversation")


def test_the_focus_stays_with_its_conversation_when_an_edit_ends_and_the_list_is_drawn_anew(person, chat_server):
    context = person()
    page, store = open_chat(context, chat_server), chat_server.store
    rater = store.ensure_rater(chat_server.rater_of(context))
    for title in ("Rivers", "Stars"):
        store.new_conversation(rater, title)
    page.get_by_role("button", name="Conversations").click()
    row, keys = page.locator(".history-open", has_text="Rivers"), page.keyboard

    def ended(*, row=row, other):
        """The list was fetched anew: what another tab began stands in it."""
        store.new_conversation(rater, other)
        keys.press("Enter")
        expect(page.locator(".history-title").first).to_have_text(other)
        expect(row).to_be_focused()

    page.get_by_role("button", name="Rename: Rivers").press("Enter")
    expect(page.get_by_label("Rename", exact=True)).to_be_focused()
    keys.press("Escape")
    expect(row).to_be_focused()
    page.get_by_role("button", name="Delete: Rivers").press("Enter")
    expect(page.get_by_role("button", name="Keep")).to_be_focused()
    ended(other="Moons")
    page.get_by_role("button", name="Rename: Rivers").press("Enter")
    page.get_by_label("Rename", exact=True).fill("Water")
    ended(row=page.locator(".history-open", has_text="Water"), other="Suns")
    page.get_by_role("button", name="Delete: Stars").press("Enter")
    page.get_by_role("button", name="Delete", exact=True).press("Enter")
    expect(page.locator(".history-title")).to_have_text(["Suns", "Moons", "Water"])
    expect(page.get_by_label("Search conversations")).to_be_focused()


def test_on_a_phone_the_drawer_lies_over_the_page_and_leaves_when_one_chooses(person, chat_server):
    page = open_chat(person(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True), chat_server)
    talk(page, "First", "Second")
    page.get_by_role("button", name="Conversations").tap()
    expect(page.get_by_role("button", name="Delete: First")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator(".history-title", has_text="First").tap()
    expect(page.locator(".drawer")).to_be_hidden()
    expect(page.locator(".bubble")).to_have_text("First")


def test_nobody_renames_or_deletes_what_is_somebody_elses(person, chat_server):
    mine = open_chat(person(), chat_server)
    talk(mine, "My secret is a blue teapot")
    conversation = mine.url.split("c=")[1]
    component = mine.evaluate("window.gradio_config.components.find(c => c.props.elem_id === 'chat').id")
    stranger = person()
    open_chat(stranger, chat_server)
    for name, payload in [("ui_rename", {"conversation": conversation, "title": "x"}), ("ui_delete", {"conversation": conversation}),
                          ("ui_history", {"search": "teapot"}), ("ui_reasons", {"reply": mine.locator(".reply").get_attribute("data-reply"), "tags": ["wrong"]}),
                          ("ui_receipt", {"reply": mine.locator(".reply").get_attribute("data-reply")})]:
        answer = stranger.request.post(f"{chat_server.url}/gradio_api/component_server", data={
            "data": payload, "component_id": component, "session_hash": "stranger", "fn_name": name}).json()
        assert answer == {"ok": True, "entries": [], "more": False} if name == "ui_history" else answer["ok"] is False
    assert chat_server.store.conversation(conversation).title == "My secret is a blue teapot"
