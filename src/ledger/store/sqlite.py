"""The log in one SQLite file: WAL, every commit synced, one connection that writes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

import eventsourcing.sqlite as library
import pysqlite3  # type: ignore[import-untyped]
from eventsourcing.persistence import (
    ApplicationRecorder,
    ListenNotifySubscription,
    StoredEvent,
    Subscription,
)

from ledger.events import Recorded
from ledger.store.bell import BUSY_S, Bell
from ledger.store.chain import COMMIT_STREAM, EMPTY, Head, Row
from ledger.store.commits import (
    PAGE,
    check_blobs,
    check_rows,
    commits,
    draft_rows,
    head_of,
    recorded,
    recorded_alone,
)
from ledger.store.log import AppendFailed, Draft, Fenced, LogUnavailable, StorageFull

library.sqlite3 = pysqlite3  # type: ignore[attr-defined]
"""Python's own SQLite may be one that can corrupt a WAL (3.7.0 to 3.51.2)."""

COLUMNS = "rowid, originator_id, originator_version, topic, state"
FULL = 2
BUSY_TIMEOUT_S = 5
CHECKPOINT_PAGES = 4000
"""16 MB of WAL: half as much again is appended a second as with SQLite's own 1,000 pages."""


def connect(path: Path, mode: str) -> pysqlite3.Connection:
    """A connection to an existing log file, `mode` `ro` or `rw`; a writing one is made durable."""
    try:
        connection = pysqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_S,
        )
        if mode != "ro":
            make_durable(connection)
    except pysqlite3.Error as error:
        raise LogUnavailable(f"can't open {path}: {error}") from error
    return connection


def make_durable(connection: pysqlite3.Connection) -> None:
    """WAL, and a sync at every commit: set, read back. Raises `LogUnavailable` if either fails."""
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    if mode != "wal" or level != FULL:
        raise LogUnavailable(
            f"SQLite refuses to be durable here (journal_mode={mode}, synchronous={level}): "
            "is this a network file system?"
        )


class Pool(library.SQLiteConnectionPool):
    """The library's pool, with connections that are durable."""

    def _create_connection(self) -> library.SQLiteConnection:
        connection = super()._create_connection()
        make_durable(connection.cursor().sqlite_cursor.connection)
        return connection


class Datastore(library.SQLiteDatastore):
    """The library's datastore over one existing file, with durable connections and text ids."""

    def __init__(self, path: Path) -> None:
        super().__init__("", originator_id_type="text")
        self.pool = Pool(
            db_name=f"file:{quote(str(path))}?mode=rw", lock_timeout=BUSY_TIMEOUT_S, pool_size=1
        )


class ImmediateTransaction(library.SQLiteTransaction):
    """The library's transaction, but it takes the write lock when it begins, not when it writes."""

    def __enter__(self) -> library.SQLiteCursor:
        cursor = self.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        return cursor


class SQLiteRecorder(library.SQLiteApplicationRecorder):
    """The library's recorder with positions of ours, one statement for many rows, `subscribe`.

    It knows nothing of headers. Its table is made by the migrations.
    """

    def __init__(
        self, datastore: library.SQLiteDatastore, events_table_name: str = "stored_events"
    ) -> None:
        super().__init__(datastore, events_table_name)
        self.insert_events_statement = (
            f"INSERT INTO {self.events_table_name} ({COLUMNS}) VALUES (?,?,?,?,?)"  # noqa: S608
        )

    def construct_create_table_statements(self) -> list[str]:
        """None: see `alembic/`."""
        return []

    def insert_rows(self, cursor: Any, rows: Sequence[Row]) -> None:
        """Insert rows at the positions they carry."""
        cursor.executemany(self.insert_events_statement, rows)

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        """Insert events behind the last one, in one transaction; their positions."""
        with (
            self.datastore.get_connection(commit=True) as connection,
            ImmediateTransaction(connection, commit=True) as cursor,
        ):
            first = (self._max_notification_id(cursor) or 0) + 1
            rows = [
                Row(position, id_text(e.originator_id), e.originator_version, e.topic, e.state)
                for position, e in enumerate(stored_events, first)
            ]
            self.insert_rows(cursor, rows)
        return [row.position for row in rows]

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Every event behind `gt`, then every one that any process inserts."""
        return SQLiteSubscription(self, gt, topics)


def id_text(originator_id: UUID | str) -> str:
    """An originator id as the library keeps it in a text column."""
    return originator_id.hex if isinstance(originator_id, UUID) else originator_id


class SQLiteSubscription(ListenNotifySubscription[SQLiteRecorder]):
    """Pulls when the file has changed, which a thread of its own looks for."""

    def __init__(
        self, recorder: SQLiteRecorder, gt: int | None = None, topics: Sequence[str] = ()
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._ended = Event()
        self._watcher = Thread(target=self._watch, name="sqlite-subscription", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop the iteration."""
        super().stop()
        self._ended.set()

    def __exit__(self, *args: object, **kwargs: Any) -> None:
        try:
            super().__exit__(*args, **kwargs)
        finally:
            self._watcher.join()

    def _watch(self) -> None:
        try:
            with self._recorder.datastore.get_connection(commit=False) as connection:
                cursor, seen = connection.cursor(), 0
                while not self._ended.wait(BUSY_S):
                    cursor.execute("PRAGMA data_version")
                    version = cursor.fetchone()[0]
                    if version != seen:
                        seen = version
                        self._has_been_notified.set()
        except Exception as error:
            self._thread_error = self._thread_error or error
            self.stop()


