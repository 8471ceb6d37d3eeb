"""What the app asks a comparison of by itself: the replies that one is held against, and a run's small model of the ratings."""

from __future__ import annotations

import json
from collections.abc import Sequence

from data.records import AskingHeads, Reply, Run
from data.store.database import now
from data.store.receipts import Receipts
from data.texts.reply_features import FEATURES

RECENT_LIKE = """SELECT id FROM replies WHERE base_model = ? AND id <> ? AND attempt = 0 AND state = 'done' AND contributes = 1
                 AND behavior_logprobs <> '[]' ORDER BY rowid DESC LIMIT ?"""
"""Without its index this reads every reply of every lineage that came since."""


class Asking(Receipts):
    """Tables `asking_heads` and `asking_heads_replies`."""

    def recent_like(self, reply: Reply, limit: int) -> list[str]:
        """Ids of the newest first attempts in `reply`'s lineage that contribute and have log-probs, itself left out."""
        return [row["id"] for row in self.rows(RECENT_LIKE, reply.base_model, reply.id, limit)]

    def add_asking_heads(self, run: Run, fit: dict, model: dict[str, list] | None, reply_ids: Sequence[str]) -> None:
        """Append what a run made of these replies' ratings; it is current from now on. Of the lineage's earlier ones only how they fitted is kept.

        When somebody deleted something since the run began, the model is not kept: it may hold that.

        Args:
            fit: how many `replies` there were, and how well it predicts ratings it did not see; JSON-able.
            model: mean, spread and heads as in `AskingHeads`; None: there is nothing to ask by.
        """
        with self.write() as db:
            deleted = self.row("""SELECT 1 FROM conversations WHERE deleted_at >= ?1 UNION ALL SELECT 1 FROM erasures WHERE created_at >= ?1 LIMIT 1""",
                               run.started_at)
            kept = None if model is None or deleted else json.dumps({"features": FEATURES, **model})
            db.execute("DELETE FROM asking_heads_replies WHERE heads_id IN (SELECT id FROM asking_heads WHERE base_model = ?)", [run.base_model])
            db.execute("UPDATE asking_heads SET model = NULL WHERE base_model = ? AND model IS NOT NULL", [run.base_model])
            added = db["asking_heads"].insert({"run_id": run.id, "base_model": run.base_model, "fit": json.dumps(fit), "model": kept,
                                               "created_at": now()}, pk="id").last_pk
            db["asking_heads_replies"].insert_all({"reply_id": reply_id, "heads_id": added} for reply_id in reply_ids if kept)

    def asking_heads(self, base_model: str) -> AskingHeads | None:
        """The newest run's model of this lineage's ratings; None where it made none, it was forgotten, or it knows other features than we do."""
        row = self.row("SELECT run_id, fit, model FROM asking_heads WHERE base_model = ? ORDER BY id DESC LIMIT 1", base_model)
        model = json.loads(row["model"]) if row and row["model"] else {"features": None}
        if model["features"] != list(FEATURES):
            return None
        fit = json.loads(row["fit"])
        return AskingHeads(row["run_id"], fit["replies"], fit["correlation"], tuple(model["mean"]), tuple(model["spread"]), tuple(map(tuple, model["heads"])))

    def forget_asking_heads(self, reply_ids: Sequence[str]) -> None:
        """Erase every model that was fitted on what people said of one of these replies; the next run makes a new one."""
        with self.write() as db:
            db.execute("""UPDATE asking_heads SET model = NULL WHERE model IS NOT NULL AND id IN (
                            SELECT heads_id FROM asking_heads_replies WHERE reply_id IN (SELECT value FROM json_each(?)))""", [json.dumps(list(reply_ids))])

    def taught_what_to_ask(self, reply_id: str) -> bool:
        """Whether a model that is kept was fitted on what people said of this reply."""
        return self.row("SELECT 1 FROM asking_heads_replies JOIN asking_heads ON id = heads_id WHERE reply_id = ? AND model IS NOT NULL LIMIT 1",
                        reply_id) is not None
