"""The chat page: its server functions and the stream of the reply that is being written."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import gradio as gr

from chat_app.elsewhere import ReplyElsewhere
from chat_app.page.answers import answering, field
from chat_app.page.history_calls import history_calls
from chat_app.page.opinion_calls import opinion_calls
from chat_app.page.rating_calls import rating_calls
from chat_app.page.scripted_html import read, scripted_html
from chat_app.page.strings import catalogue
from chat_app.page.trust_calls import person_view, trust_calls
from chat_app.page.views import conversation_view, marks_view, reply_view, running_view, shown_replies, turn_view
from chat_app.replies import ReplyJob
from data.errors import ChatError
from data.store.reasons import TAGS

SCRIPTS = ("dom.js", "words.js", "theme.js", "saves.js", "rating.js", "reasons.js", "then_and_now.js", "receipt.js", "correction.js", "comparison.js", "version_label.js", "reply.js", "conversation.js", "composer.js", "history.js", "menu.js", "trust.js",
           "status.js", "opinion.js", "lookout.js", "welcome.js", "chat.js")
LANE_SCRIPT = "watch('value', () => window.dispatchEvent(new CustomEvent('reply-part', {detail: props.value})));"
LOOK_SECONDS = 1 / 30
"""How often a stream looks for new text ..."""
PART_SECONDS = 1 / 15
"""... and how often it sends it at most: smooth to read, and 16 streams at once leave the cores to the model ..."""
RENDERS_APART = 10
"""... but long texts less often: after one was rendered, that many times as long as it took."""
HEARTBEAT_SECONDS = 2.0
"""A stream without new text still says that it is there, so that the page can tell waiting from a lost connection."""
FOLLOWED = 4
"""Streams that one person has at once. One more ends with its first part, and its page asks for another every few seconds (lookout.js)."""

MAX_DRAFT = 64
"""Characters of the key of a message; the page's own has 24."""


def build_chat_page(service, identity) -> None:
    """Add the chat page's components and events to the Blocks that is being built.

    The page's own script draws it. What changes something is a server function (`chat_calls`); the text of a reply
    that is being written arrives through a second, invisible component, so that an update carries one reply, not all.
    """
    calls = [*chat_calls(service, identity), *rating_calls(service, identity), *history_calls(service, identity),
             *trust_calls(service, identity), *opinion_calls(service, identity)]
    page = scripted_html(read(*SCRIPTS), server_functions=calls, strings=catalogue(), reason_tags={str(thumb): tags for thumb, tags in TAGS.items()},
                         elem_id="chat", elem_classes=["page"])
    lane = scripted_html(LANE_SCRIPT, elem_id="lane", visible="hidden")
    page.follow(_follower(service, identity), None, lane, api_name="ui_follow", api_visibility="private", show_progress="hidden",
                trigger_mode="multiple", concurrency_limit=None, concurrency_id="streams")


