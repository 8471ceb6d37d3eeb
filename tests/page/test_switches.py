"""Language and colours, chosen in the header's menu, in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import open_chat

pytestmark = pytest.mark.browser


def is_dark(page):
    return page.evaluate("document.body.classList.contains('dark')")


def test_the_language_is_switched_and_kept_on_both_pages_and_a_draft_survives(person, chat_server):
    page = open_chat(person(), chat_server, "/?lang=en")
    page.locator(".composer textarea").fill("Half a thought")
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", name="聊天、评分，看它学习")).to_be_visible()
    expect(page.locator(".composer textarea")).to_have_value("Half a thought")
    assert page.evaluate("document.documentElement.lang") == "zh-CN" and "lang=" not in page.url
    page.goto(f"{chat_server.url}/maintainer")
    expect(page.get_by_role("heading", name="维护者")).to_be_visible()


def test_colours_are_the_systems_until_one_chooses_and_the_choice_is_kept(person, chat_server):
    page = open_chat(person(color_scheme="dark", viewport={"width": 360, "height": 800}), chat_server)
    assert is_dark(page)
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("button", name="System")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Light").click()
    expect(page.get_by_role("button", name="Light")).to_have_attribute("aria-pressed", "true")
    assert not is_dark(page) and page.evaluate("document.documentElement.scrollWidth") == 360
    page.reload()
    expect(page.locator(".welcome")).to_be_visible()
    assert not is_dark(page)
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="System").click()
    assert is_dark(page)
    page.emulate_media(color_scheme="light")
    page.wait_for_function("!document.body.classList.contains('dark')")
