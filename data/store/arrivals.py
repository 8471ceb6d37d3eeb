"""What a record from another host must be like to be taken in. With what is odd a run, a page or the next round would break off later, again and again.

What a newer version of the program says beside what is known here is passed over, except where it tells how a reply was sampled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime

from data.records import TASKS, Progress, Sampling
from data.store.shards import BadRecord, plain_name

LARGEST = 2**31 - 1
"""Of a token's id or a count: what torch's and our own arithmetic take, and numbers of versions never come to."""
SHA256 = re.compile("[0-9a-f]{64}")
NUMBERS = ("reward", "weight", "advantage", "logprob_before", "logprob_after")
ENDED = ("published", "refused", "nothing_to_do")
SAMPLING = {field.name for field in fields(Sampling)}
PROGRESS = {field.name for field in fields(Progress)}


def check_record(record: dict) -> None:
    """Raises: BadRecord, or BadShard where a version has no plain name for its folder."""
    kind = record.get("type")
    if not isinstance(kind, str) or kind not in CHECKS:
        raise BadRecord(f"it holds what this host does not know, {str(kind)[:40]!r}, and is to be updated for")
    CHECKS[kind](record)


def _reply(record: dict) -> None:
    _each(record, _text, "id", "rater", "base_model")
    _each(record, _words, "engine", "text")
    _each(record, _words_or_none, "adapter", "adapter_sha256", "finish_reason")
    _each(record, _time, "started_at")
    _each(record, _amount, "logprobs_temperature")
    _fits(record["task"] in TASKS, "task", record["task"])
    _sampling(record["sampling"])
    _each(record, _tokens, "prompt_ids", "completion_ids")
    logprobs = record["behavior_logprobs"]
    _fits(isinstance(logprobs, list) and all(map(_number, logprobs)), "behavior_logprobs", logprobs)
    _fits(len(record["completion_ids"]) > 0 and len(logprobs) in (0, len(record["completion_ids"])), "number of tokens and of log-probs",
          (len(record["completion_ids"]), len(logprobs)))


def _sampling(sampling: dict) -> None:
    _fits(isinstance(sampling, dict), "sampling", sampling)
    if unknown := set(sampling) - SAMPLING:      # with it the tokens had other probabilities than we would compute
        raise BadRecord(f"a reply was sampled with {', '.join(sorted(unknown))[:80]}, which this host does not know, and is to be updated for")
    known = vars(Sampling(**sampling))
    _each(known, _amount, "temperature", "top_p")
    _each(known, _count, "top_k", "max_new_tokens")
    _fits(isinstance(known["seed"], int), "seed", known["seed"])


def _event(record: dict) -> None:
    _each(record, _text, "uid", "rater", "created_at")


def _about_one(record: dict) -> None:
    _event(record)
    _each(record, _text, "reply_id")


def _reasons(record: dict) -> None:
    _about_one(record)
    _each(record, _words, "comment")
    tags = json.loads(record["tags"])
    _fits(isinstance(tags, list) and all(map(_text, tags)), "tags", tags)


def _correction(record: dict) -> None:
    _about_one(record)
    _each(record, _words, "text")


def _comparison(record: dict) -> None:
    _event(record)
    _each(record, _text, "first_id", "second_id", "preferred", "asked_by")


def _run(record: dict) -> None:
    _each(record, _text, "id", "base_model", "trigger")
    _each(record, _time, "started_at", "ended_at")
    _fits(record["state"] in ENDED, "state", record["state"])
    report, seen, progress = record["report"], record["seen"], json.loads(record["progress"])
    _fits(isinstance(report, dict) and isinstance(report.get("data", {}), dict), "report", report)
    _fits(isinstance(seen, dict) and all(map(_count, seen.values())), "seen", seen)
    _fits(isinstance(progress, dict) and _words(Progress(**_known_of(progress)).stage), "progress", progress)


def known_progress(progress: str) -> str:
    """A run's progress without what this version of the program does not know."""
    return json.dumps(_known_of(json.loads(progress)))


def _known_of(progress: dict) -> dict:
    return {name: value for name, value in progress.items() if name in PROGRESS}


def _version(record: dict) -> None:
    plain_name(record["folder"])
    _fits(_count(record["number"]) and record["number"] > 0, "number", record["number"])
    _each(record, _text, "base_model")
    _fits(_words(record["sha256"]) and SHA256.fullmatch(record["sha256"]), "sha256", record["sha256"])
    _each(record, _words_or_none, "run_id", "parent", "config")
    _each(record, _time, "created_at")
    _fits(record.get("removed_at") is None or _time(record["removed_at"]), "removed_at", record.get("removed_at"))
    _each(record, _words, "note")
    for receipt in (*record["receipts"], *record["corrected"]):
        _each(receipt, _text, "reply_id")
        _each(receipt, _number, *NUMBERS)
    for receipt in record["receipts"]:
        events = receipt["events"]
        _fits(isinstance(events, dict) and all(isinstance(uids, list) and all(map(_text, uids)) for uids in events.values()), "events", events)
    for receipt in record["corrected"]:
        _each(receipt, _text, "uid")
        _each(receipt, _count, "tokens")


def _promotion(record: dict) -> None:
    _each(record, _text, "uid", "base_model")
    _each(record, _words_or_none, "version")
    _each(record, _words, "reason")
    _each(record, _time, "created_at")


CHECKS: dict[str, Callable[[dict], None]] = {
    "erased": lambda record: _each(record, _text, "reply_id"), "reply": _reply, "ratings": _about_one, "reasons": _reasons, "corrections": _correction,
    "comparisons": _comparison, "run": _run, "version": _version, "promotion": _promotion}


def _each(record: dict, is_fit: Callable[[object], bool], *names: str) -> None:
    for name in names:
        _fits(is_fit(record[name]), name, record[name])


def _fits(fits: object, name: str, value: object) -> None:
    if not fits:
        raise BadRecord(f"{name} is {str(value)[:80]!r}")


def _words(value: object) -> bool:
    """A text that a database takes: without half of a surrogate pair."""
    return isinstance(value, str) and value.encode("utf-8", "ignore").decode() == value


def _words_or_none(value: object) -> bool:
    return value is None or _words(value)


def _text(value: object) -> bool:
    return _words(value) and value != ""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _amount(value: object) -> bool:
    return _number(value) and value >= 0


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _tokens(value: object) -> bool:
    return isinstance(value, list) and all(map(_count, value))


def _time(value: object) -> bool:
    return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
