"""G1, the second gate: is the candidate worse than the incumbent, as far as ratings that did not train it can tell?

Part of the ratings is set aside: all that some people said, of replies that nobody else rated, or where few people rate, of some threads (a conversation, with
all that answer one of its prompts), the same ones run after run. A reward model is fitted on them: the judge. Candidate and incumbent answer the same held-out
prompts; per thread p the difference of the judge's mean scores is d_p, and threads are drawn with replacement many times:

    low = mean of d + sqrt(n / (n - 1)) * t / z * (the 5% quantile of the bootstrap means of d - mean of d)

The factor, t and z being 95% quantiles of Student's distribution with n - 1 degrees and of the normal one, widens what few prompts make
too narrow: 1.23 for 8 threads, 1.05 for 32. The candidate passes when low >= -MARGIN. What that bounds: for a candidate whose true score
under the judge, on prompts like these, is MARGIN below the incumbent's, the probability to pass is about 5%, and less where it is farther
below: simulated 5% for 8 to 64 prompts where differences are normal or of two replies a side that are liked or not (without the factor 8
to 9% for 8); but 13% for 8 and 9% for 32 where the whole loss is in a few prompts (exponential). It says nothing about what the judge
cannot see; that is left to G0's figures and the rules of scoring.py. The incumbent may have trained on some of the judge's ratings, on all of them
when they could not judge before; then the balance is in its favour. Where the judge cannot tell replies apart, or prompts are few,
nothing is decided here ("not evaluable") and G0 alone decides; that is known before the training, and the ratings then train.
Sources: percentile bootstrap over clusters, Efron and Tibshirani 1993, chapters 8 and 13; its narrowness and the factor,
Hesterberg 2015, arXiv:1411.5279.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence, Set
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist

import torch

from data.base_models.tokenizer import ChatTokenizer
from data.records import Generated
from data.sentences import Said, reasoned, said, sentence
from learner.gates.gate import GateReport
from learner.model.policy import Policy
from learner.reward.nonsense import Nonsense
from learner.reward.reward_model import Fit, RewardModel
from learner.reward.scoring import Bounds, Scored, as_examples, score

MARGIN = 0.05
"""Reward units of [-1, 1]: a probability of being liked that is 2.5 points lower is still "not worse"."""
CONFIDENCE = 0.95
DRAWS = 2000
MIN_CLUSTERS = 8
MIN_RATERS = 4
"""From this many people on, all that some of them rated is held out, but for what somebody else rated too."""


@dataclass(frozen=True)
class StatisticalReport:
    """What G1 found."""

    decision: str
    """`passed`, `refused` or `not evaluable`."""
    said: Said
    """A part of a sentence for people: what was found, or why nothing was."""
    prompts: int
    difference: float | None = None
    low: float | None = None
    """Lower bound of the mean difference, candidate minus incumbent."""
    judge: Fit | None = None

    @property
    def reason(self) -> str:
        return sentence(self.said)

    def as_dict(self) -> dict:
        return {**{name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()},
                **reasoned(self.said), "margin": MARGIN, "confidence": CONFIDENCE, "judge": self.judge and self.judge.as_dict()}


def hold_out(raters: Sequence[Set[Hashable]], of_thread: Sequence[Hashable], share: float, minimum: int, seed: int) -> frozenset[int]:
    """Places of the ratings that are set aside to judge, and train where they cannot: about `share` of them; none below `minimum` in all.

    All that whole people rated, from `MIN_RATERS` of them on; whole threads where fewer rate, or where hardly anybody rated so little. What somebody else rated too is not set aside.

    Args: per rated reply, everybody who rated it and its thread.
    """
    if share <= 0 or len(of_thread) < minimum:
        return frozenset()
    limit, people = share * len(of_thread), set().union(*raters)
    by_people = _all_of(raters, limit, seed) if len(people) >= MIN_RATERS else frozenset()
    return by_people if len(by_people) >= limit / 2 else _all_of([{thread} for thread in of_thread], limit, seed)


def threads(prompts: Sequence[Hashable], conversations: Sequence[Hashable]) -> list[Hashable]:
    """Per reply the first prompt of its thread: of all that answer the same prompt or belong to the same conversation, and of what these are in a thread with.

    A later turn's prompt holds the earlier ones: taken for independent, eight turns of each of four conversations let a candidate that is worse by the margin pass in 21%, not 5%.
    """
    parent: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = parent[above]
            key = above
        return key

    for prompt, conversation in zip(prompts, conversations, strict=True):
        parent[root(("prompt", prompt))] = root(("conversation", conversation))
    first: dict[Hashable, Hashable] = {}
    return [first.setdefault(root(("prompt", prompt)), prompt) for prompt in prompts]


def _all_of(owners: Sequence[Set[Hashable]], limit: float, seed: int) -> frozenset[int]:
    """The places that belong to nobody but some of the owners, who are taken in turn as long as there are no more than `limit` of them."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, some in enumerate(owners):
        for owner in some:
            places[owner].append(place)
    left, chosen = [len(some) for some in owners], set()
    for owner in sorted(places, key=lambda owner: hashlib.sha256(f"held out {seed} {owner}".encode()).digest()):      # what others say later moves few
        freed = [place for place in places[owner] if left[place] == 1]
        if len(chosen) + len(freed) <= limit:                     # one person with half of the ratings is never held out
            chosen.update(freed)
            for place in places[owner]:
                left[place] -= 1
    return frozenset(chosen)


