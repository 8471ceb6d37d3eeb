"""The page at every width and in both languages, in Chromium."""

import pytest
from playwright.sync_api import expect

from tests.support.browser_fixtures import finished, open_chat, write

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_page_fits_every_width_in_both_languages(person, chat_server, locale):
    page = open_chat(person(locale=locale), chat_server)
    welcome = {"en-US": "Chat, rate, and watch it learn", "zh-CN": "聊天、评分，看它学习"}[locale]
    expect(page.get_by_role("heading", name=welcome)).to_be_visible()
    page.locator(".composer textarea").fill("x" * 20_001)
    page.keyboard.press("Enter")
    refused = {"en-US": "20,001 characters and the limit is 20,000", "zh-CN": "20,001 个字符，上限是 20,000"}[locale]
    expect(page.locator(".notice")).to_contain_text(refused)
    write(page, "averyveryverylongwordwithoutanyspace" * 8)
    finished(page)
    for width in (360, 390, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        box = page.locator(".composer").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= 800
        for button in page.locator(".rating button").all():
            size = button.bounding_box()
            assert size["width"] >= 30 and size["height"] >= 40
