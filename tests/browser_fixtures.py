"""A real chat server as a process of its own, and people with browsers in front of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from chat_app.identity import RATER_COOKIE, Identity
from data.adapters import AdapterRegistry
from data.base_models import load_base_model
from data.records import BaseModel
from data.store import Store
from tests.random_adapter import write_random_adapter

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PASSWORD = "open sesame"
PATIENCE = 60
"""Seconds; two busy cores start a server in ten."""
expect.set_options(timeout=20_000)


class ChatServer:
    """`python app.py` with a state folder of its own on a free port. The learner stays away unless it is asked for."""

    def __init__(self, state_dir: Path, base: BaseModel, **settings: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.state_dir, self.url = state_dir, f"http://127.0.0.1:{port}"
        environment = {"STATE_DIR": state_dir, "BASE_MODEL": base.source, "PORT": port, "MAINTAINER_PASSWORD": PASSWORD,
                       "COOKIE_SECRET": "known to the test", "LEARNER": "false", **{name.upper(): value for name, value in settings.items()}}
        self.process = subprocess.Popen([sys.executable, "app.py"], cwd=Path(__file__).parent.parent,
                                        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
                                        stdout=open(state_dir.with_suffix(".log"), "wb"), stderr=subprocess.STDOUT)
        self._wait()
        self.store = Store(state_dir / "chat.db")
        self.base = load_base_model(next((state_dir / "models").glob("*/base.json")).parent)

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return urllib.request.urlopen(self.url, timeout=5).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(self.state_dir.with_suffix(".log").read_text()) from None
                time.sleep(0.2)

    def rater_of(self, context: BrowserContext) -> str:
        """The rater this browser was signed as."""
        cookie = next(c["value"] for c in context.cookies() if c["name"] == RATER_COOKIE)
        return Identity("known to the test").rater_of_cookie(cookie)

    def publish(self, seed: int) -> int:
        """A random adapter as the next version, as a learner would publish it."""
        registry = AdapterRegistry(self.store, self.state_dir / "adapters")
        version = registry.publish(lambda folder: write_random_adapter(self.base, folder, seed=seed), base_model=self.base.id,
                                   run_id=None, parent=self.store.live_version(self.base.id), note="for a test")
        return version.number

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.store.close()


@pytest.fixture(scope="module")
def chat_server(tiny_base, tmp_path_factory):
    """Replies are a few words of nonsense, at once."""
    server = ChatServer(tmp_path_factory.mktemp("chat") / "state", tiny_base, max_new_tokens=40)
    yield server
    server.close()


@pytest.fixture(scope="module")
def endless_server(endless_base, tmp_path_factory):
    """Replies go on for thousands of tokens, unless somebody presses Stop."""
    server = ChatServer(tmp_path_factory.mktemp("endless") / "state", endless_base, max_new_tokens=8000)
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def person(browser):
    """`person()` is somebody new: a browser context with cookies of its own; closed at the end."""
    contexts: list[BrowserContext] = []

    def new(**options) -> BrowserContext:
        contexts.append(browser.new_context(**{"locale": "en-US", **options}))
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


def write(page: Page, text: str) -> None:
    """Type a message and press Enter; returns when its reply begins."""
    turns = page.locator(".turn").count()
    page.locator(".composer textarea").fill(text)
    page.keyboard.press("Enter")
    page.locator(".turn").nth(turns).locator(".reply").wait_for()


def finished(page: Page) -> None:
    """Wait until the newest reply is whole."""
    page.locator(".turn").last.locator('.reply[aria-busy="false"]').wait_for()


def sign_in(context: BrowserContext, server: ChatServer, password: str = PASSWORD) -> Page:
    page = context.new_page()
    page.goto(f"{server.url}/maintainer")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    return page
