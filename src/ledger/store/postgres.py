"""The log in PostgreSQL: one writer behind a table lock, no wait without an end."""

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar

import psycopg
from eventsourcing import postgres as library
from eventsourcing.persistence import StoredEvent
from psycopg import Connection, Cursor
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from ledger.store.ahead import Place
from ledger.store.chain import EMPTY, Head, Row
from ledger.store.commits import check_fence, head_of
from ledger.store.listener import Listener
from ledger.store.log import (
    AppendFailed,
    Fenced,
    LogCorrupt,
    LogLocked,
    LogUnavailable,
    NothingWritten,
    StorageFull,
)
from ledger.store.session import connect, parameters
from ledger.store.stored import LAST_HEADER, StoredLog

INT8, BYTEA, TEXT = 20, 17, 25
"""PostgreSQL's numbers of its types."""
_size = struct.Struct(">i").pack
R = TypeVar("R", bound=tuple[Any, ...])
_BLOBS = "INSERT INTO blobs SELECT * FROM unnest(%b::text[], %b::bytea[]) ON CONFLICT DO NOTHING"
CHUNK_ROWS = 1000
CHUNK_BYTES = 1 << 20
RESOLVE_S = 10.0
"""How long an append may look for what became of a commit whose answer was lost."""
RETRY_S = 0.1


class Datastore(library.PostgresDatastore):
    """The library's datastore with our session settings, text ids and no composite types."""

    def __init__(self, url: str, schema: str, pool_size: int = 1) -> None:
        super().__init__(
            "",
            "",
            "",
            "",
            "",
            schema=schema,
            originator_id_type="text",
            pool_size=pool_size,
            max_overflow=10,
            lock_timeout=5,
            idle_in_transaction_session_timeout=2,
        )
        self.pool.kwargs = {**parameters(url), "row_factory": dict_row}

    def register_type_adapters(self) -> None:
        """None: rows are inserted as plain arrays."""


class PostgresRecorder(library.PostgresApplicationRecorder):
    """The library's recorder with positions of ours, taken under its lock, and no retries.

    It knows nothing of headers. Its table is made by the migrations.
    """

    def __init__(
        self, datastore: library.PostgresDatastore, *, events_table_name: str = "stored_events"
    ) -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        if datastore.enable_db_functions:
            raise ValueError("POSTGRES_ENABLE_DB_FUNCTIONS loses events: turn it off")
        self.sql_create_statements: list[Composed] = []
        self._insert_rows = SQL(
            "INSERT INTO {schema}.{table} "
            "(notification_id, originator_id, originator_version, topic, state) SELECT * FROM "
            "unnest(%b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::bytea[])"
        ).format(schema=Identifier(datastore.schema), table=Identifier(events_table_name))

    def insert_rows(self, cursor: Cursor[Any], rows: Sequence[Row]) -> None:
        """Insert rows at the positions they carry, some at a time, never in pipeline mode.

        COPY would be as fast, but a writer that froze in it would keep the append lock for ever:
        no timeout of the server ends a session that waits for the data of a COPY.
        """
        cursor.adapters.register_dumper(Packed, PackedDumper)
        for chunk in chunks(rows):
            positions, streams, versions, names, states = zip(*chunk, strict=True)
            packed = (
                _numbers(positions),
                _texts(TEXT, [stream.encode() for stream in streams]),
                _numbers(versions),
                _texts(TEXT, [name.encode() for name in names]),
                _texts(BYTEA, states),
            )
            cursor.execute(self._insert_rows, packed)

    def insert_blobs(self, cursor: Cursor[Any], blobs: Mapping[str, bytes]) -> None:
        """Insert texts that are not there yet: one statement for a thousand, not one for each."""
        for chunk in chunks(list(blobs.items())):
            digests, texts = zip(*chunk, strict=True)
            packed = (_texts(TEXT, [digest.encode() for digest in digests]), _texts(BYTEA, texts))
            cursor.execute(_BLOBS, packed)

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int]:
        """Insert events behind the last one, in one transaction; their positions."""
        with self.datastore.transaction(commit=True) as cursor:
            self._lock_table(cursor)
            self._notify_channel(cursor)
            cursor.execute(self.max_notification_id_statement)
            last = cursor.fetchone()
            assert last is not None
            rows = [
                Row(position, str(e.originator_id), e.originator_version, e.topic, e.state)
                for position, e in enumerate(stored_events, (last["max"] or 0) + 1)
            ]
            self.insert_rows(cursor, rows)
        return [row.position for row in rows]


