"""What was asked for last is what is open, in whatever order the server's answers come, in Chromium."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import finished, open_chat, until_held, write
from tests.support.factories import add_reply

pytestmark = pytest.mark.browser


@pytest.fixture
def talks(person, chat_server):
    """Somebody with three conversations, the last one open, and their ids by what was said first."""
    context = person()
    open_chat(context, chat_server).close()                                # signs who this is
    rater, ids = chat_server.rater_of(context), {}
    for message in ("Rivers", "Stars", "Moons"):
        ids[message] = add_reply(chat_server.store, rater, message=message, text="Is it?", base_model=chat_server.base.id).conversation_id
    page = open_chat(context, chat_server)
    page.get_by_role("button", name="Conversations").click()
    expect(page.locator(".history-title")).to_have_text(["Moons", "Stars", "Rivers"])
    return page, ids


def hold(page, name, conversation=None):
    """Keeps the first such call, of that conversation; returns where it is found, to be let go on or aborted."""
    held = []

    def take(route):
        call = route.request.post_data_json or {}
        wanted = not held and call.get("fn_name") == name and conversation in (None, call["data"].get("conversation"))
        held.append(route) if wanted else route.continue_()

    page.route(re.compile("component_server"), take)
    return held


def choose(page, title):
    page.locator(".history-title", has_text=title).click()


def let_go(page, held):
    """The answer that was held has come and the page has had time for it."""
    with page.expect_response(lambda response: response.request == held[0].request):
        held[0].continue_()
    page.wait_for_timeout(300)


def is_open(page, *messages):
    expect(page.locator(".bubble")).to_have_text(list(messages))


def test_of_two_conversations_the_one_chosen_last_is_open_though_the_first_one_answers_later(talks):
    page, ids = talks
    held = hold(page, "ui_open", ids["Rivers"])
    choose(page, "Rivers")
    until_held(page, held)
    choose(page, "Stars")
    is_open(page, "Stars")
    let_go(page, held)
    is_open(page, "Stars")
    assert page.url.endswith(ids["Stars"])
    page.go_back()
    is_open(page, "Moons")                                                 # what was never shown is no step back


def test_a_new_conversation_stays_empty_though_one_that_was_chosen_before_answers_later(talks, chat_server):
    page, ids = talks
    held = hold(page, "ui_open", ids["Rivers"])
    choose(page, "Rivers")
    until_held(page, held)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".welcome")).to_be_visible()
    let_go(page, held)
    is_open(page)
    write(page, "And now?")
    finished(page)
    is_open(page, "And now?")
    assert [len(chat_server.store.conversation(id).turns) for id in ids.values()] == [1, 1, 1]


def test_a_conversation_that_could_not_be_fetched_is_not_the_one_that_is_written_to(talks, chat_server):
    page, ids = talks
    held = hold(page, "ui_open", ids["Stars"])
    choose(page, "Stars")
    until_held(page, held)
    held[0].abort()
    expect(page.locator(".notice")).to_contain_text("did not answer")
    is_open(page, "Moons")
    expect(page.locator("[aria-current] .history-title")).to_have_text("Moons")
    assert page.url.endswith(ids["Moons"])
    write(page, "And now?")
    finished(page)
    is_open(page, "Moons", "And now?")
    assert [len(chat_server.store.conversation(id).turns) for id in ids.values()] == [1, 1, 2]


def test_who_chooses_what_is_shown_already_takes_back_that_something_else_was_asked_for(talks):
    page, ids = talks
    held = hold(page, "ui_open", ids["Rivers"])
    choose(page, "Rivers")
    until_held(page, held)
    choose(page, "Moons")
    let_go(page, held)
    is_open(page, "Moons")
    assert page.url.endswith(ids["Moons"])


def test_a_step_back_that_could_not_be_taken_leaves_the_address_of_what_is_shown(talks):
    page, ids = talks
    choose(page, "Stars")
    is_open(page, "Stars")
    held = hold(page, "ui_open")
    page.go_back()
    until_held(page, held)
    held[0].abort()
    expect(page.locator(".notice")).to_contain_text("did not answer")
    is_open(page, "Stars")
    assert page.url.endswith(ids["Stars"])


@pytest.mark.parametrize("answer", ["continue_", "abort"])
def test_a_new_conversation_that_is_asked_for_before_anything_is_open_is_not_the_latest(talks, answer):
    page, ids = talks
    held = hold(page, "ui_open")
    page.goto(f"{page.url.split('?')[0]}?c={ids['Stars']}")
    page.get_by_role("button", name="New conversation").click()
    until_held(page, held)
    getattr(held[0], answer)()
    expect(page.locator(".welcome")).to_be_visible()
    page.wait_for_timeout(300)
    is_open(page)
    assert "c=" not in page.url


def test_another_attempt_that_answers_after_one_has_left_opens_nothing(talks):
    page, ids = talks
    held = hold(page, "ui_regenerate")
    page.get_by_role("button", name="Try another reply").click()
    until_held(page, held)
    choose(page, "Stars")
    is_open(page, "Stars")
    let_go(page, held)
    is_open(page, "Stars")
    assert page.url.endswith(ids["Stars"])


def test_a_message_that_is_answered_after_one_has_left_opens_nothing(talks):
    page, ids = talks
    page.get_by_role("button", name="New conversation").click()
    held = hold(page, "ui_send")
    page.locator(".composer textarea").fill("And now?")
    page.keyboard.press("Enter")
    until_held(page, held)
    choose(page, "Stars")
    is_open(page, "Stars")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".welcome")).to_be_visible()
    let_go(page, held)
    is_open(page)
    assert "c=" not in page.url


def test_a_conversation_that_is_fetched_anew_does_not_lose_what_was_said_meanwhile(talks):
    page, ids = talks
    held = hold(page, "ui_open", ids["Moons"])
    page.locator(".consent").get_by_role("button", name="Contribute", exact=True).click()          # fetches it anew, as its replies now say that they train
    until_held(page, held)
    answer = held[0].fetch()
    write(page, "And now?")
    finished(page)
    with page.expect_response(lambda response: response.request == held[0].request):
        held[0].fulfill(response=answer)
    page.wait_for_timeout(100)
    assert page.locator(".bubble").all_inner_texts() == ["Moons", "And now?"]
