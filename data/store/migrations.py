"""The schema, one migration a change. New and old databases take the same path: apply what is missing."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("chat")


@migrations()
def m001_people_and_chat(db: Database) -> None:
    db.executescript("""
        CREATE TABLE raters (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL DEFAULT '', created_at TEXT NOT NULL
        ) STRICT;
        CREATE TABLE conversations (
            id TEXT PRIMARY KEY, rater_id TEXT NOT NULL REFERENCES raters(id),
            title TEXT NOT NULL DEFAULT '', created_at TEXT NOT NULL
        ) STRICT;
        CREATE INDEX conversations_of_rater ON conversations(rater_id, created_at);
        CREATE TABLE turns (
            id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL REFERENCES conversations(id),
            position INTEGER NOT NULL, message TEXT NOT NULL, created_at TEXT NOT NULL,
            UNIQUE (conversation_id, position)
        ) STRICT;
        CREATE TABLE replies (
            id TEXT PRIMARY KEY, turn_id TEXT NOT NULL REFERENCES turns(id), attempt INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('streaming', 'done', 'failed')),
            text TEXT NOT NULL DEFAULT '', error TEXT,
            version INTEGER NOT NULL, adapter_sha256 TEXT, base_model TEXT NOT NULL, engine TEXT NOT NULL,
            sampling TEXT NOT NULL, prompt_ids TEXT NOT NULL,
            completion_ids TEXT NOT NULL DEFAULT '[]', behavior_logprobs TEXT NOT NULL DEFAULT '[]',
            logprobs_temperature REAL NOT NULL DEFAULT 1.0, finish_reason TEXT, dropped_turns INTEGER NOT NULL DEFAULT 0,
            owner TEXT NOT NULL, started_at TEXT NOT NULL, first_token_seconds REAL, seconds REAL,
            UNIQUE (turn_id, attempt)
        ) STRICT;
    """)


@migrations()
def m002_ratings_are_events(db: Database) -> None:
    """Append-only: taking a rating back is an event with value 0, the view says what is current."""
    db.executescript("""
        CREATE TABLE ratings (
            id INTEGER PRIMARY KEY AUTOINCREMENT, reply_id TEXT NOT NULL REFERENCES replies(id),
            rater_id TEXT NOT NULL REFERENCES raters(id), kind TEXT NOT NULL CHECK (kind IN ('thumb', 'stars')),
            value INTEGER NOT NULL, created_at TEXT NOT NULL,
            CHECK ((kind = 'thumb' AND value IN (-1, 0, 1)) OR (kind = 'stars' AND value BETWEEN 0 AND 5))
        ) STRICT;
        CREATE INDEX ratings_of_reply ON ratings(reply_id, rater_id, kind, id);
        CREATE VIEW newest_ratings AS
            SELECT * FROM ratings WHERE id IN (SELECT max(id) FROM ratings GROUP BY reply_id, rater_id, kind);
        CREATE VIEW current_ratings AS SELECT * FROM newest_ratings WHERE value <> 0;
    """)


@migrations()
def m003_runs_and_versions(db: Database) -> None:
    db.executescript("""
        CREATE TABLE runs (
            id TEXT PRIMARY KEY, base_model TEXT NOT NULL, state TEXT NOT NULL, "trigger" TEXT NOT NULL,
            started_at TEXT NOT NULL, ended_at TEXT, progress TEXT NOT NULL, version INTEGER,
            report TEXT NOT NULL DEFAULT '{}', error TEXT,
            ratings_seen INTEGER NOT NULL, stop_requested INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE versions (
            number INTEGER PRIMARY KEY AUTOINCREMENT, base_model TEXT NOT NULL, sha256 TEXT NOT NULL,
            folder TEXT NOT NULL UNIQUE, run_id TEXT REFERENCES runs(id), parent INTEGER NOT NULL,
            created_at TEXT NOT NULL, error TEXT, note TEXT NOT NULL DEFAULT ''
        ) STRICT;
        CREATE TABLE promotions (
            id INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, base_model TEXT NOT NULL,
            reason TEXT NOT NULL, created_at TEXT NOT NULL
        ) STRICT;
        CREATE TABLE receipts (
            version INTEGER NOT NULL REFERENCES versions(number), reply_id TEXT NOT NULL REFERENCES replies(id),
            reward REAL NOT NULL, weight REAL NOT NULL, advantage REAL NOT NULL,
            logprob_before REAL NOT NULL, logprob_after REAL NOT NULL, rating_ids TEXT NOT NULL,
            PRIMARY KEY (version, reply_id)
        ) STRICT;
        CREATE INDEX receipts_of_reply ON receipts(reply_id);
        CREATE TABLE requests (
            id INTEGER PRIMARY KEY AUTOINCREMENT, "trigger" TEXT NOT NULL, created_at TEXT NOT NULL, taken_at TEXT
        ) STRICT;
        CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires_at REAL NOT NULL) STRICT;
        CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    """)


@migrations()
def m004_reasons_are_events(db: Database) -> None:
    """One event holds all that a person says at once; the newest is current, an empty one takes it back."""
    db.executescript("""
        CREATE TABLE reasons (
            id INTEGER PRIMARY KEY AUTOINCREMENT, reply_id TEXT NOT NULL REFERENCES replies(id),
            rater_id TEXT NOT NULL REFERENCES raters(id), tags TEXT NOT NULL, comment TEXT NOT NULL, created_at TEXT NOT NULL
        ) STRICT;
        CREATE INDEX reasons_of_reply ON reasons(reply_id, rater_id, id);
    """)


@migrations()
def m005_conversations_can_be_deleted(db: Database) -> None:
    """The row stays, emptied: what was learned from it keeps its receipts, and a late write finds that it is gone."""
    db.executescript("ALTER TABLE conversations ADD COLUMN deleted_at TEXT;")


@migrations()
def m006_consent_and_erasure(db: Database) -> None:
    """NULL: not answered yet, and not trained on until it is. Replies from before people were asked keep training."""
    db.executescript("""
        ALTER TABLE raters ADD COLUMN consent INTEGER CHECK (consent IN (0, 1));
        ALTER TABLE replies ADD COLUMN contributes INTEGER DEFAULT 1 CHECK (contributes IN (0, 1));
        CREATE TABLE erasures (
            id INTEGER PRIMARY KEY AUTOINCREMENT, rater_id TEXT NOT NULL REFERENCES raters(id),
            ratings INTEGER NOT NULL, trained INTEGER NOT NULL, created_at TEXT NOT NULL
        ) STRICT;
    """)


@migrations()
def m007_corrections_are_events(db: Database) -> None:
    """Apart from the replies, whose text stays what the model said."""
    db.executescript("""
        CREATE TABLE corrections (
            id INTEGER PRIMARY KEY AUTOINCREMENT, reply_id TEXT NOT NULL REFERENCES replies(id),
            rater_id TEXT NOT NULL REFERENCES raters(id), text TEXT NOT NULL, created_at TEXT NOT NULL
        ) STRICT;
        CREATE INDEX corrections_of_reply ON corrections(reply_id, rater_id, id);
    """)


@migrations()
def m008_comparisons_are_events(db: Database) -> None:
    """And runs and receipts tell what they saw of all that people say: `{"reasons": ..., "corrections": ..., "comparisons": ...}`.

    `feedback` is every event that can train, one shape for all kinds: what was said last of a (source, reply_id, rater_id, topic)
    is current, '' says nothing. Tags are among them where there never was a thumb for them to explain.
    """
    db.executescript("""
        CREATE TABLE comparisons (
            id INTEGER PRIMARY KEY AUTOINCREMENT, rater_id TEXT NOT NULL REFERENCES raters(id),
            first_id TEXT NOT NULL REFERENCES replies(id), second_id TEXT NOT NULL REFERENCES replies(id),
            preferred TEXT NOT NULL CHECK (preferred IN ('first', 'second', 'same', 'none')),
            asked_by TEXT NOT NULL CHECK (asked_by IN ('person', 'app')), created_at TEXT NOT NULL,
            CHECK (first_id <> second_id)
        ) STRICT;
        CREATE INDEX comparisons_of_pair ON comparisons(rater_id, min(first_id, second_id), max(first_id, second_id), id);
        CREATE INDEX comparisons_of_first ON comparisons(first_id);
        CREATE INDEX comparisons_of_second ON comparisons(second_id);
        ALTER TABLE runs ADD COLUMN feedback_seen TEXT NOT NULL DEFAULT '{}';
        ALTER TABLE receipts ADD COLUMN feedback_ids TEXT NOT NULL DEFAULT '{}';
        CREATE VIEW feedback AS
            SELECT 'ratings' AS source, id, reply_id, rater_id, kind AS topic, CASE value WHEN 0 THEN '' ELSE CAST(value AS TEXT) END AS said FROM ratings
            UNION ALL SELECT 'corrections', id, reply_id, rater_id, '', text FROM corrections
            UNION ALL SELECT 'reasons', id, reply_id, rater_id, '', CASE tags WHEN '[]' THEN '' ELSE tags END FROM reasons
                WHERE NOT EXISTS (SELECT 1 FROM ratings WHERE ratings.reply_id = reasons.reply_id AND ratings.rater_id = reasons.rater_id AND kind = 'thumb')
            UNION ALL SELECT 'comparisons', id, min(first_id, second_id), rater_id, max(first_id, second_id),
                CASE preferred WHEN 'first' THEN first_id WHEN 'second' THEN second_id WHEN 'same' THEN 'same' ELSE '' END FROM comparisons;
    """)


@migrations()
def m009_second_opinions(db: Database) -> None:
    """Whoever agreed before was not told that other people may see a few replies, so they are asked nothing and shown nothing."""
    db.executescript("""
        CREATE TABLE second_opinions (
            id INTEGER PRIMARY KEY AUTOINCREMENT, reply_id TEXT NOT NULL REFERENCES replies(id), rater_id TEXT NOT NULL REFERENCES raters(id),
            event TEXT NOT NULL CHECK (event IN ('offered', 'declined')), created_at TEXT NOT NULL
        ) STRICT;
        CREATE INDEX second_opinions_of_reply ON second_opinions(reply_id, rater_id, id);
        CREATE INDEX second_opinions_of_rater ON second_opinions(rater_id, id);
        ALTER TABLE raters ADD COLUMN others_may_see INTEGER CHECK (others_may_see IN (0, 1));
    """)


@migrations()
def m010_tasks(db: Database) -> None:
    """What a conversation is for. Those from before there was a choice are dialogues."""
    db.executescript("ALTER TABLE conversations ADD COLUMN task TEXT NOT NULL DEFAULT 'dialogue';")


@migrations()
def m011_receipts_of_corrections(db: Database) -> None:
    """A corrected text trains as an example of its own, beside the reply it corrects. `used_feedback`: every event that a version counts."""
    db.executescript("""
        CREATE TABLE correction_receipts (
            version INTEGER NOT NULL REFERENCES versions(number), correction_id INTEGER NOT NULL REFERENCES corrections(id),
            reward REAL NOT NULL, weight REAL NOT NULL, advantage REAL NOT NULL, tokens INTEGER NOT NULL,
            logprob_before REAL NOT NULL, logprob_after REAL NOT NULL,
            PRIMARY KEY (version, correction_id)
        ) STRICT;
        CREATE INDEX receipts_of_correction ON correction_receipts(correction_id);
        CREATE VIEW used_feedback AS
            SELECT version, receipts.reply_id AS reply_id, 'ratings' AS source, ratings.id AS id, rater_id
                FROM receipts, json_each(rating_ids) AS used JOIN ratings ON ratings.id = used.value
            UNION ALL SELECT version, receipts.reply_id, 'reasons', reasons.id, rater_id
                FROM receipts, json_each(feedback_ids, '$.reasons') AS used JOIN reasons ON reasons.id = used.value
            UNION ALL SELECT version, receipts.reply_id, 'comparisons', comparisons.id, rater_id
                FROM receipts, json_each(feedback_ids, '$.comparisons') AS used JOIN comparisons ON comparisons.id = used.value
            UNION ALL SELECT version, receipts.reply_id, 'corrections', corrections.id, rater_id
                FROM receipts, json_each(feedback_ids, '$.corrections') AS used JOIN corrections ON corrections.id = used.value
            UNION ALL SELECT version, reply_id, 'corrected', corrections.id, rater_id
                FROM correction_receipts JOIN corrections ON corrections.id = correction_id;
    """)


@migrations()
def m012_which_attempt_is_gone_on_from(db: Database) -> None:
    """NULL: the newest attempt that was not written aside. `aside`: the app wrote it for a comparison that nobody asked for."""
    db.executescript("""
        ALTER TABLE turns ADD COLUMN answer_id TEXT REFERENCES replies(id);
        ALTER TABLE replies ADD COLUMN aside INTEGER NOT NULL DEFAULT 0 CHECK (aside IN (0, 1));
    """)


@migrations()
def m013_shards(db: Database) -> None:
    """What this host sends and what it gathered, see data/sync. Nothing here holds a text: a shard is made anew from the rows it names.

    `shards`: numbered per stream without gaps; one whose `revision` is ahead of `sent_revision` must be written (again). `hashes`: every
    sha256 it was ever written under. `gathered`: which local row came from elsewhere, by an id that is the same on every host.
    `gathered_shards`: the last one that was read, per host. `runs.hosts_seen`: the same at a run's start.
    `replies.stop_requested`: for the server that writes it, from another one on this state folder.
    """
    db.executescript("""
        CREATE TABLE shards (
            stream TEXT NOT NULL CHECK (stream IN ('feedback', 'versions')), number INTEGER NOT NULL, packed_at TEXT NOT NULL,
            revision INTEGER NOT NULL DEFAULT 1, sent_revision INTEGER NOT NULL DEFAULT 0, hashes TEXT NOT NULL DEFAULT '[]',
            PRIMARY KEY (stream, number)
        ) STRICT;
        CREATE TABLE shard_rows (
            source TEXT NOT NULL, row_id TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL,
            PRIMARY KEY (source, row_id), FOREIGN KEY (stream, number) REFERENCES shards(stream, number)
        ) STRICT;
        CREATE INDEX rows_of_shard ON shard_rows(stream, number);
        CREATE TABLE gathered (uid TEXT PRIMARY KEY, source TEXT NOT NULL, row_id TEXT NOT NULL) STRICT;
        CREATE INDEX gathered_rows ON gathered(source, row_id);
        CREATE TABLE gathered_shards (
            stream TEXT NOT NULL, host TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (stream, host)
        ) STRICT;
        ALTER TABLE runs ADD COLUMN hosts_seen TEXT NOT NULL DEFAULT '{}';
        ALTER TABLE replies ADD COLUMN stop_requested INTEGER NOT NULL DEFAULT 0;
    """)


@migrations()
def m014_then_and_now(db: Database) -> None:
    """`again_of`: the reply whose prompt a later version was given, to show its person what has changed."""
    db.executescript("""
        ALTER TABLE replies ADD COLUMN again_of TEXT REFERENCES replies(id);
        CREATE INDEX replies_given_again ON replies(again_of) WHERE again_of IS NOT NULL;
    """)


@migrations()
def m015_asking_heads(db: Database) -> None:
    """A run's small model of the ratings, by which the chat server chooses what to ask a comparison of; the newest of a base model is current.

    `model` is NULL where there is none to ask by: too few ratings, they do not predict each other, or somebody deleted what it was fitted on,
    which `asking_heads_replies` tells. The index is for the newest replies of one lineage that a reply is held against.
    """
    db.executescript("""
        CREATE TABLE asking_heads (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE REFERENCES runs(id), base_model TEXT NOT NULL,
            fit TEXT NOT NULL, model TEXT, created_at TEXT NOT NULL
        ) STRICT;
        CREATE INDEX asking_heads_of_base ON asking_heads(base_model, id);
        CREATE TABLE asking_heads_replies (
            reply_id TEXT NOT NULL REFERENCES replies(id), heads_id INTEGER NOT NULL REFERENCES asking_heads(id),
            PRIMARY KEY (reply_id, heads_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX replies_to_ask_about ON replies(base_model)
            WHERE attempt = 0 AND state = 'done' AND contributes = 1 AND behavior_logprobs <> '[]';
    """)


@migrations()
def m016_why_a_version_failed(db: Database) -> None:
    """`error` as a code with values, JSON, so that pages can say it in their language; NULL where there is none."""
    db.executescript("ALTER TABLE versions ADD COLUMN error_said TEXT;")


@migrations()
def m017_what_is_current_by_what_is_newer(db: Database) -> None:
    """Asked of each rating whether there is a newer one, a look at one conversation costs the same however many there are elsewhere: the newest of all were grouped first."""
    db.executescript("""
        DROP VIEW current_ratings;
        DROP VIEW newest_ratings;
        CREATE VIEW newest_ratings AS
            SELECT * FROM ratings WHERE NOT EXISTS (
                SELECT 1 FROM ratings AS newer WHERE newer.reply_id = ratings.reply_id AND newer.rater_id = ratings.rater_id AND newer.kind = ratings.kind AND newer.id > ratings.id);
        CREATE VIEW current_ratings AS SELECT * FROM newest_ratings WHERE value <> 0;
    """)


@migrations()
def m018_weights_of_all_raters(db: Database) -> None:
    """Runs named those in doubt alone."""
    db.executescript("""
        UPDATE runs SET report = json_remove(json_set(report, '$.data.rater_weights', json_extract(report, '$.data.raters_in_doubt')), '$.data.raters_in_doubt')
            WHERE json_type(report, '$.data.raters_in_doubt') IS NOT NULL;
    """)


@migrations()
def m019_what_one_person_said(db: Database) -> None:
    """For a deletion, which holds the writer's lock while it looks for all of it; of comparisons there is such an index."""
    db.executescript("""
        CREATE INDEX ratings_of_rater ON ratings(rater_id, reply_id);
        CREATE INDEX reasons_of_rater ON reasons(rater_id, reply_id);
        CREATE INDEX corrections_of_rater ON corrections(rater_id, reply_id);
    """)


@migrations()
def m020_old_versions_are_removed(db: Database) -> None:
    """NULL: the files are kept, or damaged. The row stays, so that what names the version stays readable."""
    db.executescript("ALTER TABLE versions ADD COLUMN removed_at TEXT;")


@migrations()
def m020_receipts_of_removed_versions(db: Database) -> None:
    """What a version's receipts came to, from when most of them were removed: `changed` as `Receipts.what_changed` tells it."""
    db.executescript("""
        CREATE TABLE receipt_totals (
            version INTEGER PRIMARY KEY REFERENCES versions(number), replies INTEGER NOT NULL, weight REAL NOT NULL, changed TEXT NOT NULL
        ) STRICT;
    """)


@migrations()
def m021_runs_in_their_order(db: Database) -> None:
    """Every open page asks for the newest run of a base model, and for the newest with a verdict, every few seconds; reports made reading all of them slow."""
    db.executescript("CREATE INDEX runs_of_base ON runs(base_model, started_at, state);")


@migrations()
def m021_drafts(db: Database) -> None:
    """The key that a page gave a message before it sent it: sent again because the answer was lost, it is the same message. NULL where none was given."""
    db.executescript("""
        ALTER TABLE turns ADD COLUMN draft TEXT;
        CREATE UNIQUE INDEX turns_of_drafts ON turns(draft) WHERE draft IS NOT NULL;
    """)


@migrations()
def m022_runs_as_they_came(db: Database) -> None:
    """By their rowid, which every index ends with: the newest by a clock that was ahead once stayed the newest until then. The second index is for verdicts, which may lie far back."""
    db.executescript("""
        DROP INDEX runs_of_base;
        CREATE INDEX runs_of_base ON runs(base_model);
        CREATE INDEX verdicts_of_base ON runs(base_model) WHERE state IN ('published', 'refused');
    """)
