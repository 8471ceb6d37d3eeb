"""What is kept of old versions: of one that is removed the row with its note, and the receipts that tell people of their first and newest."""

from __future__ import annotations

import json
from collections.abc import Sequence

from data.records import BASE_VERSION, Version
from data.store.database import now
from data.store.version_shards import VersionShards

# Of version ?1 those that count nobody's ratings for the first time, or for the last. `beside`: a corrected text alone has no receipt that is shown.
TELL_NOTHING = """SELECT reply_id FROM receipts WHERE version = ?1 AND NOT EXISTS (
    SELECT 1 FROM used_feedback AS used WHERE used.version = ?1 AND used.reply_id = receipts.reply_id AND NOT (
        EXISTS (SELECT 1 FROM used_feedback AS newer WHERE newer.reply_id = receipts.reply_id AND newer.rater_id = used.rater_id AND newer.version > ?1
                AND EXISTS (SELECT 1 FROM receipts AS beside WHERE beside.version = newer.version AND beside.reply_id = receipts.reply_id))
        AND EXISTS (SELECT 1 FROM used_feedback AS older WHERE older.reply_id = receipts.reply_id AND older.rater_id = used.rater_id AND older.version < ?1)))"""
# Corrected texts stay with their reply's receipt; one without follows the same rule.
CORRECTED_TELL_NOTHING = """SELECT correction_id FROM correction_receipts JOIN corrections ON corrections.id = correction_id WHERE version = ?1
    AND NOT EXISTS (SELECT 1 FROM receipts WHERE receipts.version = ?1 AND receipts.reply_id = corrections.reply_id)
    AND EXISTS (SELECT 1 FROM used_feedback AS newer WHERE newer.reply_id = corrections.reply_id AND newer.rater_id = corrections.rater_id AND newer.version > ?1)
    AND EXISTS (SELECT 1 FROM used_feedback AS older WHERE older.reply_id = corrections.reply_id AND older.rater_id = corrections.rater_id AND older.version < ?1)"""


class Retention(VersionShards):
    """Column `versions.removed_at`, table `receipt_totals`."""

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
            self._tell_again([version.number for version in old])
        return old

    def thin_receipts(self) -> None:
        """Of versions that were given up remove the receipts that nobody is shown, and keep what all came to: each writes one for every rated reply.

        Of each reply the first and the newest stay for everybody whose ratings it counts, so that whose ratings ever trained, and what
        they helped to make, is known as before. Call it while holding the learner's lease, so that no version is published meanwhile.
        """
        for row in self.rows("""SELECT number FROM versions WHERE removed_at IS NOT NULL
                                AND NOT EXISTS (SELECT 1 FROM receipt_totals WHERE version = number) ORDER BY number"""):
            number = row["number"]
            superfluous = [receipt["reply_id"] for receipt in self.rows(TELL_NOTHING, number)]        # a second for 10,000: outside of the transaction
            with self.write() as db:
                replies, weight = self.training_weight(number)
                db["receipt_totals"].insert({"version": number, "replies": replies, "weight": weight, "changed": json.dumps(self.what_changed(number))})
                db.execute("DELETE FROM receipts WHERE version = ? AND reply_id IN (SELECT value FROM json_each(?))", [number, json.dumps(superfluous)])
                db.execute(f"DELETE FROM correction_receipts WHERE version = ?1 AND correction_id IN ({CORRECTED_TELL_NOTHING})", [number])
                self._tell_again([number])

    def _tell_again(self, numbers: Sequence[int]) -> None:
        """Have the shards written again that tell other hosts of these versions."""
        self.db.execute("""UPDATE shards SET revision = revision + 1 WHERE (stream, number) IN (
            SELECT stream, number FROM shard_rows WHERE source = 'versions' AND row_id IN (SELECT CAST(value AS TEXT) FROM json_each(?)))""", [json.dumps(list(numbers))])
