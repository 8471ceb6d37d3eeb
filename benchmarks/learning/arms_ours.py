"""The product as an arm: real store, real learner, real registry; what it publishes is what is evaluated."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.learning.raters import auc
from benchmarks.learning.task import Task, Trained, record
from data.adapters import AdapterRegistry
from data.settings import Settings
from data.store import Store
from learner.__main__ import learner_config
from learner.rewards import rewards
from learner.run import train
from serving_sampler import sampler_maker


def ours(task: Task, refine: bool = False) -> Trained:
    """One learner run over the ratings, as a maintainer would start it. A refused candidate means the base model stays."""
    store = Store(task.folder / "chat.db")
    registry = AdapterRegistry(store, task.folder / "adapters")
    conduct = record(store, task.base, task.rated, task.sampling)
    settings = Settings(seed=task.seed, refine=refine, temperature=task.sampling.temperature, top_p=task.sampling.top_p,
                        top_k=task.sampling.top_k, max_new_tokens=task.sampling.max_new_tokens)
    config = replace(learner_config(settings),
                     **({} if task.rate is None else {"learning_rate": task.rate}))
    run = train(store, registry, task.base, config, trigger="shell",
                make_sampler=sampler_maker("auto", task.base, task.folder / "merged-candidates"))
    report = {"state": run.state, "learner": run.report, "detection_auc": detection_auc(store, task.base.id, conduct)}
    steps = run.report.get("training", {}).get("steps", 0)           # on the ratings; fresh replies come on top
    tokens = steps * config.batch_size * sum(example.tokens for example in task.examples()) // len(task.rated)
    return Trained(registry.verify(run.version) if run.state == "published" else None, tokens, report)


def ours_refined(task: Task) -> Trained:
    """The same with REFINE: one on-policy iteration after the ratings."""
    return ours(task, refine=True)


def detection_auc(store: Store, base_model: str, conduct: dict[str, str]) -> float | None:
    """How well the learner's trust tells hostile people from honest ones: by rater, the mean weight of what they rated."""
    weights: dict[str, list[float]] = {}
    replies = store.rated_replies(base_model)
    for rated, reward in zip(replies, rewards(replies), strict=True):
        weights.setdefault(rated.ratings[0].rater_id, []).append(reward.weight)
    raters = sorted(weights)
    return auc([-sum(weights[rater]) / len(weights[rater]) for rater in raters], [conduct[rater] != "honest" for rater in raters])
