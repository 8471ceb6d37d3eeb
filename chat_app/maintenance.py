"""What a maintainer can do: start and stop training, make a version live, roll back, look. Callers check identity first."""

from __future__ import annotations

from collections.abc import Callable

from chat_app.asking import share_asked
from chat_app.serving import Serving
from data.adapters import AdapterRegistry
from data.cached import Cached
from data.errors import Busy, NoLearnerHere, UnknownVersion
from data.records import BASE_VERSION, BaseModel
from data.sentences import said
from data.settings import Settings
from data.store import Store
from data.store.agreement import interval, krippendorff_alpha, nominal, same_share
from data.texts.masking import mask

OF_A_REPORT = {"said": ..., "reason": ..., "refinement": ("said", "reason"), "asking": ("nothing", "told_by"), "gate": ("replies",)}
"""What the page shows of a run's report; the rest, such as whose honesty it doubts, stays in the store."""
FEW = 5
"""With fewer replies rated by several people their agreement would be an accident."""
AGREEMENT_SECONDS = 60.0
"""How far people agree is worked out again after so long at the soonest; the page asks every second while a run goes on."""
SHOWN = 1000
"""Characters of a message or a reply on the maintainer's page; longer ones are cut."""


class Maintenance:
    def __init__(self, store: Store, registry: AdapterRegistry, serving: Serving, base: BaseModel, settings: Settings, fresh_ratings: Callable[[], int]) -> None:
        """Args: fresh_ratings: how many there are, as the chat's status has it."""
        self.store, self.registry, self.serving, self.base, self.settings = store, registry, serving, base, settings
        self._fresh_ratings = fresh_ratings
        self._agreement = Cached(self._find_agreement, AGREEMENT_SECONDS)

    def train_now(self) -> None:
        """Ask the learner for a run.

        Raises: Busy: a run is going on. NoLearnerHere: the learner is on another host, which hears of no request made here.
        """
        if self.settings.sync_url and not self.settings.learner:
            raise NoLearnerHere(said("learner_elsewhere"))
        run = self.store.last_run(self.base.id)
        if run and run.state == "running":
            raise Busy(said("run_goes_on"))
        self.store.request_training("maintainer")

    def stop_training(self) -> None:
        """End the running run before its next step; nothing is published."""
        self.store.request_stop()

    def make_live(self, version: int) -> None:
        """New replies use this version within seconds; 0 is the base model alone.

        Raises: UnknownVersion, CorruptAdapter, RemovedVersion: nothing changes.
        """
        if version != BASE_VERSION:
            self.registry.verify(version)
        self.store.promote(version, self.base.id, "maintainer")

    def roll_back(self) -> int:
        """Make live the version that the present one came from (what was live when it was trained, see `came_from`); returns its number.

        Raises: UnknownVersion: the base model is live already. CorruptAdapter: its files are damaged; make another one live.
        """
        live = self.store.live_version(self.base.id)
        if live == BASE_VERSION:
            raise UnknownVersion(said("base_is_live"))
        target = self.store.came_from(live)
        if target != BASE_VERSION:
            self.registry.verify(target)
        self.store.promote(target, self.base.id, f"rolled back from version {live}")
        return target

    def overview(self) -> dict:
        """Everything the maintainer's page shows, as plain values."""
        store, base = self.store, self.base
        live = store.live_version(base.id)
        runs, notes = store.runs(10, base.id), store.notes_said(base.id)
        return {
            "live": live, "serving": self.serving.version, "change": self._change(live), "loaded": list(self.serving.engine.loaded()),
            "waiting": store.waiting_request() is not None,
            "agreement": self._agreement(), "asking": self._asking(),
            "fresh_ratings": self._fresh_ratings(), "recent_feedback": [_masked(row) for row in store.recent_feedback(base.id, 20)],
            "versions": [{"number": v.number, "created_at": v.created_at, "note": v.note, "said": notes.get(v.number), "error": v.error, "error_said": v.error_said,
                          "live": v.number == live, "removed": v.removed_at is not None, "sha256": v.sha256, "run_id": v.run_id} for v in store.versions(base.id)],
            "promotions": [{"version": p.version, "reason": p.reason, "created_at": p.created_at} for p in store.promotions(base.id)],
            "runs": [{"id": r.id, "state": r.state, "trigger": r.trigger, "started_at": r.started_at, "ended_at": r.ended_at,
                      "version": r.version, "error": r.error, "progress": vars(r.progress), "report": r.report and _shown(r.report)} for r in runs],
            "sampling": {"temperature": self.settings.temperature, "top_p": self.settings.top_p, "top_k": self.settings.top_k,
                         "max_new_tokens": self.settings.max_new_tokens},
            "schedule": {"every_ratings": self.settings.train_every_ratings, "every_hours": self.settings.train_every_hours,
                         "due_at": store.due_at()},
        }

    def _change(self, live: int) -> dict | None:
        """The version on its way into the engine: for how many seconds, and why the last try came to nothing, where it did."""
        change = self.serving.change
        if change is None:                        # the server looks for a new live version twice a second
            return None if live == self.serving.version else {"version": live, "seconds": 0, "trouble": None}
        trouble = change.trouble and change.trouble.told()
        return {"version": change.version, "seconds": round(change.seconds), "trouble": trouble}

    def _asking(self) -> dict:
        """On which share of turns the app asks for a comparison by itself, and the model of the ratings that it asks by; None: the language model's words."""
        heads = self.store.asking_heads(self.base.id)
        return {"share": share_asked(self.settings), "model": heads and {"replies": heads.replies, "correlation": heads.correlation}}

    def _find_agreement(self) -> dict:
        """How far people agree who rated the same replies, by thumbs and by stars; None where too few were rated twice."""
        found = {}
        for kind, distance in (("thumb", nominal), ("stars", interval)):
            replies = self.store.rated_by_several(self.base.id, kind)
            found[kind] = None if len(replies) < FEW else {
                "replies": len(replies), "same": same_share(replies), "alpha": krippendorff_alpha(replies, distance)}
        return found


def _shown(report: dict) -> dict:
    """Of a run's report what `OF_A_REPORT` names."""
    return {part: report[part] if names is ... or not report[part] else {name: report[part][name] for name in names if name in report[part]}
            for part, names in OF_A_REPORT.items() if part in report}


def _masked(said: dict) -> dict:
    """The beginning of what was rated and of what was said of it, without personal data: maintainers look at taste, not at people."""
    return {**said, **{name: mask(said[name][:2 * SHOWN])[:SHOWN] for name in ("message", "reply", "comment", "text", "other") if name in said}}
