"""Where projections lie, and what the two databases do differently."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pysqlite3  # type: ignore[import-untyped]
import sqlalchemy as sa

from ledger.projection.fold import Change
from ledger.projection.model import SCHEMA, Key, Projection, Table

FOLDER = "projections"
ROWS_AT_ONCE = 5_000
COPY_FROM = 100
"""So many new rows are copied into PostgreSQL, rather than given as arrays."""

CACHE_KIB = 2_000
REBUILD_CACHE_KIB = 64_000
"""What SQLite keeps of a file in memory: a rebuild goes back to pages that it has left, and sorts
whole indexes in it."""

PG_TYPES = {"int": "bigint", "str": "text", "bool": "boolean", "json": "text"}


def file_of(data: Path, projection: Projection) -> Path:
    """The SQLite file of a projection's version below the data directory."""
    return data / FOLDER / f"{projection.name}.v{projection.version}.db"


def sqlite_engine(file: Path, *, write: bool, cache_kib: int = CACHE_KIB) -> sa.Engine:
    """An engine over one file. A reading one never makes it. `cache_kib`: of its pages in memory.

    `synchronous=NORMAL`: a power failure may cost the last transactions, never the file, and never
    rows without their checkpoint; what is lost is read from the log again, which is durable.
    """

    def connect() -> pysqlite3.Connection:
        connection = pysqlite3.connect(
            f"file:{quote(str(file))}?mode={'rwc' if write else 'ro'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=5,
        )
        if write:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA cache_size=-{cache_kib}")
        return connection

    return _sqlite(connect, sa.QueuePool, "BEGIN IMMEDIATE" if write else "BEGIN")


def memory_engine(connection: pysqlite3.Connection) -> sa.Engine:
    """An engine over one connection, for tables that nobody else is to see."""
    return _sqlite(lambda: connection, sa.StaticPool, "BEGIN")


def _sqlite(connect: Callable[[], pysqlite3.Connection], pool: Any, begin: str) -> sa.Engine:
    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        module=pysqlite3,
        poolclass=pool,
        execution_options={"schema_translate_map": {SCHEMA: None}},
    )

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def postgres_engine(url: str, *, write: bool) -> sa.Engine:
    """An engine over a database; nothing on it waits for ever.

    A reading one sees one state of the database for as long as its transaction lasts. A writing one
    waits for no disk, as on SQLite: a crash of the server may cost the last transactions, whole
    ones, and what they held is read from the log again.
    """
    settings = {
        "lock_timeout": "5s",
        "statement_timeout": "60s",
        "idle_in_transaction_session_timeout": "60s",
    }
    if write:
        settings["synchronous_commit"] = "off"

    def connect() -> Any:
        driver: Any = engine.dialect.loaded_dbapi
        return driver.connect(url, connect_timeout=10, application_name="jobledger")

    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_pre_ping=not write,
        execution_options={}
        if write
        else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute(f"SET {name} = '{value}'")
        connection.commit()

    return engine


