"""A real chat server as a process of its own, and people with browsers in front of it; conftest.py takes the fixtures from here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from chat_app.identity import Identity
from data.adapters import AdapterRegistry
from data.records import BaseModel
from data.store import Store
from tests.support.random_adapter import write_random_adapter
from tests.support.server_process import ServerProcess

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PASSWORD = "open sesame"
SECRET = "known to the test"
expect.set_options(timeout=20_000)


class ChatServer(ServerProcess):
    """A server whose cookies the test can read. The learner stays away unless it is asked for."""

    def __init__(self, state_dir: Path, base: BaseModel, **settings: object) -> None:
        environment = {"maintainer_password": PASSWORD, "cookie_secret": SECRET, "learner": "false", **settings}
        super().__init__(state_dir, base, **{name.upper(): str(value) for name, value in environment.items()})
        self.base, self.store = base, Store(state_dir / "chat.db")

    def rater_of(self, context: BrowserContext) -> str:
        """The rater this browser was signed as."""
        return Identity(SECRET).rater_of({cookie["name"]: cookie["value"] for cookie in context.cookies()})

    def publish(self, seed: int) -> int:
        """A random adapter as the next version, as a learner would publish it."""
        registry = AdapterRegistry(self.store, self.state_dir / "adapters")
        version = registry.publish(lambda folder: write_random_adapter(self.base, folder, seed=seed), base_model=self.base.id,
                                   run_id=None, parent=self.store.live_version(self.base.id), note="for a test")
        return version.number


@pytest.fixture(scope="session")
def chat_server(tiny_base, tmp_path_factory):
    """Replies are a few words of nonsense, at once. One server for all files: a test finds what others left, and only it knows its people."""
    with ChatServer(tmp_path_factory.mktemp("chat") / "state", tiny_base, max_new_tokens=40) as server:
        yield server


@pytest.fixture(scope="module")
def endless_server(unhurried_base, tmp_path_factory):
    """Replies go on for thousands of tokens, unless somebody presses Stop."""
    with ChatServer(tmp_path_factory.mktemp("endless") / "state", unhurried_base, max_new_tokens=8000) as server:
        yield server


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def person(browser):
    """`person()` is somebody new: a browser context with cookies of its own; closed at the end."""
    contexts: list[BrowserContext] = []

    def new(**options) -> BrowserContext:
        contexts.append(browser.new_context(**{"locale": "en-US", "reduced_motion": "reduce", **options}))       # without a GPU, what moves takes half a core
        return contexts[-1]

    yield new
    for context in contexts:
        context.close()


def open_chat(context: BrowserContext, server: ChatServer, path: str = "/") -> Page:
    """The chat page, ready to type in."""
    page = context.new_page()
    page.goto(server.url + path)
    page.locator(".composer textarea").wait_for()
    page.locator(".welcome:visible, .turn").first.wait_for()
    return page


def contribute(page: Page) -> None:
    """Agree that one's ratings train; returns when the server has the answer."""
    page.locator(".consent").get_by_role("button", name="Contribute", exact=True).click()
    expect(page.locator(".consent")).to_be_hidden()


def write(page: Page, text: str) -> None:
    """Type a message and press Enter; returns when its reply begins."""
    turns = page.locator(".turn").count()
    page.locator(".composer textarea").fill(text)
    page.keyboard.press("Enter")
    page.locator(".turn").nth(turns).locator(".reply").wait_for()


def finished(page: Page) -> None:
    """Wait until the newest reply is whole: thousands of tokens, beside two other test processes."""
    page.locator(".turn").last.locator('.reply[aria-busy="false"]').wait_for(timeout=120_000)


def answered(context: BrowserContext, server: ChatServer, *, contributes: bool = False) -> Page:
    """The chat page with one message and its whole reply; before it, who `contributes` has agreed that their ratings train."""
    page = open_chat(context, server)
    if contributes:
        contribute(page)
    write(page, "Hello")
    finished(page)
    return page


def prefer(page: Page, side: str) -> None:
    """Say of two replies beside each other that A or B is better; returns when the server has it."""
    page.get_by_role("button", name=f"{side} is better").click()
    expect(page.locator(".compare > .panel-end .panel-note")).to_have_text("Saved")


def sign_in(context: BrowserContext, server: ChatServer, password: str = PASSWORD) -> Page:
    page = context.new_page()
    page.goto(f"{server.url}/maintainer")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    return page


def until_held(page, held: list, seconds: float = 30) -> None:
    """Wait until a route has been taken; the page goes on meanwhile."""
    for _ in range(round(seconds / 0.02)):
        if held:
            return
        page.wait_for_timeout(20)
    raise AssertionError("nothing was sent")
