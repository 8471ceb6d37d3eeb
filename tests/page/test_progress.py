"""What the chat page says of a run that goes on and of a version that is being loaded, in Chromium."""

import json
import re

import pytest
from playwright.sync_api import expect

from data.records import Progress
from tests.support.accessibility import serious_violations
from tests.support.browser_fixtures import open_chat

pytestmark = pytest.mark.browser


def test_how_far_learning_is_can_be_read_on_a_desk_and_on_a_phone_and_that_a_version_is_loaded(person, chat_server):
    store = chat_server.store
    page = open_chat(person(viewport={"width": 1280, "height": 800}), chat_server)
    work = page.get_by_role("progressbar", name="Learning from ratings")
    expect(work).to_be_hidden()
    run = store.start_run(chat_server.base.id, "shell")
    expect(page.locator(".fine-print")).to_contain_text("The model is learning from ratings.")
    store.progress(run.id, Progress("train", 3, 8))
    expect(work).to_have_attribute("aria-valuenow", "38")
    expect(work).to_have_text("Learning from ratings3/8")
    expect(page.locator(".fine-print")).to_contain_text("The model is learning from ratings: step 3 of 8.")
    store.progress(run.id, Progress("refine", 1234, 2345))
    for width in (760, 360):
        page.set_viewport_size({"width": width, "height": 800})
        expect(work).to_contain_text("1234/2345")
        expect(work.locator(".learning-count")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert serious_violations(page) == []
    store.finish_run(run.id, "nothing_to_do")
    expect(work).to_be_hidden()
    expect(page.locator(".fine-print")).not_to_contain_text("learning from")

    def loading(route):
        answer = route.fetch()
        said = json.loads(answer.text())
        route.fulfill(response=answer, json={**said, "status": {**said["status"], "loading": 7}} if "status" in said else said)

    page.route(re.compile("component_server"), loading)           # a tiny model's version is there too soon to be seen
    expect(page.locator(".fine-print")).to_contain_text("Version 7 is being loaded and answers in a moment.")
    work = page.get_by_role("progressbar", name="Loading version 7")
    expect(work).to_be_visible()
    assert work.get_attribute("aria-valuenow") is None
