"""Waiting in line for a busy model, in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import ChatServer, finished, open_chat, write

pytestmark = pytest.mark.browser


def test_who_waits_sees_their_place_may_leave_and_past_the_line_keeps_the_message(person, unhurried_base, tmp_path):
    with ChatServer(tmp_path / "state", unhurried_base, max_new_tokens=8000, max_streams=1, max_waiting=2) as server:
        first, second, third, fourth = (open_chat(person(), server) for _ in range(4))
        write(first, "a long story")
        write(second, "another")
        write(third, "a third")
        expect(second.locator(".reply-waiting")).to_contain_text("number 1 in line")
        expect(third.locator(".reply-waiting")).to_contain_text("number 2 in line")
        fourth.locator(".composer textarea").fill("too many")
        fourth.keyboard.press("Enter")
        expect(fourth.locator(".dock")).to_contain_text("try again in a minute")
        expect(fourth.locator(".composer textarea")).to_have_value("too many")
        second.get_by_role("button", name="Stop this reply").click()
        finished(second)
        expect(third.locator(".reply-waiting")).to_contain_text("number 1 in line")
        third.reload()
        expect(third.locator(".reply-waiting")).to_contain_text("number 1 in line")
        first.get_by_role("button", name="Stop this reply").click()
        expect(third.locator(".reply-body")).not_to_be_empty()