def chat_calls(service, identity) -> list[Callable]:
    """The server functions of the chat page. Each finds out by itself who asks, and touches only what is theirs."""

    @answering
    def ui_open(payload: dict, request: gr.Request) -> dict:
        """A conversation: the one that is named, or else this person's latest, or else none."""
        rater, named = identity.rater(request), field(payload, "conversation")
        found = [c.id for c in service.store.conversations(rater)[:1]] if named is None else [named]
        if not found or field(payload, "fresh", bool):
            return {"conversation": None, "status": service.status(), "person": person_view(service, rater)}
        conversation = service.conversation(rater, found[0])
        return {"conversation": conversation_view(conversation, service.ratings(rater, conversation.id), service.running(conversation.id)),
                "marks": marks_view(service.store, rater, conversation.id),
                "status": service.status(), "person": person_view(service, rater)}

    @answering
    def ui_send(payload: dict, request: gr.Request) -> dict:
        rater = identity.rater(request)
        said = {name: field(payload, name) for name in ("task", "after")}
        draft = (field(payload, "draft") or "")[:MAX_DRAFT] or None
        return last_turn(rater, service.send(rater, field(payload, "conversation"), field(payload, "text") or "", **said, draft=draft, unasked=None))

    @answering
    def ui_regenerate(payload: dict, request: gr.Request) -> dict:
        rater = identity.rater(request)
        return last_turn(rater, service.regenerate(rater, field(payload, "conversation") or "", unasked=None))

    def last_turn(rater: str, job) -> dict:
        home = service.store.check_owner(job.conversation_id, rater)
        return {"conversation": home["id"], "task": home["task"], "reply": job.reply_id,
                "turn": turn_view(service.store.last_turn(home["id"]), service.ratings(rater, home["id"]), job)}

    @answering
    def ui_stop(payload: dict, request: gr.Request) -> dict:
        service.stop(identity.rater(request), field(payload, "conversation") or "")
        return {}

    @answering
    def ui_look(payload: dict, request: gr.Request) -> dict:
        """What may have changed since: the status, and of the open conversation its replies and ratings."""
        conversation_id, store = field(payload, "conversation"), service.store
        if conversation_id is None:
            return {"status": service.status()}
        rater = identity.rater(request)
        store.check_owner(conversation_id, rater)
        job = service.running(conversation_id)
        return {"status": service.status(), "ratings": service.ratings(rater, conversation_id),
                "marks": marks_view(store, rater, conversation_id),
                "replies": [reply.id for replies in store.outlines(conversation_id) for reply in shown_replies(replies)],
                "running": job.reply_id if job is not None and not job.done else None}

    return [ui_open, ui_send, ui_regenerate, ui_stop, ui_look]


def _follower(service, identity) -> Callable:
    following: Counter[str] = Counter()           # by rater; of one event loop, so without a lock

    async def ui_follow(event: gr.EventData, request: gr.Request) -> AsyncIterator[dict]:
        """Parts of the reply that is being written in the conversation the event names, then its stored end.

        Only reads: the reply is written and stored whether or not anybody follows it.
        """
        payload = event._data
        try:
            rater, conversation_id = identity.rater(request), field(payload, "conversation") or ""
            await asyncio.to_thread(service.store.check_owner, conversation_id, rater)
            job = await asyncio.to_thread(service.running, conversation_id)
            if job is not None:
                is_one_too_many = following[rater] >= FOLLOWED
                following[rater] += 1
                try:
                    async for part in _parts(job):
                        yield {"conversation": conversation_id, "reply": part}
                        if is_one_too_many:
                            return
                finally:
                    following[rater] -= 1
                    if not following[rater]:
                        del following[rater]
                if job.error:
                    yield {"conversation": conversation_id, "reply": {**running_view(job), "state": "failed", "said": job.error.said}}
                    return
            reply = await asyncio.to_thread(service.store.reply, job.reply_id if job is not None else field(payload, "reply"), rater)
        except ChatError:
            return
        if reply.conversation_id == conversation_id:
            yield {"conversation": conversation_id, "reply": await asyncio.to_thread(reply_view, reply)}

    return ui_follow


def _rendered(job: ReplyJob | ReplyElsewhere) -> tuple[dict, float]:
    """Returns: the view, and the processor's seconds that it took: by the clock a busy machine would show a reply less and less often, and no sooner be idle."""
    begun = time.thread_time()
    return running_view(job), time.thread_time() - begun


async def _parts(job: ReplyJob | ReplyElsewhere) -> AsyncIterator[dict]:
    """The view of `job` each time it changed, at most every PART_SECONDS and as RENDERS_APART has it, and at least every HEARTBEAT_SECONDS."""
    shown, view, sent_at, next_at, beat = None, {}, 0.0, 0.0, 0
    while not job.done:
        now, seen = time.monotonic(), (len(job.text), job.place, job.version)
        if is_new := seen != shown and now >= next_at:
            view, took = await asyncio.to_thread(_rendered, job)                  # other streams, and everything else, go on meanwhile
            shown, now = seen, time.monotonic()
            next_at = now + max(PART_SECONDS, RENDERS_APART * took)
        if is_new or now - sent_at >= HEARTBEAT_SECONDS:
            sent_at, beat = now, beat + 1
            yield {**view, "beat": beat}          # equal values would not reach the browser
        await asyncio.sleep(LOOK_SECONDS)
        if isinstance(job, ReplyElsewhere) and job.is_due():
            await asyncio.to_thread(job.look)
