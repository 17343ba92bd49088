"""The log in one SQLite file: WAL, every commit synced, one connection that writes."""

import logging
import resource
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event, Lock, RLock, Thread
from typing import Any
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

from ledger.store.ahead import Place
from ledger.store.bell import BUSY_S
from ledger.store.chain import EMPTY, Head, Row
from ledger.store.commits import check_fence, head_of
from ledger.store.log import (
    AppendFailed,
    Fenced,
    LogCorrupt,
    LogLocked,
    LogUnavailable,
    NothingWritten,
    StorageFull,
)
from ledger.store.stored import LAST_HEADER, StoredLog

library.sqlite3 = pysqlite3  # type: ignore[attr-defined]
"""Python's own SQLite may be one that can corrupt a WAL (3.7.0 to 3.51.2)."""

COLUMNS = "rowid, originator_id, originator_version, topic, state"
FULL = 2
DAMAGE = {pysqlite3.SQLITE_CORRUPT, pysqlite3.SQLITE_NOTADB}
PAGE_BYTES, PAGES_A_ROW, PAGES_AT_LEAST = 4_120, 4, 64
"""What an append may need, where a limit is set on a file's size: a frame of the WAL holds a page;
a row is in a table and two indexes, each of which may have to be split."""
BUSY_TIMEOUT_S = 5
HEADERS = "INDEXED BY stored_events_headers"
"""SQLite would else sort all headers there are to find one."""
CHECKPOINT_PAGES = 4000
"""16 MB of WAL: half as much again is appended a second as with SQLite's own 1,000 pages."""


logger = logging.getLogger(__name__)


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


def write_back(path: Path) -> None:
    """Copy the WAL into the log's file, and sync it, before a writer believes what it reads.

    Where an fsync of the WAL has failed under the writer before, the kernel may show frames that it
    has dropped from what it will write: a commit behind them would be durable, and unreachable
    after a power cut. What is copied is written anew. Raises `LogUnavailable`.
    """
    with closing(connect(path, "rw")) as connection:
        try:
            busy, frames, done = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        except pysqlite3.Error as error:
            raise LogUnavailable(f"{path} can't be brought up to date: {error}") from error
    if busy:
        logger.warning("a reader keeps %d of %d frames from the log's file", frames - done, frames)


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