class SQLiteLog:
    """`Log` over one file that the migrations have made. `write` opens it for appending.

    The fence is the head the file had when it was opened, then the head of the last append here:
    whoever else appends ends this writer (`Fenced`).
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        self._reader = connect(path, "ro")
        self._watcher = connect(path, "ro")
        self._watching = Lock()
        self._seen_version = self._seen_position = 0
        self._bell = Bell()
        try:
            self._incarnation: str = self._reader.execute(
                "SELECT value FROM meta WHERE key = 'incarnation'"
            ).fetchone()[0]
        except pysqlite3.Error as error:
            raise LogUnavailable(f"{path} is not a jobledger log: {error}") from error
        self._recorder = SQLiteRecorder(Datastore(path)) if write else None
        self._fence = self.head()
        self._failed = False

    @property
    def incarnation(self) -> str:
        return self._incarnation

    def head(self) -> Head:
        return _head(self._reader)

    def append(self, drafts: Sequence[Draft]) -> Head:
        rows, head = draft_rows(self._fence, drafts)
        blobs: dict[str, bytes] = {}
        for draft in drafts:
            blobs.update(draft.blobs)
        return self._write(rows, head, blobs)

    def append_rows(self, rows: Sequence[Row], blobs: Mapping[str, bytes]) -> Head:
        return self._write(rows, check_rows(self._fence, rows), blobs)

    def _write(self, rows: Sequence[Row], head: Head, blobs: Mapping[str, bytes]) -> Head:
        if self._recorder is None or self._failed:
            raise AppendFailed("this log was opened for reading, or has failed before")
        check_blobs(blobs)
        self._failed = True  # until the end is known
        with self._recorder.datastore.get_connection(commit=True) as connection:
            cursor = connection.cursor().sqlite_cursor
            try:
                self._transact(cursor, rows, blobs)
            except pysqlite3.IntegrityError as error:
                _roll_back(cursor)
                raise Fenced("another writer has appended the same rows") from error
            except pysqlite3.Error as error:
                if self._proved_full(cursor, error):
                    self._failed = False
                    raise StorageFull(f"no room for the log: {error}") from error
                raise AppendFailed(f"the append failed: {error}") from error
            except BaseException:
                _roll_back(cursor)
                raise
        self._fence, self._failed = head, False
        self._bell.ring(head.position)
        return head

    def _transact(
        self, cursor: pysqlite3.Cursor, rows: Sequence[Row], blobs: Mapping[str, bytes]
    ) -> None:
        assert self._recorder is not None
        cursor.execute("BEGIN IMMEDIATE")
        now = _head(cursor)
        if now != self._fence:
            raise Fenced(
                f"another writer has appended commit {now.commit} in epoch {now.epoch}; "
                f"this one knows the log up to commit {self._fence.commit}"
            )
        self._recorder.insert_rows(cursor, rows)
        if blobs:
            cursor.executemany("INSERT OR IGNORE INTO blobs VALUES (?,?)", blobs.items())
        cursor.execute("COMMIT")

    def _proved_full(self, cursor: pysqlite3.Cursor, error: pysqlite3.Error) -> bool:
        """Whether there was no room, the transaction is rolled back and the header is absent.

        SQLite reports `SQLITE_FULL` from a write; the frame that marks a commit is the last one
        written. So this error, from whichever statement, means that the mark is not in the file.
        """
        if error.sqlite_errorcode != pysqlite3.SQLITE_FULL:
            return False
        try:
            _roll_back(cursor)
            return _head(cursor) == self.head() == self._fence
        except pysqlite3.Error:
            return False

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        start = EMPTY if after == 0 else self.commit_at(after)
        if start is None:
            raise ValueError(f"no commit ends at position {after}")
        found = commits(start, self._pages(after, upto), whole=upto is None)
        return (event for commit in found for event in recorded(commit, self._incarnation))

    def rows(self, after: int = 0, upto: int | None = None) -> Iterator[Row]:
        return (Row._make(row) for page in self._pages(after, upto) for row in page)

    def _pages(self, after: int, upto: int | None) -> Iterator[list[Row]]:
        """Pages of plain tuples in the order of `Row`: making `Row`s of them costs a tenth."""
        last: int = self._reader.execute("SELECT max(rowid) FROM stored_events").fetchone()[0] or 0
        last = last if upto is None else min(last, upto)
        query = f"SELECT {COLUMNS} FROM stored_events WHERE rowid > ? AND rowid <= ? ORDER BY rowid"  # noqa: S608
        while after < last:
            end = min(after + PAGE, last)
            yield cast("list[Row]", self._reader.execute(query, (after, end)).fetchall())
            after = end

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        query = f"""
            SELECT {COLUMNS}, (
                SELECT h.state FROM stored_events AS h
                WHERE h.originator_id = '{COMMIT_STREAM}' AND h.rowid < e.rowid
                ORDER BY h.rowid DESC LIMIT 1
            ) FROM stored_events AS e
            WHERE originator_id = ? AND originator_version > ?
            ORDER BY originator_version LIMIT {PAGE}
        """  # noqa: S608
        while page := self._reader.execute(query, (stream, after)).fetchall():
            for *row, header in page:
                yield recorded_alone(Row._make(row), header, self._incarnation)
            after = page[-1][0]

    def commit_at(self, position: int) -> Head | None:
        found = self._reader.execute(
            "SELECT state FROM stored_events WHERE originator_id = ? AND rowid <= ? "
            "ORDER BY rowid DESC LIMIT 1",
            (COMMIT_STREAM, position),
        ).fetchone()
        head = head_of(found[0]) if found else EMPTY
        return head if found and head.position == position else None

    def blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(digests), 500):
            some = digests[start : start + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT sha256, bytes FROM blobs WHERE sha256 IN ({marks})"  # noqa: S608
            found.update(self._reader.execute(query, some))
        return found

    def wait(self, after: int, timeout: float) -> bool:
        return self._bell.wait(after, timeout, self._look)

    def _look(self) -> int:
        with self._watching:
            version = self._watcher.execute("PRAGMA data_version").fetchone()[0]
            if version != self._seen_version:
                self._seen_version = version
                found = self._watcher.execute("SELECT max(rowid) FROM stored_events").fetchone()
                self._seen_position = found[0] or 0
            return self._seen_position

    def interrupt(self) -> None:
        self._bell.interrupt()

    def close(self) -> None:
        self.interrupt()
        with self._watching:
            self._watcher.close()
        self._reader.close()
        if self._recorder is not None:
            self._recorder.datastore.close()


def _head(source: pysqlite3.Connection | pysqlite3.Cursor) -> Head:
    found = source.execute(
        "SELECT state FROM stored_events WHERE originator_id = ? "
        "ORDER BY originator_version DESC LIMIT 1",
        (COMMIT_STREAM,),
    ).fetchone()
    return head_of(found[0]) if found else EMPTY


def _roll_back(cursor: pysqlite3.Cursor) -> None:
    if cursor.connection.in_transaction:
        cursor.execute("ROLLBACK")
