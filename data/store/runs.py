"""Learner runs as both processes see them: requests, progress, the lease that keeps learners single, the due time."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from data.processes import this_holder
from data.records import Progress, Run
from data.store.database import now
from data.store.ratings import Ratings

LONGEST_LEASE = 600.0
"""Seconds. One that has longer to go was taken while the clock was ahead; they are taken for two minutes at most, and renewed."""


class Runs(Ratings):
    """What the maintainer's page asks for and what the learner reports.

    Runs are in the order in which they were written down here, by `rowid`; a clock may have been wrong. Those of a learner elsewhere come in its order,
    and those of the present learner last.
    """

    def request_training(self, trigger: str) -> int:
        """Ask the learner for a run; a request that nobody took yet is joined, not repeated."""
        with self.write() as db:
            waiting = self.row("SELECT id FROM requests WHERE taken_at IS NULL ORDER BY id LIMIT 1")
            if waiting:
                return waiting["id"]
            return db["requests"].insert({"trigger": trigger, "created_at": now()}, pk="id").last_pk

    def waiting_request(self) -> str | None:
        """Who asked for a run that has not started, or None. The run takes the request when it starts."""
        row = self.row('SELECT "trigger" FROM requests WHERE taken_at IS NULL ORDER BY id LIMIT 1')
        return row["trigger"] if row else None

    def withdraw_requests(self) -> None:
        """Forget requests for runs that have not started."""
        with self.write() as db:
            db.execute("UPDATE requests SET taken_at = ? WHERE taken_at IS NULL", [now()])

    def request_stop(self) -> None:
        """Ask the running run to end before its next step, and forget requests that nobody took."""
        with self.write() as db:
            db.execute("UPDATE runs SET stop_requested = 1 WHERE state = 'running'")
            self.withdraw_requests()

    def stop_requested(self, run_id: str) -> bool:
        row = self.row("SELECT stop_requested FROM runs WHERE id = ?", run_id)
        return bool(row and row["stop_requested"])

    def start_run(self, base_model: str, trigger: str) -> Run:
        """Open a run, which answers every waiting request. Ratings that arrive from here on are fresh for the next one."""
        run_id = secrets.token_hex(6)
        with self.write() as db:
            self.withdraw_requests()
            seen = self.row("SELECT coalesce(max(id), 0) AS id FROM ratings")["id"]
            db["runs"].insert({"id": run_id, "base_model": base_model, "state": "running", "trigger": trigger,
                               "started_at": now(), "progress": json.dumps(asdict(Progress("start"))),
                               "ratings_seen": seen, "feedback_seen": json.dumps(self.feedback_now()), "hosts_seen": json.dumps(self.hosts_seen())})
        return self.run(run_id)

    def hosts_seen(self) -> dict[str, int]:
        """The last shard that was gathered from each other host."""
        return {row["host"]: row["number"] for row in self.rows("SELECT host, number FROM gathered_shards WHERE stream = 'feedback'")}

    def progress(self, run_id: str, progress: Progress) -> None:
        with self.write() as db:
            db["runs"].update(run_id, {"progress": json.dumps(asdict(progress))})

    def finish_run(self, run_id: str, state: str, version: int | None = None, report: dict | None = None,
                   error: str | None = None) -> Run:
        """The run as it ended, which is otherwise where another learner has ended it meanwhile. Its report names nobody who went while it was going on."""
        with self.write() as db:
            run = self.run(run_id)
            if run.state == "running":
                told = _without_raters(report or {}, lambda rater_id: self._went(rater_id, run.started_at))
                db["runs"].update(run_id, {"state": state, "ended_at": now(), "version": version,
                                           "report": json.dumps(told, ensure_ascii=False), "error": error})
        return self.run(run_id)

    def forget_what_was_thought_of(self, rater_id: str) -> None:
        """Runs told who rates against what all others go by."""
        with self.write() as db:
            for row in self.rows("SELECT id, report FROM runs WHERE instr(report, ?)", json.dumps(rater_id)):
                db["runs"].update(row["id"], {"report": json.dumps(_without_raters(json.loads(row["report"]), rater_id.__eq__), ensure_ascii=False)})

    def _went(self, rater_id: str, since: str) -> bool:
        """Whether this person has deleted everything since then; of another host's it is told by nothing being left here of what they said."""
        return self.row("SELECT 1 FROM erasures WHERE rater_id = ? AND created_at >= ?", rater_id, since) is not None or self.is_remote_and_silent(rater_id)

    def open_runs(self) -> list[Run]:
        """Those that are `running`; to whoever holds the learner's lease, of learners that are gone."""
        return [run_from(row) for row in self.rows("SELECT * FROM runs WHERE state = 'running' ORDER BY rowid")]

    def run(self, run_id: str) -> Run:
        return run_from(self.row("SELECT * FROM runs WHERE id = ?", run_id))

    def last_run(self, base_model: str | None = None) -> Run | None:
        """The newest, without its error and its report, which is long: every open page asks every few seconds."""
        row = self.row(f"""SELECT id, base_model, state, "trigger", started_at, ended_at, progress, version, '{{}}' AS report FROM runs
                           {_of(base_model)} ORDER BY rowid DESC LIMIT 1""", base_model)
        return row and run_from(row)

    def runs(self, limit: int = 20, base_model: str | None = None) -> list[Run]:
        """Newest first."""
        return [run_from(row) for row in self.rows(f"SELECT * FROM runs {_of(base_model)} ORDER BY rowid DESC LIMIT ?2", base_model, limit)]

    def last_verdict(self, base_model: str) -> sqlite3.Row | None:
        """Of the newest run that was published or refused what tells which feedback it saw."""
        return self.row("""SELECT id, state, ratings_seen, feedback_seen FROM runs WHERE base_model = ? AND state IN ('published', 'refused')
                           ORDER BY rowid DESC LIMIT 1""", base_model)

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Take or renew a lease; False when somebody else holds it and it has not run out."""
        with self.write() as db:
            row = self.row("SELECT owner, expires_at FROM leases WHERE name = ?", name)
            if row and row["owner"] != owner and 0 < row["expires_at"] - time.time() <= LONGEST_LEASE:
                return False
            db["leases"].upsert({"name": name, "owner": owner, "expires_at": time.time() + seconds}, pk="name")
            return True

    def renew_lease(self, name: str, owner: str, seconds: float) -> bool:
        """False when it is not this owner's any more: somebody else has taken it since, perhaps given it back."""
        with self.write() as db:
            return db.execute("UPDATE leases SET expires_at = ? WHERE name = ? AND owner = ?", [time.time() + seconds, name, owner]).rowcount == 1

    def release_lease(self, name: str, owner: str) -> None:
        with self.write() as db:
            db.execute("DELETE FROM leases WHERE name = ? AND owner = ?", [name, owner])

    @contextmanager
    def leased(self, name: str, seconds: float) -> Iterator[bool]:
        """A lease for as long as the block takes, at most `seconds`. Yields False when somebody else holds it."""
        owner = this_holder()
        held = self.acquire_lease(name, owner, seconds)
        try:
            yield held
        finally:
            if held:
                self.release_lease(name, owner)

    def due_at(self) -> str | None:
        """When the next run by time is due, ISO 8601 UTC; stored, so that a restart catches up."""
        return self.mark("due_at")

    def set_due_at(self, when: str) -> None:
        self.set_mark("due_at", when)

    def mark(self, name: str) -> str | None:
        """A small named value that must survive a restart."""
        row = self.row("SELECT value FROM marks WHERE name = ?", name)
        return row["value"] if row else None

    def set_mark(self, name: str, value: str) -> None:
        with self.write() as db:
            db["marks"].upsert({"name": name, "value": value}, pk="name")


def _without_raters(report: dict, gone: Callable[[str], bool]) -> dict:
    weights = report.get("data", {}).get("rater_weights")
    return {**report, "data": {**report["data"], "rater_weights": [one for one in weights if not gone(one["rater"])]}} if weights else report


def _of(base_model: str | None) -> str:
    """Two queries, because the index serves neither half of an OR."""
    return "WHERE ?1 IS NULL" if base_model is None else "WHERE base_model = ?1"


def run_from(row) -> Run:
    values = {key: row[key] for key in row.keys() if key in Run.__dataclass_fields__}
    return Run(**{**values, "progress": Progress(**json.loads(row["progress"])), "report": json.loads(row["report"])})
