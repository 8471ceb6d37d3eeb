"""What a run writes down: what it learned from, how training went, and a receipt for everybody whose feedback counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from torch import Tensor

from data.records import CorrectionReceipt, RatedReply, ReceiptRow
from data.sentences import Said, said
from learner.feedback.opinions import CORRECTED, raters_of
from learner.feedback.rewards import Reward
from learner.model.batches import Example
from learner.reward.reliability import Reliability
from learner.training.steps import StepFigures

MOST_RATERS = 1000
"""In a run's report."""


def receipt_rows(replies: Sequence[RatedReply], found: Sequence[Reward], examples: Sequence[Example], advantages: Tensor,
                 before: Mapping[int, Tensor], after: Mapping[int, Tensor]) -> tuple[list[ReceiptRow], list[CorrectionReceipt]]:
    """What each reply, and each corrected text, in training was worth and what became of it; `version` is filled in on publication.

    Args: advantages: (N,) and `before`, `after`: (completion length,) nats under the base model and the new version, by example index.
    """
    receipts, of_corrections = [], []
    for example in examples:
        reward = found[example.index]
        values = {"version": 0, "reward": reward.reward, "weight": reward.weight, "advantage": float(advantages[example.index]),
                  "logprob_before": float(before[example.index].sum()), "logprob_after": float(after[example.index].sum())}
        if replies[example.index].reply.engine == CORRECTED:
            [written] = replies[example.index].corrections
            of_corrections.append(CorrectionReceipt(correction_id=written.id, tokens=len(example.completion_ids), **values))
        else:
            receipts.append(ReceiptRow(reply_id=reward.reply_id, rating_ids=reward.rating_ids, feedback_ids=reward.feedback_ids, **values))
    return receipts, of_corrections


def data_used(replies: Sequence[RatedReply], found: Sequence[Reward], examples: Sequence[Example], held_out: Sequence[Example]) -> dict:
    """Counts of what people said; `replies`, `corrections`, `comparisons` and `raters` are those in training, the rest is of everything at hand."""
    ratings = [rating for rated in replies for rating in rated.ratings]
    corrections = sum(replies[example.index].reply.engine == CORRECTED for example in examples)
    return {
        "replies": len(examples) - corrections, "corrections": corrections, "held_out": len(held_out),
        "raters": len({rater for example in examples for rater in raters_of(replies[example.index])}),
        "tasks": dict(Counter(replies[example.index].reply.task for example in examples)),
        "thumbs_up": sum(r.kind == "thumb" and r.value > 0 for r in ratings),
        "thumbs_down": sum(r.kind == "thumb" and r.value < 0 for r in ratings),
        "stars": {str(stars): sum(r.kind == "stars" and r.value == stars for r in ratings) for stars in range(1, 6)},
        "tagged": sum(any(reason.tags for reason in rated.reasons) for rated in replies),
        "comparisons": len({comparison.id for example in examples for comparison in replies[example.index].comparisons}),
        "completion_tokens": sum(len(example.completion_ids) for example in examples),
        "mean_reward": round(sum(found[e.index].reward for e in examples) / len(examples), 4) if examples else None}


def rater_weights(raters: Mapping[str, Reliability]) -> list[dict]:
    """What each person's ratings were multiplied with, 0 in quarantine, and how likely they are honest; the least honest first, at most `MOST_RATERS`. Empty where it was not told."""
    told = sorted((one.honest, rater) for rater, one in raters.items() if one.honest is not None)
    return [{"rater": rater, "ratings": raters[rater].ratings, "honest": round(honest, 4), "weight": round(raters[rater].trust, 4)} for honest, rater in told[:MOST_RATERS]]


def left_out_personal(before: Sequence[Example], after: Sequence[Example]) -> dict:
    """How much was not learnt because it spells personal data."""
    touched = [example for example in after if example.left_out]
    return {"replies_with_personal_data": len(touched), "personal_tokens_left_out": sum(len(example.left_out) for example in touched),
            "left_out_all_personal": len(before) - len(after)}


def training_figures(history: Sequence[StepFigures]) -> dict:
    """The whole curve, one row a step, and where it ended; no row where a refinement took the place of passes over the ratings."""
    rows = [{name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(figures).items()} for figures in history]
    return {"steps": len(rows), "last": rows[-1] if rows else None, "curve": rows}


def note_of(data: dict, scale: float) -> Said:
    """A version's one sentence for people; what training made of it, `Receipts.what_changed` tells."""
    corrections, comparisons = data["corrections"], data["comparisons"]
    also = (said("and_both", corrections=said("n_corrections", n=corrections), comparisons=said("n_comparisons", n=comparisons)) if corrections and comparisons
            else said("and_corrections", n=corrections) if corrections else said("and_comparisons", n=comparisons) if comparisons else "")
    return said("note", rated=said("n_rated", n=data["replies"]), people=said("n_people", n=data["raters"]), corrected=also,
                strength="" if scale == 1 else said("note_strength", scale=scale))
