"""What the app asks by itself, in Chromium: a second opinion on somebody else's exchange, and which of two replies is better."""

import pytest
from playwright.sync_api import expect

from data.errors import NotYourReply
from tests.page.test_consequence import train_on
from tests.support.accessibility import check_accessibility
from tests.support.browser_fixtures import ChatServer, answered, contribute, open_chat, prefer
from tests.support.factories import add_reply

pytestmark = pytest.mark.browser

MESSAGE = "What is it? Write to ann@example.com, <b>please</b>."
TEXT = "**Cold**. ![x](https://example.com/beacon.png) <script>alert(1)</script> Call 13800138000."


@pytest.fixture(scope="module")
def server(tiny_base, tmp_path_factory):
    with ChatServer(tmp_path_factory.mktemp("opinion") / "state", tiny_base, max_new_tokens=40, second_opinion_share=1, compare_share=1) as server:
        yield server


def rated(page, name="4 of 5 stars"):
    page.locator(".log").get_by_role("radio", name=name).last.click()
    expect(page.locator(".log .rating-note").last).to_have_text("Saved")


def test_a_reply_is_rated_by_a_second_person_once_they_have_rated_their_own(person, server):
    store, base = server.store, server.base.id
    asked = open_chat(person(), server)                                          # Ann: her exchange, as her server stored it
    contribute(asked)
    ann = server.rater_of(asked.context)
    theirs = [add_reply(store, ann, message=message, text=TEXT, base_model=base, conversation=store.new_conversation(ann, task=task).id)
              for message, task in (("Another", "dialogue"), (MESSAGE, "translation"))]

    page = open_chat(person(), server)                                           # Ben: ten replies of his own
    contribute(page)
    ben = server.rater_of(page.context)
    for number in range(10):
        add_reply(store, ben, message=f"mine {number}", base_model=base, conversation=store.conversations(ben)[0].id if number else None)
    page.reload()
    expect(page.locator(".turn")).to_have_count(10)
    card = page.get_by_role("region", name="A second opinion?")
    expect(card).to_be_hidden()
    rated(page)
    expect(card).to_contain_text("Somebody else's message")
    assert page.evaluate("!document.querySelector('.opinion').contains(document.activeElement)")
    expect(card.locator(".bubble")).to_have_text("What is it? Write to [e-mail], <b>please</b>.")
    expect(card.locator(".reply-body strong")).to_have_text("Cold")
    expect(card.locator(".reply-body")).to_contain_text("Call [phone].")
    expect(card.locator(".opinion-task")).to_have_text("Task: Translation")
    assert card.locator("img, script").count() == 0
    check_accessibility(page)

    card.get_by_role("button", name="Bad reply").click()
    card.get_by_role("radio", name="2 of 5 stars").click()
    expect(card.get_by_role("radio", name="2 of 5 stars")).to_have_attribute("aria-checked", "true")
    expect(card.get_by_role("button", name="Done")).to_be_visible()
    expect(card.locator(".rating-note")).to_have_text("Saved")
    assert {(r.rater_id, r.kind, r.value) for r in store.rated_replies(base)[0].ratings} >= {(ben, "thumb", -1), (ben, "stars", 2)}
    card.get_by_role("button", name="Done").click()
    expect(card).to_be_hidden()
    expect(page.locator(".composer textarea")).to_be_focused()

    version = train_on(server, theirs[1].id).version                             # a learner used what Ben said of it
    expect(page.locator(".toast")).to_contain_text(f"Version {version} is live now", timeout=30_000)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".welcome")).to_contain_text(f"Your second opinion helped make version {version}.")
    asked.bring_to_front()
    expect(asked.locator(".pill-version")).to_have_text(f"version {version}")
    expect(asked.locator(".opinions-used:visible")).to_have_count(0)             # it is her reply, and not her opinion
    page.bring_to_front()

    for number in range(10):                                                     # later: the other one, which he declines
        add_reply(store, ben, message=f"more {number}", base_model=base, conversation=store.conversations(ben)[0].id)
    page.reload()
    rated(page, "3 of 5 stars")
    expect(card.locator(".bubble")).to_have_text("Another")
    expect(card).to_contain_text(f"Your second opinion helped make version {version}.")
    expect(card.locator(".opinion-task")).to_be_hidden()
    with page.expect_response(lambda response: "ui_not_now" in (response.request.post_data or "")):      # the card does not wait for it
        card.get_by_role("button", name="Not now").click()
    expect(card).to_be_hidden()
    with pytest.raises(NotYourReply):
        store.add_rating(theirs[0].id, ben, "thumb", 1)


def test_the_app_asks_by_itself_which_of_two_is_better_and_the_answer_is_kept_as_asked_by_it(person, server):
    context = person()
    page = answered(context, server, contributes=True)
    first = page.locator(".reply").get_attribute("data-reply")
    page.get_by_role("button", name="Compare with another answer?").click()
    expect(page.locator(".side .reply")).to_have_count(2)
    prefer(page, "A")
    rater = server.rater_of(context)
    [turn] = server.store.conversation(server.store.conversations(rater)[0].id).turns
    [said] = server.store.comparisons_of(rater, turn.conversation_id)
    assert [(reply.id == first, reply.aside) for reply in turn.replies] == [(True, False), (False, True)]
    assert (said.asked_by, said.preferred, {said.first_id, said.second_id}) == ("app", "first", {reply.id for reply in turn.replies})
