"""The parts of a growing reply as the page gets them, without a browser: how often they are rendered, and where."""

import asyncio
import os
import socket
import threading
import time
from types import SimpleNamespace

from chat_app.identity import Identity
from chat_app.page import chat_page
from chat_app.page.markdown import to_safe_html
from chat_app.page.views import reply_view, running_view
from data.records import Generated, Sampling
from tests.support.factories import add_reply
from tests.support.service_fixtures import Server, server  # noqa: F401
from tests.support.waiting import in_a_loop

RENDER_SECONDS = 0.3


class Growing:
    """A reply that is written for a while."""

    def __init__(self, seconds: float) -> None:
        self.reply_id, self.conversation_id, self.version, self.place, self.dropped_turns = "reply", "conversation", 0, 0, 0
        self._begun, self._seconds = time.monotonic(), seconds

    @property
    def text(self) -> str:
        return "word " * round(100 * (time.monotonic() - self._begun))

    @property
    def done(self) -> bool:
        return time.monotonic() - self._begun > self._seconds


def test_a_text_that_takes_long_to_render_is_rendered_less_often_and_keeps_nobody_else_waiting(monkeypatch):
    rendered, ticks, parts = [], [], []

    def slow_view(job) -> tuple[dict, float]:
        begun = time.monotonic()
        time.sleep(RENDER_SECONDS)
        rendered.append((begun, time.monotonic()))
        return {"text": job.text}, RENDER_SECONDS

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def follow() -> None:
        ticking = asyncio.create_task(tick())
        async for part in chat_page._parts(Growing(4.5)):
            parts.append(part)
        ticking.cancel()

    monkeypatch.setattr(chat_page, "_rendered", slow_view)
    in_a_loop(follow())
    (first_begun, first_ended), (second_begun, _) = rendered
    assert second_begun - first_ended >= 10 * RENDER_SECONDS
    assert any(first_begun + 0.02 < moment < first_ended - 0.02 for moment in ticks)
    assert [part["text"] == parts[0]["text"] for part in parts] == [True, True, False]      # the page hears every two seconds that the stream is there
    assert len({part["beat"] for part in parts}) == 3


def test_a_short_text_is_sent_many_times_a_second():
    async def follow() -> list[dict]:
        return [part async for part in chat_page._parts(Growing(2.0))]

    parts = in_a_loop(follow())
    assert len(parts) > 3 and len({part["html"] for part in parts}) == len(parts)


def test_what_a_reply_was_while_it_grew_is_not_kept(tmp_path):
    before = to_safe_html.cache_info()
    for length in range(1, 30):
        running_view(SimpleNamespace(reply_id="reply", text="x" * length + "1", version=0, dropped_turns=0, place=0))
    assert to_safe_html.cache_info() == before
    whole = SimpleNamespace(id="reply", text="x" * 30, state="done", version=0, finish_reason="stop", dropped_turns=0, contributes=True, aside=False)
    assert [reply_view(whole)["html"] for _ in range(2)] == ["<p>" + "x" * 30 + "</p>\n"] * 2
    assert to_safe_html.cache_info().hits == before.hits + 1


def test_a_reply_that_another_server_writes_is_followed_to_its_end_and_read_in_other_threads_than_the_pages(server, monkeypatch):      # noqa: F811
    store, identity = server.store, Identity("a key for tests")
    home = add_reply(store, "me").conversation_id
    reply = store.start_reply(store.add_turn(home, "and now?").id, 0, None, server.base.id, "openvino", Sampling(), (1,))
    store.db["replies"].update(reply.id, {"owner": f"{socket.gethostname()}:{os.getppid()}", "text": "so far"})
    request = SimpleNamespace(cookies={identity.rater_cookie: identity.signed_rater("me")})
    event, readers, pages, rows = SimpleNamespace(_data={"conversation": home, "reply": reply.id}), set(), [], store.rows

    def noted(*args):
        readers.add(threading.current_thread())
        return rows(*args)

    def end() -> None:
        store.finish_reply(reply.id, "whole", Generated((1, 2), (-1.0, -1.0), 1.0, "stop"), 0.1, 0.2)
        store.close()

    async def follow() -> list[dict]:
        pages.append(threading.current_thread())
        threading.Timer(0.8, end).start()
        return [part["reply"] async for part in chat_page._follower(server.service, identity)(event, request)]

    monkeypatch.setattr(store, "rows", noted)
    parts = in_a_loop(follow())
    assert parts[0]["html"] == "<p>so far</p>\n" and parts[-1]["text"] == "whole" and parts[-1]["state"] == "done"
    assert readers and pages[0] not in readers


def test_of_many_streams_of_one_person_those_beyond_four_end_with_their_first_part_while_the_others_go_on(endless_base, tmp_path):
    ours, identity = Server(endless_base, tmp_path, max_new_tokens=8000), Identity("a key for tests")
    follow = chat_page._follower(ours.service, identity)

    def stream(rater: str):
        conversation = ours.service.send(rater, None, "a long story").conversation_id
        request = SimpleNamespace(cookies={identity.rater_cookie: identity.signed_rater(rater)})
        return lambda: follow(SimpleNamespace(_data={"conversation": conversation}), request)

    async def people() -> None:
        mine, yours = stream("me"), stream("you")
        streams = [mine() for _ in range(chat_page.FOLLOWED)]
        for one in streams:
            await anext(one)
        assert len([part async for part in mine()]) == 1 and len([part async for part in mine()]) == 1
        for one in (*streams, others := yours(), others):
            await anext(one)                                              # goes on
        await streams[0].aclose()                                         # a tab was closed
        another = mine()
        for _ in range(2):
            await anext(another)
        for one in (*streams, others, another):
            await one.aclose()

    try:
        in_a_loop(people())
    finally:
        ours.close()
