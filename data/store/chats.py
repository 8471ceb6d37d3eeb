"""Conversations, turns and replies: what people said and what the model answered, with provenance."""

from __future__ import annotations

import json
import secrets
import sqlite3
from dataclasses import asdict, replace

from data.errors import NotYourReply, UnknownConversation, UnknownReply
from data.processes import is_here, still_runs, this_process
from data.records import IMPORTED, TASKS, Conversation, Generated, Reply, ReplyOutline, Sampling, Task, Turn
from data.sentences import said
from data.store.database import Database, now

REPLY_COLUMNS = """replies.*, turns.conversation_id AS conversation_id, conversations.rater_id AS rater_id, conversations.task AS task
    FROM replies JOIN turns ON turns.id = replies.turn_id JOIN conversations ON conversations.id = turns.conversation_id"""


class Chats(Database):
    """Rows that the chat server writes while people talk."""

    def ensure_rater(self, rater_id: str, kind: str = "anonymous", name: str = "") -> str:
        """The person with this id, added when they are new."""
        with self.write() as db:
            db["raters"].insert({"id": rater_id, "kind": kind, "name": name, "created_at": now()}, ignore=True)
        return rater_id

    def new_conversation(self, rater_id: str, title: str = "", task: Task = TASKS[0]) -> Conversation:
        row = {"id": secrets.token_urlsafe(9), "rater_id": rater_id, "title": title, "created_at": now(), "task": task}
        with self.write() as db:
            db["conversations"].insert(row)
        return Conversation(**row)

    def conversation(self, conversation_id: str, rater_id: str | None = None) -> Conversation:
        """A conversation with its turns and replies.

        Raises:
            UnknownConversation: no such conversation, it was deleted, or it is not `rater_id`'s.
        """
        row = self.check_owner(conversation_id, rater_id)
        replies: dict[str, list[Reply]] = {}
        for reply in self.rows(f"SELECT {REPLY_COLUMNS} WHERE turns.conversation_id = ? ORDER BY attempt", conversation_id):
            replies.setdefault(reply["turn_id"], []).append(reply_from(reply))
        turns = self.rows("SELECT * FROM turns WHERE conversation_id = ? ORDER BY position", conversation_id)
        return Conversation(**row, turns=tuple(Turn(**turn, replies=tuple(replies.get(turn["id"], ()))) for turn in turns))

    def last_turn(self, conversation_id: str) -> Turn:
        """With its replies; the conversation has one."""
        turn = self.row("SELECT * FROM turns WHERE conversation_id = ? ORDER BY position DESC LIMIT 1", conversation_id)
        return Turn(**turn, replies=tuple(map(reply_from, self.rows(f"SELECT {REPLY_COLUMNS} WHERE turn_id = ? ORDER BY attempt", turn["id"]))))

    def outlines(self, conversation_id: str) -> list[list[ReplyOutline]]:
        """The replies of each turn, oldest first, without their tokens: those of a hundred turns take a tenth of a second to read."""
        turns: dict[str, list[ReplyOutline]] = {}
        for row in self.rows("""SELECT replies.id AS id, turn_id, state, text, finish_reason, aside, again_of FROM replies JOIN turns ON turns.id = turn_id
                                WHERE conversation_id = ? ORDER BY position, attempt""", conversation_id):
            turns.setdefault(row["turn_id"], []).append(ReplyOutline(**row))
        return list(turns.values())

    def check_owner(self, conversation_id: str, rater_id: str | None) -> sqlite3.Row:
        """The conversation's own row. Raises: UnknownConversation: as `conversation` does."""
        row = self.row("SELECT id, rater_id, title, created_at, task FROM conversations WHERE id = ? AND deleted_at IS NULL",
                       conversation_id) if isinstance(conversation_id, str) else None
        if row is None or rater_id not in (None, row["rater_id"]):
            raise UnknownConversation(said("no_such_conversation", conversation=repr(str(conversation_id)[:40])))
        return row

    def conversations(self, rater_id: str) -> list[Conversation]:
        """This person's conversations, newest first, without their turns."""
        return [Conversation(**row) for row in self.rows(
            """SELECT id, rater_id, title, created_at, task FROM conversations
               WHERE rater_id = ? AND deleted_at IS NULL ORDER BY created_at DESC""", rater_id)]

    def add_turn(self, conversation_id: str, message: str, draft: str | None = None) -> Turn:
        """Append a person's message; the first one names the conversation. A `draft` that is another message's already is none."""
        with self.write() as db:
            position = self.row("SELECT count(*) AS n FROM turns WHERE conversation_id = ?", conversation_id)["n"]
            taken = self.row("SELECT 1 FROM turns WHERE draft = ?", draft)
            turn = Turn(secrets.token_hex(8), conversation_id, position, message, now(), draft=None if taken else draft)
            db["turns"].insert({k: v for k, v in asdict(turn).items() if k != "replies"})
            if position == 0:
                db.execute("UPDATE conversations SET title = ? WHERE id = ? AND title = ''",
                           [" ".join(message.split())[:60], conversation_id])
        return turn

    def reply_to_draft(self, rater_id: str, draft: str) -> Reply | None:
        """The first reply to what this person sent under that key, None when they sent nothing."""
        row = self.row(f"SELECT {REPLY_COLUMNS} WHERE draft = ? AND rater_id = ? ORDER BY attempt LIMIT 1", draft, rater_id)
        return row and reply_from(row)

    def choose_answer(self, turn_id: str, reply_id: str | None) -> None:
        """The conversation goes on from this attempt (None: from the newest). Nothing changes when it has gone on already."""
        with self.write() as db:
            db.execute("""UPDATE turns SET answer_id = ?2 WHERE id = ?1 AND NOT EXISTS (
                            SELECT 1 FROM turns AS later WHERE later.conversation_id = turns.conversation_id AND later.position > turns.position)""",
                       [turn_id, reply_id])

    def has_private_replies(self, turn_id: str) -> bool:
        """Whether the conversation of this turn holds a reply that must not train."""
        return self.row("""SELECT 1 FROM turns AS this JOIN turns ON turns.conversation_id = this.conversation_id JOIN replies ON replies.turn_id = turns.id
                           WHERE this.id = ? AND contributes = 0 LIMIT 1""", turn_id) is not None

    def start_reply(self, turn_id: str, version: int, adapter_sha256: str | None, base_model: str, engine: str,
                    sampling: Sampling, prompt_ids: tuple[int, ...], dropped_turns: int = 0, contributes: bool | None = True,
                    aside: bool = False, again_of: str | None = None) -> Reply:
        """Write down everything that is known of a reply before its first token is sampled; `contributes` is its person's consent."""
        reply_id = secrets.token_hex(8)
        with self.write() as db:
            attempt = self.row("SELECT count(*) AS n FROM replies WHERE turn_id = ?", turn_id)["n"]
            db["replies"].insert({
                "id": reply_id, "turn_id": turn_id, "attempt": attempt, "state": "streaming", "version": version,
                "adapter_sha256": adapter_sha256, "base_model": base_model, "engine": engine,
                "sampling": json.dumps(asdict(sampling)), "prompt_ids": json.dumps(list(prompt_ids)),
                "dropped_turns": dropped_turns, "contributes": contributes, "aside": aside, "again_of": again_of, "owner": this_process(), "started_at": now()})
        return self.reply(reply_id)

    def begin_reply(self, reply_id: str, version: int, adapter_sha256: str | None) -> None:
        """A reply that waited in line is being written from now on, by the version that is live by now."""
        with self.write() as db:
            db["replies"].update(reply_id, {"version": version, "adapter_sha256": adapter_sha256, "started_at": now()})

    def save_partial(self, reply_id: str, text: str) -> bool:
        """What was streamed so far, so that a crash loses a second and not a reply. Returns whether it is to go on: no stop was asked for."""
        with self.write(at_once=False) as db:               # every stream does this every second, and a disk may sync a hundred times in one
            if not self._deleted(reply_id):
                db.execute("UPDATE replies SET text = ? WHERE id = ? AND state = 'streaming'", [text, reply_id])
        return not self.row("SELECT stop_requested FROM replies WHERE id = ?", reply_id)["stop_requested"]

    def written_elsewhere(self, conversation_id: str) -> str | None:
        """The id of the reply that another process writes in this conversation, None when none does. Of one that has died it is ended here."""
        rows = self.rows("""SELECT replies.id AS id, owner, started_at FROM replies JOIN turns ON turns.id = turn_id
                            WHERE conversation_id = ? AND state = 'streaming' AND aside = 0 AND owner <> ?""", conversation_id, this_process())
        alive = [row["id"] for row in rows if still_runs(row["owner"], row["started_at"]) or not is_here(row["owner"])]
        if len(alive) < len(rows):
            with self.write():
                for row in rows:
                    if row["id"] not in alive:
                        self._end_interrupted(row["id"])
        return next(iter(alive), None)

    def stop_replies(self, conversation_id: str) -> None:
        """Ask whichever processes write replies in this conversation to end them, keeping what there is; they look every second."""
        with self.write() as db:
            db.execute("""UPDATE replies SET stop_requested = 1 WHERE state = 'streaming'
                          AND turn_id IN (SELECT id FROM turns WHERE conversation_id = ?)""", [conversation_id])

    def finish_reply(self, reply_id: str, text: str, generated: Generated, first_token_seconds: float | None,
                     seconds: float) -> Reply:
        """Store the whole reply with its token ids and log-probs; only then may the last token be shown.

        The log-probs are for training alone, so without its person's consent they are not kept. Of a conversation that was
        deleted meanwhile nothing but the end is stored.
        """
        with self.write() as db:
            if self._deleted(reply_id):
                text, generated = "", replace(generated, completion_ids=(), logprobs=())
            elif self.row("SELECT contributes FROM replies WHERE id = ?", reply_id)["contributes"] == 0:
                generated = replace(generated, logprobs=())
            db["replies"].update(reply_id, {
                "state": "failed" if generated.finish_reason == "error" else "done", "text": text,
                "completion_ids": json.dumps(list(generated.completion_ids)),
                "behavior_logprobs": json.dumps([round(x, 6) for x in generated.logprobs]),
                "logprobs_temperature": generated.logprobs_temperature, "finish_reason": generated.finish_reason,
                "first_token_seconds": first_token_seconds, "seconds": seconds})
        return self.reply(reply_id)

    def fail_reply(self, reply_id: str, text: str, error: str) -> None:
        """Generation broke off; what was shown is kept, and it is never trained on."""
        with self.write() as db:
            db["replies"].update(reply_id, {"state": "failed", "text": "" if self._deleted(reply_id) else text, "error": error, "finish_reason": "error"})

    def _deleted(self, reply_id: str) -> bool:
        return self.row("""SELECT 1 FROM replies JOIN turns ON turns.id = turn_id JOIN conversations ON conversations.id = conversation_id
                           WHERE replies.id = ? AND deleted_at IS NOT NULL""", reply_id) is not None

    def import_reply(self, turn_id: str, base_model: str, prompt_ids: tuple[int, ...],
                     completion_ids: tuple[int, ...], text: str, version: int = 0) -> Reply:
        """A reply that no engine of ours sampled; without log-probs, the learner uses the base policy's own."""
        reply = self.start_reply(turn_id, version, None, base_model, IMPORTED,
                                 Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=len(completion_ids)), prompt_ids)
        return self.finish_reply(reply.id, text, Generated(tuple(completion_ids), (), 1.0, "stop"), None, 0.0)

    def reply(self, reply_id: str, rater_id: str | None = None) -> Reply:
        """One reply.

        Raises:
            UnknownReply: no such reply, or, for a person, one in a conversation that was deleted.
            NotYourReply: it was shown to somebody else than `rater_id`.
        """
        row = self.row(f"SELECT {REPLY_COLUMNS} WHERE replies.id = ?", reply_id) if isinstance(reply_id, str) else None
        if row is None or (rater_id is not None and self._deleted(reply_id)):
            raise UnknownReply(said("no_such_reply", reply=repr(str(reply_id)[:40])))
        if rater_id not in (None, row["rater_id"]):
            raise NotYourReply(said("not_your_reply"))
        return reply_from(row)

    def replies_again(self, reply_id: str) -> list[Reply]:
        """What later versions said to the prompt of this reply, newest first."""
        return [reply_from(row) for row in self.rows(f"SELECT {REPLY_COLUMNS} WHERE again_of = ? ORDER BY attempt DESC", reply_id)]

    def fail_interrupted_replies(self) -> int:
        """At server start: replies whose process is gone will never end; returns how many there were."""
        with self.write():
            dead = [row["id"] for row in self.rows("SELECT id, owner, started_at FROM replies WHERE state = 'streaming'")
                    if not still_runs(row["owner"], row["started_at"])]
            for reply_id in dead:
                self._end_interrupted(reply_id)
        return len(dead)

    def _end_interrupted(self, reply_id: str) -> None:
        self.db.execute("UPDATE replies SET state = 'failed', finish_reason = 'error', error = 'The server stopped while this reply was being written.' "
                        "WHERE id = ? AND state = 'streaming'", [reply_id])


def reply_from(row: sqlite3.Row) -> Reply:
    """A `REPLY_COLUMNS` row as a record."""
    values = {key: row[key] for key in row.keys() if key in Reply.__dataclass_fields__}
    reply = Reply(**values)
    contributes = None if row["contributes"] is None else bool(row["contributes"])
    return replace(reply, contributes=contributes, aside=bool(row["aside"]), sampling=Sampling(**json.loads(row["sampling"])), prompt_ids=tuple(json.loads(row["prompt_ids"])),
                   completion_ids=tuple(json.loads(row["completion_ids"])),
                   behavior_logprobs=tuple(json.loads(row["behavior_logprobs"])))
