"""What the chat page is told about a conversation: plain dicts, text already made safe."""

from __future__ import annotations

from chat_app.page.markdown import to_safe_html
from data.records import Conversation, Outcome, Reply, Turn


def conversation_view(conversation: Conversation, ratings: dict[str, dict[str, int]], job=None) -> dict:
    """A whole conversation as its owner sees it; `job` is the reply that is being written, if any."""
    return {"id": conversation.id,
            "turns": [turn_view(turn, ratings, job) for turn in conversation.turns]}


def turn_view(turn: Turn, ratings: dict[str, dict[str, int]], job=None) -> dict:
    return {"id": turn.id, "message": turn.message,
            "replies": [running_view(job) if job is not None and job.reply_id == reply.id and not job.done
                        else {**reply_view(reply), "rating": ratings.get(reply.id, {})} for reply in turn.replies]}


def reply_view(reply: Reply) -> dict:
    """A stored reply."""
    return {"id": reply.id, "html": to_safe_html(reply.text), "state": reply.state, "version": reply.version,
            "finish": reply.finish_reason, "dropped_turns": reply.dropped_turns}


def running_view(job) -> dict:
    """A reply that is being written: what there is of it so far."""
    return {"id": job.reply_id, "html": to_safe_html(job.text), "state": "streaming", "version": job.version,
            "finish": None, "dropped_turns": job.dropped_turns}


def outcomes_view(outcomes: dict[str, Outcome]) -> dict[str, dict]:
    """By reply id: the version its ratings helped make, and whether the newest candidate that used them was refused."""
    return {reply_id: {"version": outcome.version, "refused": outcome.refused_run is not None} for reply_id, outcome in outcomes.items()}
