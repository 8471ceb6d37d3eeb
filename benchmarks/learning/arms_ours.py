"""The product as an arm: real store, real learner, real registry; what it publishes is what is evaluated."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.learning.raters import auc
from benchmarks.learning.task import Task, Trained, record
from data.adapters import AdapterRegistry
from data.settings import Settings
from data.store import Store
from learner.__main__ import learner_config
from learner.runs.run import train
from serving_sampler import sampler_maker


def ours(task: Task, refine: bool = False) -> Trained:
    """One learner run over the ratings, as a maintainer would start it. A refused candidate means the base model stays."""
    store = Store(task.folder / "chat.db")
    registry = AdapterRegistry(store, task.folder / "adapters")
    conduct = record(store, task.base, task.rated, task.sampling)
    settings = Settings(seed=task.seed, refine=refine, temperature=task.sampling.temperature, top_p=task.sampling.top_p,
                        top_k=task.sampling.top_k, max_new_tokens=task.sampling.max_new_tokens)
    config = learner_config(settings)
    if task.rate is not None:                        # of the small step alone where there is one: where it comes to nothing, the product's own trains on the ratings
        config = replace(config, refine=replace(config.refine, learning_rate=task.rate)) if refine else replace(config, learning_rate=task.rate)
    run = train(store, registry, task.base, config, trigger="shell",
                make_sampler=sampler_maker("auto", task.base, task.folder / "merged-candidates"))
    report = {"state": run.state, "learner": run.report, "detection_auc": detection_auc(run.report["data"].get("rater_weights", []), conduct)}
    tokens = tokens_visited(run.report, sum(example.tokens for example in task.examples()) / len(task.rated), config.batch_size)
    return Trained(registry.verify(run.version) if run.state == "published" else None, tokens, report)


def ours_refined(task: Task) -> Trained:
    """The same with REFINE: what small models of the ratings prefer, as far as fresh replies allow, in the place of passes over the ratings."""
    return ours(task, refine=True)


def tokens_visited(report: dict, mean_tokens: float, batch_size: int) -> int:
    """Of a learner's report: the small step of a refinement visits the replies it imitates, whether it is kept or not; passes over the ratings visit all of them.

    Args: mean_tokens: of a rated reply with its prompt.
    """
    reached = (report.get("refinement") or {}).get("reached", {})
    steps, small_steps = report.get("training", {}).get("steps", 0), reached.get("steps", 0)
    passes = small_steps // -(-reached["imitated"] // batch_size) if small_steps else 0
    return round(steps * batch_size * mean_tokens) + passes * reached.get("imitated_tokens", 0)


def detection_auc(weights: list[dict], conduct: dict[str, str]) -> float | None:
    """How well the run tells hostile people from honest ones; all are alike where it does not tell."""
    honest = {one["rater"]: one["honest"] for one in weights}
    raters = sorted(conduct)
    return auc([-honest.get(rater, 1.0) for rater in raters], [conduct[rater] != "honest" for rater in raters])