def undecidable(judge: Fit, clusters: int) -> Said | None:
    """Why a judge with so many independent clusters of prompts of its own can decide nothing; None when it can."""
    if clusters < MIN_CLUSTERS:
        return said("why_few_prompts", n=clusters)
    return None if judge.sure else said("why_unpredictable")


def compare(policy: Policy, tokenizer: ChatTokenizer, judge: RewardModel, bounds: Bounds, prompts: Sequence[tuple[int, ...]], clusters: Sequence[Hashable],
            candidate: Sequence[Generated], incumbent: Sequence[Generated], whom: Said, *, temperature: float, max_batch_tokens: int, seed: int,
            check: Callable[[], None]) -> StatisticalReport:
    """Decide from both models' replies, which a judge who can decide is asked about.

    Args: prompts, clusters: per reply what it answers, and what it shares with replies that are not independent of it. candidate, incumbent: one reply each. whom: who the incumbent is, in words.
    """
    def scored(replies: Sequence[Generated], nonsense: Nonsense | None) -> Scored:
        return score(policy, tokenizer, judge, as_examples(prompts, replies, temperature), replace(bounds, nonsense=nonsense), penalty=0.0, unlikely=0.0,
                     max_batch_tokens=max_batch_tokens, check=check)

    asked = len(set(prompts))
    theirs = scored(incumbent, None)                         # drawn as the candidate's are, which the rated replies need not be
    ours = scored(candidate, theirs.nonsense)
    differences = cluster_means((ours.lower - theirs.lower).tolist(), clusters)
    mean, low = sum(differences) / len(differences), bootstrap_lower_bound(differences, seed)
    if low >= -MARGIN:
        how = said("compared_well", whom=whom, prompts=asked, difference=mean, low=low, confidence=CONFIDENCE)
        return StatisticalReport("passed", how, asked, mean, low, judge.fit)
    how = said("compared_badly", whom=whom, prompts=asked, loss=-low, margin=MARGIN, confidence=CONFIDENCE)
    return StatisticalReport("refused", how, asked, mean, low, judge.fit)


def verdict(broken: GateReport, compared: StatisticalReport) -> Said:
    """What both gates say of a candidate that is not broken, as one sentence."""
    if compared.decision == "refused":
        return said("gate_refused", problem=compared.said)
    if compared.decision == "passed":
        return said("passed_compared", strength=broken.strength, how=compared.said)
    return said("passed_only", strength=broken.strength, why=compared.said)


def cluster_means(values: Sequence[float], clusters: Sequence[Hashable]) -> list[float]:
    """Mean value by cluster, in order of first appearance."""
    members: dict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        members[cluster].append(value)
    return [sum(of) / len(of) for of in members.values()]


def bootstrap_lower_bound(differences: Sequence[float], seed: int) -> float:
    """The (1 - CONFIDENCE) quantile of the means of DRAWS samples with replacement, as far from the mean as so few values make it. Two values at least."""
    generator, count = torch.Generator().manual_seed(seed), len(differences)
    values = torch.tensor(differences, dtype=torch.float64)
    drawn = torch.randint(count, (DRAWS, count), generator=generator)
    mean, quantile = float(values.mean()), float(values[drawn].mean(dim=1).quantile(1 - CONFIDENCE))
    return mean + math.sqrt(count / (count - 1)) * t_quantile(count - 1) / NormalDist().inv_cdf(CONFIDENCE) * (quantile - mean)


def t_quantile(freedom: int) -> float:
    """The CONFIDENCE quantile of Student's t, within .2% from 7 degrees of freedom on (Abramowitz and Stegun 1964, 26.7.5)."""
    z = NormalDist().inv_cdf(CONFIDENCE)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