class Bulk:
    """Reads and writes many rows at once through the driver, inside a connection's transaction.

    `alone`: nobody waits for what is written. Then many new rows are copied into PostgreSQL; a
    process that froze meanwhile would be ended by none of the server's timeouts.
    """

    def __init__(self, connection: sa.Connection, *, alone: bool = False) -> None:
        self._alone = alone
        self._cursor: Any = connection.connection.cursor()
        self._postgres = connection.dialect.name == "postgresql"

    def load(self, table: Table[Any], keys: Sequence[Key]) -> dict[Key, Any]:
        """The rows that there are of these keys."""
        found = self._load_postgres if self._postgres else self._load_sqlite
        rows = [table.read(stored) for stored in found(table, keys)]
        names = [c.name for c in table.columns[: table.key]]
        return {tuple(getattr(row, name) for name in names): row for row in rows}

    def greatest(self, table: Table[Any]) -> int | None:
        """The greatest number that the key of a row begins with; None if there is no row."""
        name = _name(table) if self._postgres else f'"{table.sql.name}"'
        query = f'SELECT max("{table.columns[0].name}") FROM {name}'  # noqa: S608
        found: int | None = self._cursor.execute(query).fetchone()[0]
        return found

    def _load_sqlite(self, table: Table[Any], keys: Sequence[Key]) -> list[Any]:
        where = " AND ".join(f'"{c.name}" = ?' for c in table.columns[: table.key])
        query = f'SELECT * FROM "{table.sql.name}" WHERE {where}'  # noqa: S608
        found = (self._cursor.execute(query, key).fetchone() for key in keys)
        return [row for row in found if row is not None]

    def _load_postgres(self, table: Table[Any], keys: Sequence[Key]) -> list[Any]:
        columns = table.columns[: table.key]
        same = " AND ".join(f't."{c.name}" = k."{c.name}"' for c in columns)
        query = f"SELECT t.* FROM {_name(table)} AS t JOIN {_arrays(columns)} ON {same}"  # noqa: S608
        rows: list[Any] = []
        for start in range(0, len(keys), ROWS_AT_ONCE):
            part = keys[start : start + ROWS_AT_ONCE]
            rows += self._cursor.execute(query, _columns(part)).fetchall()
        return rows

    def apply(self, change: Change) -> None:
        """Let a table be as it is after a batch."""
        table, new, rows, gone = change
        if self._postgres and self._alone and len(new) >= COPY_FROM:
            self._copy(table, new)
        else:
            rows = [*new, *rows]
        if rows:
            self._upsert(table, rows)
        if gone:
            self._delete(table, gone)

    def _copy(self, table: Table[Any], rows: Sequence[Any]) -> None:
        """Insert rows that are not there: arrays as parameters take three times as long."""
        names = ", ".join(f'"{c.name}"' for c in table.columns)
        with self._cursor.copy(f"COPY {_name(table)} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(table.stored(row))

    def _upsert(self, table: Table[Any], rows: Sequence[Any]) -> None:
        """Make the rows of their keys be these."""
        stored = [table.stored(row) for row in rows]
        names = ", ".join(f'"{c.name}"' for c in table.columns)
        if not self._postgres:
            marks = ", ".join("?" * len(table.columns))
            query = f'REPLACE INTO "{table.sql.name}" ({names}) VALUES ({marks})'  # noqa: S608
            self._cursor.executemany(query, stored)
            return
        key = ", ".join(f'"{c.name}"' for c in table.columns[: table.key])
        rest = [f'"{c.name}" = excluded."{c.name}"' for c in table.columns[table.key :]]
        query = (
            f"INSERT INTO {_name(table)} ({names}) SELECT * FROM {_arrays(table.columns)} "  # noqa: S608
            f"ON CONFLICT ({key}) DO {'UPDATE SET ' + ', '.join(rest) if rest else 'NOTHING'}"
        )
        for start in range(0, len(stored), ROWS_AT_ONCE):
            self._cursor.execute(query, _columns(stored[start : start + ROWS_AT_ONCE]))

    def _delete(self, table: Table[Any], keys: Sequence[Key]) -> None:
        """Let there be no rows of these keys."""
        if not self._postgres:
            where = " AND ".join(f'"{c.name}" = ?' for c in table.columns[: table.key])
            query = f'DELETE FROM "{table.sql.name}" WHERE {where}'  # noqa: S608
            self._cursor.executemany(query, keys)
        else:
            columns = table.columns[: table.key]
            same = " AND ".join(f't."{c.name}" = k."{c.name}"' for c in columns)
            query = f"DELETE FROM {_name(table)} AS t USING {_arrays(columns)} WHERE {same}"  # noqa: S608
            self._cursor.execute(query, _columns(keys))


def _name(table: Table[Any]) -> str:
    return f'{SCHEMA}."{table.sql.name}"'


def _arrays(columns: Sequence[Any]) -> str:
    """Rows out of one array parameter a column, under the columns' names."""
    arrays = ", ".join(f"%s::{PG_TYPES[c.kind]}[]" for c in columns)
    names = ", ".join(f'"{c.name}"' for c in columns)
    return f"unnest({arrays}) AS k({names})"


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
