"""Which versions are kept. Of one that is not the row stays, with its note, and its files go."""

from __future__ import annotations

import json

from data.database import now
from data.records import BASE_VERSION, Version
from data.version_shards import VersionShards


class Retention(VersionShards):
    """Column `versions.removed_at`."""

    def lineages(self) -> list[str]:
        """Base models of which there are versions."""
        return [row["base_model"] for row in self.rows("SELECT DISTINCT base_model FROM versions ORDER BY base_model")]

    def is_removed(self, folder: str) -> bool:
        """Whether a version that is known here was given up here."""
        return self.row("SELECT 1 FROM versions WHERE folder = ? AND removed_at IS NOT NULL", folder) is not None

    def too_old(self, base_model: str, keep: int) -> list[Version]:
        """Versions of a lineage, oldest first, that are neither among the `keep` newest nor one that may still be gone back to."""
        kept = [version for version in self.versions(base_model) if not version.removed_at]
        needed = self._gone_back_to(base_model, kept[0]) if len(kept) > keep else set()
        return [version for version in reversed(kept[keep:]) if version.number not in needed]

    def _gone_back_to(self, base_model: str, newest: Version) -> set[int]:
        """The live version, what takes its place where it cannot be loaded, and what a rollback from it goes to, or from the newest one.

        The last of these was live when the newest was published, which is when a learner removes: so a host that hears of the publication
        later, and of more with it, removes nothing that the learner has kept.
        """
        live = self.live_version(base_model)
        origins = {self.came_from(number) for number in (live, newest.number) if number != BASE_VERSION}
        return {live, self._newest_promoted(base_model, but=live), *origins}

    def give_up_old_versions(self, base_model: str, keep: int) -> list[Version]:
        """Mark versions that are too old, so that nothing goes back to them any more, and hosts that join later pass them over; returns them.

        Call `AdapterRegistry.remove_old` instead: it removes the files afterwards.
        """
        if not self.too_old(base_model, keep):
            return []
        with self.write() as db:
            old = self.too_old(base_model, keep)
            for version in old:
                db["versions"].update(version.number, {"removed_at": now()})
            db.execute("""UPDATE shards SET revision = revision + 1 WHERE (stream, number) IN (
                SELECT stream, number FROM shard_rows WHERE source = 'versions' AND row_id IN (SELECT CAST(value AS TEXT) FROM json_each(?)))""",
                       [json.dumps([version.number for version in old])])
        return old
