"""What the chat page is told about a conversation: plain dicts, text already made safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from chat_app.page.markdown import partial_to_safe_html, to_safe_html
from chat_app.then_and_now import ThenAndNow, is_whole
from data.records import Comparison, Conversation, Outcome, Reasons, Reply, ReplyOutline, SecondOpinion, Turn
from data.store import Store

AnyReply = TypeVar("AnyReply", Reply, ReplyOutline)


def conversation_view(conversation: Conversation, ratings: dict[str, dict[str, int]], job=None) -> dict:
    """A whole conversation as its owner sees it; `job` is the reply that is being written, if any."""
    return {"id": conversation.id, "task": conversation.task,
            "turns": [turn_view(turn, ratings, job) for turn in conversation.turns]}


def turn_view(turn: Turn, ratings: dict[str, dict[str, int]], job=None) -> dict:
    return {"id": turn.id, "message": turn.message, "answer": turn.answer_id, "draft": turn.draft,
            "replies": [running_view(job) if job is not None and job.reply_id == reply.id and not job.done
                        else {**reply_view(reply), "rating": ratings.get(reply.id, {})} for reply in shown_replies(turn.replies)]}


def shown_replies(replies: Sequence[AnyReply]) -> list[AnyReply]:
    """All attempts at one message, but of those that were written aside only such as are worth a comparison: whole, and not what another one says."""
    attempts = [reply for reply in replies if reply.again_of is None]
    return [reply for reply in attempts if not reply.aside or (
        is_whole(reply) and reply.text.strip() and reply.text not in [other.text for other in attempts if other.id != reply.id])]


def reply_view(reply: Reply) -> dict:
    """A stored reply."""
    return {"id": reply.id, "html": _html(reply), "text": reply.text, "state": reply.state, "version": reply.version,
            "finish": reply.finish_reason, "dropped_turns": reply.dropped_turns, "contributes": reply.contributes, "aside": reply.aside}


def running_view(job) -> dict:
    """A reply that is being written: what there is of it so far."""
    return {"id": job.reply_id, "html": partial_to_safe_html(job.text), "state": "streaming", "version": job.version,
            "finish": None, "dropped_turns": job.dropped_turns, "contributes": None, "place": job.place}


def _html(reply: Reply) -> str:
    return (partial_to_safe_html if reply.state == "streaming" else to_safe_html)(reply.text)


def then_and_now_view(seen: ThenAndNow) -> dict:
    """An earlier reply beside what the live version says to its prompt; `state`: None before it was asked."""
    found = {"then": {"version": seen.then.version, "html": to_safe_html(seen.then.text)}, "live": seen.live, "newer": seen.newer, "state": None}
    if seen.job is not None:
        return {**found, "state": "streaming", "now": {"version": seen.job.version, "html": partial_to_safe_html(seen.job.text)}, "place": seen.job.place}
    if seen.now is None:
        return found
    state = "done" if is_whole(seen.now) else "streaming" if seen.now.state == "streaming" else "failed"
    return {**found, "state": state, "now": {"version": seen.now.version, "html": _html(seen.now)},
            "same": seen.now.text == seen.then.text}


def opinion_view(opinion: SecondOpinion | None) -> dict | None:
    """Somebody else's exchange to rate; nothing in it says whose it is."""
    return None if opinion is None else {"reply": opinion.reply_id, "message": opinion.message, "task": opinion.task, "html": to_safe_html(opinion.text)}


def marks_view(store: Store, rater_id: str, conversation_id: str) -> dict:
    """What hangs on the replies of a conversation beside their ratings: by reply id, and comparisons of two of them."""
    return {"outcomes": {reply_id: outcome_view(outcome) for reply_id, outcome in store.outcomes(rater_id, conversation_id).items()},
            "reasons": {reply_id: reasons_view(said) for reply_id, said in store.reasons_of(rater_id, conversation_id).items()},
            "corrections": store.corrections_of(rater_id, conversation_id),
            "comparisons": [comparison_view(said) for said in store.comparisons_of(rater_id, conversation_id)]}


def outcome_view(outcome: Outcome) -> dict:
    """The version its ratings helped make, and whether the newest candidate that used them was refused."""
    return {"version": outcome.version, "refused": outcome.refused_run is not None}


def reasons_view(said: Reasons) -> dict:
    return {"tags": list(said.tags), "comment": said.comment}


def comparison_view(said: Comparison) -> dict:
    """`better`: the id of the reply that was preferred, or `same`."""
    better = {"first": said.first_id, "second": said.second_id}.get(said.preferred, "same")
    return {"turn": said.turn_id, "replies": [said.first_id, said.second_id], "better": better, "asked_by": said.asked_by}