class SQLiteLog(StoredLog):
    """`Log` over one file that the migrations have made. `write` opens it for appending."""

    position = "rowid"
    page = 300

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path, self._inode = path, _inode(path)
        if write:
            write_back(path)
        self._reader = connect(path, "ro")
        self._watcher = connect(path, "ro")
        self._watching = Lock()
        self._using = RLock()  # closing a connection that another thread uses ends the process
        self._seen_version = self._seen_position = 0
        self._recorder = SQLiteRecorder(Datastore(path)) if write else None
        try:
            super().__init__(write=write)
        except LogCorrupt:
            self.close()
            raise
        except (pysqlite3.Error, UnicodeDecodeError) as error:
            raise LogUnavailable(f"{path} is not a jobledger log: {error}") from error

    def _fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        query = query.replace("{position}", self.position).replace("{headers}", HEADERS)
        with self._using:
            try:
                return list(self._reader.execute(query, parameters).fetchall())
            except (pysqlite3.Error, UnicodeDecodeError) as error:
                if _is_damage(error):
                    raise LogCorrupt(f"the file is damaged: {error}", 0) from error
                raise

    @property
    def place(self) -> Place:
        return Place("sqlite", str(self._path.absolute()))

    def replaced(self) -> bool:
        """What is read here is the file that was opened, wherever it lies by now."""
        return _inode(self._path) != self._inode

    def inspect(self, last: int) -> None:
        """Whether the table ever had more rows than now, and SQLite's own check of the file."""
        # Both in one statement: a log that is verified may grow meanwhile.
        ((most, end),) = self._fetch(
            "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'stored_events'),"
            " (SELECT max({position}) FROM stored_events)"
        )
        if (most or 0) != (end or 0):
            raise LogCorrupt(
                f"the log ends at position {end or 0}, and has been longer: it went up to {most}",
                (end or 0) + 1,
            )
        found = [text for (text,) in self._fetch("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise LogCorrupt(f"the file is damaged: {'; '.join(map(str, found))[:300]}", 0)

    def _insert(self, rows: Sequence[Row], head: Head, blobs: Mapping[str, bytes]) -> None:
        assert self._recorder is not None
        self._failed = True  # until the opposite is known
        with self._using, self._recorder.datastore.get_connection(commit=True) as connection:
            cursor = connection.cursor().sqlite_cursor
            try:
                self._check_room(cursor, rows, blobs)
                self._transact(cursor, rows, blobs)
            except pysqlite3.IntegrityError as error:
                _roll_back(cursor)
                raise Fenced(f"another writer has appended these positions: {error}") from error
            except pysqlite3.Error as error:
                harmless = self._harmless(cursor, error)
                self._failed = harmless is None
                raise harmless or AppendFailed(f"the append failed: {error}") from error
            except StorageFull:
                self._failed = False
                raise
            except BaseException:
                _roll_back(cursor)
                raise
        self._failed = False

    def _transact(
        self, cursor: pysqlite3.Cursor, rows: Sequence[Row], blobs: Mapping[str, bytes]
    ) -> None:
        assert self._recorder is not None
        cursor.execute("BEGIN IMMEDIATE")
        check_fence(self._fence, _head(cursor))
        self._recorder.insert_rows(cursor, rows)
        if blobs:
            cursor.executemany("INSERT OR IGNORE INTO blobs VALUES (?,?)", blobs.items())
        cursor.execute("COMMIT")

    def _harmless(self, cursor: pysqlite3.Cursor, error: pysqlite3.Error) -> NothingWritten | None:
        """What it was, if the transaction is proved absent: rolled back, and no header of it.

        SQLite reports a full disk from a write, and the frame that marks a commit is the last one
        written: so this error, from whichever statement, means that the mark is not on disk. That
        the file is locked it reports from BEGIN, which is before anything is written.
        """
        failure: NothingWritten
        if error.sqlite_errorcode == pysqlite3.SQLITE_BUSY:
            failure = LogLocked(f"another process keeps the log locked: {error}")
        elif error.sqlite_errorcode == pysqlite3.SQLITE_FULL:
            failure = StorageFull(f"no room for the log: {error}")
        else:
            return None
        try:
            _roll_back(cursor)
            return failure if _head(cursor) == self.head() == self._fence else None
        except pysqlite3.Error:
            return None

    def _check_room(
        self, cursor: pysqlite3.Cursor, rows: Sequence[Row], blobs: Mapping[str, bytes]
    ) -> None:
        """Raise `StorageFull` where the files would outgrow RLIMIT_FSIZE, before that is tried:
        SQLite can't tell it from a failed disk, after which a writer must end."""
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit == resource.RLIM_INFINITY:
            return
        size = sum(len(row.data) for row in rows) + sum(map(len, blobs.values()))
        most = 2 * size + PAGE_BYTES * (PAGES_A_ROW * (len(rows) + len(blobs)) + PAGES_AT_LEAST)
        if self._size() + most > limit:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the WAL may be large and empty
            if self._size() + most > limit:
                raise StorageFull(f"no room for the log: a file may have {limit} bytes")

    def _size(self) -> int:
        """Bytes of the file or the WAL, whichever is larger."""
        wal = self._path.with_name(self._path.name + "-wal")
        return max(file.stat().st_size for file in (self._path, wal) if file.exists())

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

    def close(self) -> None:
        self.interrupt()
        with self._watching, self._using:
            self._watcher.close()
            self._reader.close()
            if self._recorder is not None:
                self._recorder.datastore.close()


def _is_damage(error: Exception) -> bool:
    """Is it the file's bytes that are wrong, rather than its time, place or owner?"""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # a text that is no UTF-8: in a row, or in what the error would say
        return isinstance(error, pysqlite3.OperationalError | UnicodeDecodeError)
    return code & 0xFF in DAMAGE


def _inode(path: Path) -> int:
    """The file that lies there; 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _head(cursor: pysqlite3.Cursor) -> Head:
    found = cursor.execute(LAST_HEADER).fetchone()
    return head_of(found[0]) if found else EMPTY


def _roll_back(cursor: pysqlite3.Cursor) -> None:
    if cursor.connection.in_transaction:
        cursor.execute("ROLLBACK")
