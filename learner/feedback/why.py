"""What the ratings of one reply are worth and how that comes about, step by step, from the stored rows (`python -m learner --why`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from data.base_models.tokenizer import ChatTokenizer
from data.errors import UnknownReply
from data.records import BaseModel, RatedReply
from data.sentences import said
from data.store import Store
from learner.feedback.lessons import lessons_from


def why(store: Store, base: BaseModel, longest: int, reply_id: str | None = None) -> dict:
    """Of this reply, or of the one that was rated last: each rater's steps to the reward (see rewards.py) with trust as the newest run had it, and its receipts. JSON-able.

    Args: longest: tokens of a reply that the chat gives.
    Raises: UnknownReply: nobody's ratings of it can train.
    """
    lessons = lessons_from(store.rated_replies(base.id), ChatTokenizer(base.folder), longest)
    own = [rated for rated in lessons.replies if rated.ratings or rated.reasons or rated.comparisons] if reply_id is None else [
        rated for rated in lessons.replies if rated.reply.id == reply_id]
    if not own:
        raise UnknownReply(said("no_rated_reply", reply=repr(reply_id)) if reply_id else said("no_rated_replies"))
    chosen = max(own, key=_rated_last)
    run, trust = _trusted(store, base)
    found = [reward for reward in lessons.trusting(trust).rewards if reward.reply_id == chosen.reply.id]
    return {"reply": chosen.reply.id, "version": chosen.reply.version, "message": chosen.message, "text": chosen.reply.text, "trust_of_run": run,
            **found[0].explanation, "corrected_texts": [reward.explanation for reward in found[1:]],
            "receipts": [asdict(receipt) for receipt in store.receipts(chosen.reply.id)]}


def _rated_last(rated: RatedReply) -> str:
    return max(event.created_at for event in (*rated.ratings, *rated.reasons, *rated.comparisons, *rated.corrections))


def _trusted(store: Store, base: BaseModel) -> tuple[str | None, Mapping[str, float]]:
    """The newest run that told what raters' ratings are multiplied with, and that."""
    for run in store.runs(base_model=base.id):
        if (weights := run.report.get("data", {}).get("rater_weights")) is not None:
            return run.id, {one["rater"]: one["weight"] for one in weights if "weight" in one}
    return None, {}
