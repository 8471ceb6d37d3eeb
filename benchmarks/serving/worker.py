"""One engine in a process of its own: measures what its parent asks for, a JSON line each way."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from benchmarks.serving.figures import during, gaps, of_replies, quantile
from benchmarks.serving.speakers import SAMPLING, Ours, Said, Speaker, make_speaker
from chat_app.engines.gguf import servable_path
from data.base_models import load_base_model
from data.records import Sampling

WAIT_SECONDS = 120
WARM_TOKENS = 8


class Lateness:
    """How late another thread of this process comes to run, as one that answers a page: it asks to sleep 2 ms, again and again."""

    def __enter__(self) -> Lateness:
        self.seconds, self._over = [], threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            start = time.monotonic()
            time.sleep(0.002)
            self.seconds.append(time.monotonic() - start - 0.002)


def warm_up(speaker: Speaker, warming: dict, replies: int, long: bool) -> None:
    """Say so many replies at once, or read a long prompt: the first of a shape pays for what is compiled, planned and reserved for it."""
    speaker.say(warming["prompts"][:replies], WARM_TOKENS, 0)
    if long:
        speaker.say([warming["long"]], 2, 0)


def streams(speaker: Speaker, asked: dict) -> dict:
    start = time.monotonic()
    said = speaker.say(asked["prompts"], asked["tokens"], asked["seed"])
    return of_replies(_since(start, said))


def conversation(speaker: Speaker, asked: dict) -> dict:
    """Each turn's prompt is everything before it, token by token, and its own message. Returns seconds to each turn's first token."""
    known, firsts, lengths = [], [], []
    for turn, message in enumerate(asked["prompts"]):
        known += message
        start = time.monotonic()
        [said] = speaker.say([known], asked["tokens"], asked["seed"] + turn)
        firsts.append(said.times[0] - start)
        lengths.append(len(known))
        known += said.ids
    return {"first_tokens": firsts, "prompt_tokens": lengths, "first_token_sum": sum(firsts)}


def reading(speaker: Speaker, asked: dict) -> dict:
    """A long prompt alone; for ours also how soon a stop is heard while it is read, and what it does to replies beside it."""
    [long, stopped, beside], prompts = asked["long"], asked["prompts"]
    start = time.monotonic()
    [said] = speaker.say([long], 2, asked["seed"])
    found = {"prompt_tokens": len(long), "first_token": said.times[0] - start}
    if not isinstance(speaker, Ours):
        return found
    stream = speaker.engine.stream(stopped, Sampling(SAMPLING.temperature, SAMPLING.top_p, SAMPLING.top_k, 2, 1), 1)
    time.sleep(found["first_token"] / 4)
    start = time.monotonic()
    stream.cancel()
    for _ in stream:
        pass
    found["stop_heard"] = time.monotonic() - start
    start = time.monotonic()
    [said] = speaker.say(prompts[:1], 1, asked["seed"])
    found["first_token_after_stop"] = said.times[0] - start
    others, wait_others = speaker.begin(prompts, asked["tokens"], asked["seed"])
    _until(lambda: all(len(one.ids) > 8 for one in others))
    with Lateness() as late:
        start = time.monotonic()
        [said] = speaker.say([beside], 2, asked["seed"])
        end = said.times[0]
    wait_others()
    times = [one.times for one in others]
    return {**found, "first_token_beside": end - start, "gap_p50": quantile(gaps(times), 0.5), "gap_max_beside": max(during(times, start, end), default=None),
            "late_p95": quantile(late.seconds, 0.95), "late_max": max(late.seconds)}


def swap(speaker: Ours, asked: dict) -> dict:
    """Another version is merged, built and made the one that answers while replies run; they end on the old one.

    Gaps count until the new version has answered.
    """
    said, wait = speaker.begin(asked["prompts"], asked["tokens"], asked["seed"])
    _until(lambda: all(len(one.ids) > 16 for one in said))
    calm = [list(one.times) for one in said]
    start = time.monotonic()
    speaker.engine.load(2, Path(asked["second"]))
    built = time.monotonic()
    fresh, wait_fresh = speaker.begin(asked["prompts"][:1], 2, asked["seed"], version=2)
    speaker.engine.unload(1)
    wait_fresh()
    answered = time.monotonic()
    wait()
    times = [one.times for one in said]
    speaker.engine.load(1, Path(asked["adapter"]))
    speaker.engine.unload(2)
    servable_path(load_base_model(Path(asked["base"])), Path(asked["second"]), Path(asked["cache"])).unlink(missing_ok=True)  # merged anew next time: that is part of a swap
    meanwhile = during(times, start, answered) or [0.0]
    return {"build": built - start, "new_first_token": fresh[0].times[0] - built, "dropped": sum(len(one.ids) != asked["tokens"] for one in said),
            "outlived_build": sum(reply[-1] > answered for reply in times),
            "gap_p50_before": quantile(gaps(calm), 0.5), "gap_p50": quantile(meanwhile, 0.5), "gap_p95": quantile(meanwhile, 0.95), "gap_max": max(meanwhile),
            "line": [[at - start, later - at] for reply in times for at, later in pairwise(reply)]}


def main(job: str) -> int:
    given = json.loads(Path(job).read_text(encoding="utf-8"))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)                                             # libraries print, their children too; the parent reads our own lines alone
    sys.stdout = sys.stderr

    def tell(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    speaker = make_speaker(given["engine"], load_base_model(Path(given["base"])), Path(given["adapter"]), Path(given["cache"]), given["vllm_python"])
    works: dict[str, Callable] = {"streams": streams, "learner": streams, "conversation": conversation, "reading": reading, "swap": swap}
    try:
        speaker.say([given["hello"]], 1, 0)
        tell(ready=True)
        warm = set()
        for line in sys.stdin:
            asked = json.loads(line)
            shape = (1 if asked["work"] == "conversation" else len(asked["prompts"]), asked["work"] == "reading")
            try:
                if shape not in warm:
                    warm_up(speaker, given["warming"], *shape)
                    warm.add(shape)
                tell(figures=works[asked["work"]](speaker, {**asked, **{key: given[key] for key in ("base", "adapter", "cache")}}))
            except Exception as error:                        # the other engines go on
                tell(error=f"{type(error).__name__}: {error}")
    finally:
        speaker.close()
    return 0


def _since(start: float, said: list[Said]) -> list[list[float]]:
    return [[at - start for at in one.times] for one in said]


def _until(condition: Callable[[], bool]) -> None:
    """Raises: TimeoutError."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the replies did not get under way")
        time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
