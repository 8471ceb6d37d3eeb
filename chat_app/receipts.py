"""What a person is told of the consequence of a rating: plain values, no internals."""

from __future__ import annotations

import math

from data.records import BASE_VERSION, CorrectionReceipt, ReceiptRow, Reply
from data.store import Store

TOKENS = 10
"""Likelihoods are compared over this many tokens: over one, a change is too small to picture; over all, too large."""
SHOWN_PAIRS = 2


def receipt_view(store: Store, rater_id: str, reply_id: str) -> dict:
    """What of that which this person says of a reply trained the newest version that used it, how much, and to what effect.

    Raises: UnknownReply, NotYourReply.
    """
    reply = store.reply(reply_id, rater_id)
    outcome = store.outcomes(rater_id, reply.conversation_id).get(reply.id)
    receipts = [row for row in store.receipts(reply.id) if store.used_feedback(row, rater_id)]
    refused = store.run(outcome.refused_run) if outcome and outcome.refused_run else None
    return {"version": receipts[0].version if receipts else None,
            "refused": None if refused is None else _reason(refused.report),
            **(_effect(store, rater_id, reply, receipts) if receipts else {})}


def _effect(store: Store, rater_id: str, reply: Reply, receipts: list[ReceiptRow]) -> dict:
    newest = receipts[0]
    feedback, ratings = store.used_feedback(newest, rater_id), {rating.kind: rating.value for rating in store.used_ratings(newest, rater_id)}
    written = store.correction_receipts(feedback.get("corrected", ()), newest.version)
    replies, total = store.training_weight(newest.version)
    run_id = store.version(newest.version).run_id
    report = store.run(run_id).report if run_id else {}
    gate = report.get("gate") or {}
    weight = newest.weight + sum(receipt.weight for receipt in written)
    return {"used": _used(store, rater_id, newest, ratings, feedback), "changed": _changed(store, rater_id, reply, ratings, feedback),
            "replies": replies, "share": weight / total if total else 0.0, **_push(newest, len(reply.completion_ids)),
            "corrected": _push(written[0], written[0].tokens) if written else None,
            "also": [row.version for row in receipts[1:]], "pairs": list(gate.get("replies") or [])[:SHOWN_PAIRS], "checked": _reason(report)}


def _reason(report: dict) -> dict:
    """Why a run ended as it did: `said` in codes that a page has words for (None in old reports), `reason` in English."""
    return {"said": report.get("said"), "reason": report.get("reason", "")}


def _used(store: Store, rater_id: str, receipt: ReceiptRow, ratings: dict[str, int], feedback: dict[str, list[int]]) -> dict:
    """By kind, only what was used: `thumb`, `stars`, `tags`, `correction` (True), `comparisons` (how many)."""
    used = {"tags": store.used_tags(receipt, rater_id), "correction": bool(feedback.get("corrections") or feedback.get("corrected")),
            "comparisons": len(feedback.get("comparisons", ()))}
    return {**ratings, **{kind: value for kind, value in used.items() if value}}


def _changed(store: Store, rater_id: str, reply: Reply, ratings: dict[str, int], feedback: dict[str, list[int]]) -> bool:
    """Whether they rate it otherwise by now, or something that was used is not current any more."""
    current = store.current_events(rater_id, reply.conversation_id).get(reply.id, {})
    return store.ratings_of(rater_id, reply.conversation_id).get(reply.id, {}) != ratings or any(
        not set(feedback.get(kind, ())) <= set(current.get(kind, ())) for kind in ("reasons", "corrections", "comparisons"))


def _push(receipt: ReceiptRow | CorrectionReceipt, length: int) -> dict:
    tokens = min(TOKENS, length)
    direction = None if receipt.advantage == 0 else receipt.advantage > 0                # None: it taught what is liked, and was itself left alone
    return {"towards": direction, "tokens": tokens, "times": times_as_likely(receipt, length, tokens)}


def times_as_likely(receipt: ReceiptRow | CorrectionReceipt, length: int, tokens: int = TOKENS) -> float:
    """How many times as likely `tokens` tokens of a reply became, base model against version, on the reply's average.

        times = exp(tokens * (logprob_after - logprob_before) / length)

    The geometric mean over the reply: 1 means nothing changed, 2 means twice as likely.

    Args:
        receipt: its log-probs are sums over the whole reply, in nats.
        length: the reply's completion tokens, at least 1.
    """
    return math.exp(tokens * (receipt.logprob_after - receipt.logprob_before) / length)


def version_view(store: Store, number: int) -> dict:
    """What a version learned from, and what that `changed` (see `Receipts.what_changed`). The sentence is the learner's; the numbers let the page say it in another language.

    Raises: UnknownVersion.
    """
    if number == BASE_VERSION:
        return {"note": ""}
    version = store.version(number)
    report = store.run(version.run_id).report if version.run_id else {}
    data, gate = report.get("data") or {}, report.get("gate") or {}
    return {"note": version.note, "replies": data.get("replies"), "corrections": data.get("corrections", 0), "raters": data.get("raters"),
            "scale": gate.get("scale", 1), "changed": report.get("changed") or store.what_changed(number)}
