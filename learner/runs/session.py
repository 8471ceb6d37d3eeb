"""Around a run: one learner at a time, what a killed one left open is closed, and however the run ends its row says so.

Nothing here imports torch, so that a run is in the store, visible and stoppable, seconds before its model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from data.adapters import LEARNER_LEASE, AdapterRegistry
from data.errors import ChatError
from data.records import Progress, Run
from data.sentences import reasoned, said
from data.store import Store
from learner.errors import Stopped
from learner.runs.lease import SECONDS, learner_lease
from learner.runs.pace import Pace
from learner.runs.schedule import PATIENCE


@contextmanager
def open_run(store: Store, registry: AdapterRegistry, base_model: str, trigger: str,
             on_progress: Callable[[Progress], None] = lambda progress: None,
             should_stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[Run, Pace]]:
    """A run to work in, as `(run, pace)`; being stopped ends the block quietly, and its row says by whom.

    Raises: Busy: another learner is at work. Any other exception of the block, after the row says `failed` and why.
    """
    with learner_lease(store) as lost:
        close_interrupted_runs(store, registry)
        run = store.start_run(base_model, trigger)
        pace = Pace(store, run.id, on_progress, lambda: lost.is_set() or should_stop())
        try:
            yield run, pace
        except Stopped:
            _end_early(store, run, seconds=pace.seconds())
        except BaseException as error:
            fail_run(store, run, error if isinstance(error, ChatError) else ChatError(said("run_broke_off", kind=type(error).__name__, error=str(error))))
            raise


def fail_run(store: Store, run: Run, error: ChatError) -> None:
    store.finish_run(run.id, "failed", report={"said": error.said}, error=str(error))


def close_abandoned_runs(store: Store, registry: AdapterRegistry) -> None:
    """For a watcher: when a run is open and no learner is alive, close it, so that the next one can be asked for."""
    if store.open_runs():
        with store.leased(LEARNER_LEASE, SECONDS) as held:
            if held:
                close_interrupted_runs(store, registry)


def close_interrupted_runs(store: Store, registry: AdapterRegistry) -> None:
    """After a kill, and only while holding the lease: end runs that are still open and sweep unpublished folders.

    A run that was killed between the publication and its own last word did publish.
    """
    for run in store.open_runs():
        published = [version for version in store.versions(run.base_model) if version.run_id == run.id]
        if published:
            store.finish_run(run.id, "published", version=published[0].number, report={
                "published": True, "version": published[0].number, "adapter_sha256": published[0].sha256, "gate": None,
                **reasoned(said("published_early"))})
        else:
            _end_early(store, run, killed=True)
    registry.sweep()


def _end_early(store: Store, run: Run, *, killed: bool = False, seconds: float | None = None) -> None:
    """By a maintainer, or by nobody's wish: then what a maintainer asked for is asked for again, unless kills end one run after the other."""
    earlier = [other for other in store.runs(2, run.base_model) if other.id != run.id][:1]
    if run.trigger == "shell":
        then = said("again_shell")
    elif run.trigger != "maintainer":
        then = said("again_due", minutes=_minutes("interrupted"))
    elif killed and earlier and earlier[0].state == "interrupted":
        then = said("again_by_hand")
    else:
        then = said("again_asked")
    with store.write():
        if store.run(run.id).state != "running":              # another learner has ended it and seen to what comes next
            return
        wished = store.stop_requested(run.id)
        why = said("stopped", minutes=_minutes("stopped")) if wished else said("interrupted", next=then)
        store.finish_run(run.id, "stopped" if wished else "interrupted",
                         report={**reasoned(why), "published": False, "seconds": seconds})
        if not wished and then["code"] == "again_asked":
            store.request_training(run.trigger)


def _minutes(state: str) -> int:
    return PATIENCE[state].seconds // 60