class Packed(bytes):
    """An array in PostgreSQL's binary form; its type is what the statement says it is."""


class PackedDumper(Dumper):
    """Sends a `Packed` as it is. psycopg's own arrays take four times as long as the insertion."""

    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        """The bytes."""
        return obj


def _numbers(values: Sequence[int]) -> Packed:
    n = len(values)
    sized = [part for value in values for part in (8, value)]
    return Packed(struct.pack(f">5i{'iq' * n}", 1, 0, INT8, n, 1, *sized))


def _texts(kind: int, values: Sequence[bytes]) -> Packed:
    parts = [struct.pack(">5i", 1, 0, kind, len(values), 1)]
    for value in values:
        parts += (_size(len(value)), value)
    return Packed(b"".join(parts))


def chunks(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    """Rows in pieces of at most 1,000 and, but for a single larger row, a megabyte of data."""
    start = size = 0
    for index, row in enumerate(rows):
        if index > start and (index - start == CHUNK_ROWS or size + len(row[-1]) > CHUNK_BYTES):
            yield rows[start:index]
            start, size = index, 0
        size += len(row[-1])
    if start < len(rows):
        yield rows[start:]


class PostgresLog(StoredLog):
    """`Log` over the tables that the migrations have made in the URL's first schema.

    `resolve_s` bounds the search for the outcome of a commit whose answer was lost.
    """

    position = "notification_id"
    page = 1000

    def __init__(self, url: str, *, write: bool, resolve_s: float = RESOLVE_S) -> None:
        self._url = url
        self._resolve_s = resolve_s
        self._reader = connect(url, read_only=True)
        schema = self._reader.execute("SELECT current_schema()").fetchone()
        self._recorder = PostgresRecorder(Datastore(url, schema[0] if schema else "public"))
        self._writer: Connection[Any] | None = None
        self._listener: Listener | None = None
        self._starting = Lock()
        self._warned: list[str] = []
        try:
            if write:
                self._writer = self._connect_writer()
            super().__init__(write=write)
        except psycopg.Error as error:
            self.close()
            raise LogUnavailable(f"this database holds no jobledger log: {error}") from error
        except (LogUnavailable, LogCorrupt):
            self.close()
            raise

    def _connect_writer(self) -> Connection[Any]:
        connection = connect(self._url)
        connection.add_notice_handler(self._noticed)
        return connection

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warned.append(notice.message_primary or "")

    def _fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        query = query.replace("{position}", self.position).replace("{headers}", "")
        query = query.replace("?", "%s")
        try:
            return self._fetch_once(query, parameters)
        except (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted) as error:
            raise LogCorrupt(f"the database is damaged: {error}", 0) from error
        except psycopg.OperationalError:
            if not self._reader.closed:
                raise
        self._reader = connect(self._url, read_only=True)
        return self._fetch_once(query, parameters)

    @property
    def place(self) -> Place:
        return Place("postgres", self._url)

    def inspect(self, last: int) -> None:
        """Does the index by which heads are found know the last row?"""
        if self.head().position < last:  # behind it, the log may have grown meanwhile
            raise LogCorrupt(f"the index of headers does not lead to position {last}", 0)

    def _fetch_once(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        return self._reader.cursor(binary=True).execute(query, parameters).fetchall()

    def _insert(self, rows: Sequence[Row], head: Head, blobs: Mapping[str, bytes]) -> None:
        assert self._writer is not None
        self._failed = True  # until the opposite is known
        self._warned.clear()
        try:
            self._transact(self._writer, rows, blobs)
        except Fenced:
            self._writer.execute("ROLLBACK")
            raise
        except psycopg.errors.UniqueViolation as error:
            self._writer.execute("ROLLBACK")
            raise Fenced(f"another writer has appended these positions: {error}") from error
        except psycopg.Error as error:
            if self._writer.closed:
                self._writer = self._resolve(head, error)
            else:
                harmless = self._harmless(self._writer, error)
                self._failed = harmless is None
                raise harmless or AppendFailed(f"the append failed: {error}") from error
        self._check_warnings()
        self._failed = False

    def _transact(
        self, writer: Connection[Any], rows: Sequence[Row], blobs: Mapping[str, bytes]
    ) -> None:
        cursor = writer.cursor()
        check_fence(self._fence, self._locked_head(cursor))
        self._recorder.insert_rows(cursor, rows)
        self._recorder.insert_blobs(cursor, blobs)
        self._commit(cursor)

    def _locked_head(self, cursor: Cursor[Any]) -> Head:
        """Begin a transaction, wait for every writer before us to be over, and read the head."""
        table = Identifier(self._recorder.datastore.schema, self._recorder.events_table_name)
        cursor.execute(
            SQL("BEGIN; LOCK TABLE {} IN EXCLUSIVE MODE; NOTIFY {}; {}").format(
                table, Identifier(self._recorder.channel_name), SQL(LAST_HEADER)
            ),
            prepare=False,
        )
        while cursor.nextset():
            pass
        found = cursor.fetchone()
        return head_of(found[0]) if found else EMPTY

    def _commit(self, cursor: Cursor[Any]) -> None:
        cursor.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise AppendFailed(f"the server answered COMMIT with {cursor.statusmessage}")

    def _check_warnings(self) -> None:
        """The server warns when it stops waiting for the synchronous standby: no promise then."""
        if self._warned:
            raise AppendFailed(f"the commit is not known to be durable: {self._warned[0]}")

    def _resolve(self, head: Head, lost: psycopg.Error) -> Connection[Any]:
        """A new connection, once it is proved that the doubtful append is in the log.

        Raises `AppendFailed` if it is not, or if that can't be found out in time.
        """
        self._check_warnings()
        deadline = time.monotonic() + self._resolve_s
        while True:
            try:
                writer = self._connect_writer()
                now = self._proved_head(writer)
                break
            except (psycopg.Error, LogUnavailable) as error:
                if time.monotonic() > deadline:
                    raise AppendFailed(
                        f"the connection was lost during an append ({lost}), and what became of "
                        f"it can't be found out: {error}"
                    ) from error
                time.sleep(RETRY_S)
        self._check_warnings()
        if now != head:
            writer.close()
            raise AppendFailed(
                f"the connection was lost during an append ({lost}); the log ends with commit "
                f"{now.commit}, not with this one"
            )
        return writer

    def _proved_head(self, writer: Connection[Any]) -> Head:
        """The head behind the append lock, as durable as the server makes its own commits.

        The message is written to the server's log of writes only: it makes this transaction one
        that is flushed, and waited for on a synchronous standby, after the doubtful one.
        """
        cursor = writer.cursor()
        now = self._locked_head(cursor)
        cursor.execute("SELECT pg_logical_emit_message(true, 'jobledger', 'head')")
        self._commit(cursor)
        return now

    def _harmless(self, writer: Connection[Any], error: psycopg.Error) -> NothingWritten | None:
        """What it was, if it came before COMMIT and the rolled back transaction left nothing."""
        failure: NothingWritten
        if isinstance(error, psycopg.errors.DiskFull):
            failure = StorageFull(f"no room for the log: {error}")
        elif isinstance(error, psycopg.errors.LockNotAvailable):
            failure = LogLocked(f"another session keeps the log locked: {error}")
        else:
            return None
        try:
            writer.execute("ROLLBACK")
            return failure if self.head() == self._fence else None
        except psycopg.Error:
            return None

    def wait(self, after: int, timeout: float) -> bool:
        with self._starting:
            if self._listener is None:
                self._listener = Listener(self._url, self._recorder.channel_name, self._bell)
        return self._bell.wait(after, timeout)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._recorder.datastore.close()
