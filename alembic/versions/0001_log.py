"""The log's tables: stored events that nobody can change, blobs beside them, facts about the log.

There is no way down: rows of the log are never given up.
"""

from alembic import op

revision = "0001"
down_revision = None

SQLITE = (
    """
    CREATE TABLE stored_events (
        rowid INTEGER PRIMARY KEY AUTOINCREMENT,
        originator_id TEXT NOT NULL,
        originator_version INTEGER NOT NULL,
        topic TEXT NOT NULL,
        state BLOB NOT NULL,
        UNIQUE (originator_id, originator_version)
    ) STRICT
    """,
    "CREATE INDEX stored_events_headers ON stored_events (rowid) WHERE originator_id = 'commit'",
    """
    CREATE TRIGGER stored_events_no_update BEFORE UPDATE ON stored_events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
    """,
    """
    CREATE TRIGGER stored_events_no_delete BEFORE DELETE ON stored_events
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END
    """,
    "CREATE TABLE blobs (sha256 TEXT PRIMARY KEY NOT NULL, bytes BLOB NOT NULL) STRICT",
    """
    CREATE TRIGGER blobs_no_update BEFORE UPDATE ON blobs
    BEGIN SELECT RAISE(ABORT, 'a blob may be erased, never changed'); END
    """,
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT",
)

POSTGRES = (
    """
    CREATE TABLE stored_events (
        notification_id bigint NOT NULL,
        originator_id text COLLATE "C" NOT NULL,
        originator_version bigint NOT NULL,
        topic text NOT NULL,
        state bytea NOT NULL,
        PRIMARY KEY (originator_id, originator_version)
    )
    """,
    "CREATE UNIQUE INDEX stored_events_notification_id_idx ON stored_events (notification_id)",
    """
    CREATE INDEX stored_events_headers ON stored_events (notification_id)
    WHERE originator_id = 'commit'
    """,
    """
    CREATE FUNCTION stored_events_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the log is append-only'; END $$
    """,
    """
    CREATE TRIGGER stored_events_no_change
    BEFORE UPDATE OR DELETE OR TRUNCATE ON stored_events
    FOR EACH STATEMENT EXECUTE FUNCTION stored_events_refuse()
    """,
    'CREATE TABLE blobs (sha256 text COLLATE "C" PRIMARY KEY, bytes bytea NOT NULL)',
    """
    CREATE FUNCTION blobs_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'a blob may be erased, never changed'; END $$
    """,
    """
    CREATE TRIGGER blobs_no_change BEFORE UPDATE ON blobs
    FOR EACH STATEMENT EXECUTE FUNCTION blobs_refuse()
    """,
    "CREATE TABLE meta (key text PRIMARY KEY, value text NOT NULL)",
)


def upgrade() -> None:
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRES:
        op.execute(statement)
