"""What a person is told of the consequence of a rating: plain values, no internals."""

from __future__ import annotations

import math

from data.records import BASE_VERSION, ReceiptRow, Reply
from data.store import Store

TOKENS = 10
"""Likelihoods are compared over this many tokens: over one, a change is too small to picture; over all, too large."""
SHOWN_PAIRS = 2


def receipt_view(store: Store, rater_id: str, reply_id: str) -> dict:
    """Which of this person's ratings of a reply trained the newest version that used them, how much, and to what effect.

    Raises: UnknownReply, NotYourReply.
    """
    reply = store.reply(reply_id, rater_id)
    outcome = store.outcomes(rater_id, reply.conversation_id).get(reply.id)
    receipts = [row for row in store.receipts(reply.id) if store.used_ratings(row, rater_id)]
    refused = store.run(outcome.refused_run) if outcome and outcome.refused_run else None
    return {"version": receipts[0].version if receipts else None,
            "refused": None if refused is None else {"reason": refused.report.get("reason", "")},
            **(_effect(store, rater_id, reply, receipts) if receipts else {})}


def _effect(store: Store, rater_id: str, reply: Reply, receipts: list[ReceiptRow]) -> dict:
    newest = receipts[0]
    used = {rating.kind: rating.value for rating in store.used_ratings(newest, rater_id)}
    replies, total = store.training_weight(newest.version)
    current = store.ratings_of(rater_id, reply.conversation_id).get(reply.id, {})
    run_id = store.version(newest.version).run_id
    gate = (store.run(run_id).report.get("gate") or {}) if run_id else {}
    tokens = min(TOKENS, len(reply.completion_ids))
    return {"used": used, "changed": current != used, "replies": replies, "share": newest.weight / total if total else 0.0,
            "towards": newest.advantage > 0, "tokens": tokens, "times": times_as_likely(newest, len(reply.completion_ids), tokens),
            "also": [row.version for row in receipts[1:]], "pairs": list(gate.get("replies") or [])[:SHOWN_PAIRS]}


def times_as_likely(receipt: ReceiptRow, length: int, tokens: int = TOKENS) -> float:
    """How many times as likely `tokens` tokens of a reply became, base model against version, on the reply's average.

        times = exp(tokens * (logprob_after - logprob_before) / length)

    The geometric mean over the reply: 1 means nothing changed, 2 means twice as likely.

    Args:
        receipt: its log-probs are sums over the whole reply, in nats.
        length: the reply's completion tokens, at least 1.
    """
    return math.exp(tokens * (receipt.logprob_after - receipt.logprob_before) / length)


def version_view(store: Store, number: int) -> dict:
    """What a version learned from. The sentence is the learner's; the numbers let the page say it in another language.

    Raises: UnknownVersion.
    """
    if number == BASE_VERSION:
        return {"note": ""}
    version = store.version(number)
    report = store.run(version.run_id).report if version.run_id else {}
    data, gate = report.get("data") or {}, report.get("gate") or {}
    return {"note": version.note, "replies": data.get("replies"), "raters": data.get("raters"), "scale": gate.get("scale", 1)}
