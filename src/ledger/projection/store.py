"""The tables of one projection in a database, and its checkpoint: always changed together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from ledger.projection import checkpoint as checkpoints
from ledger.projection.checkpoint import Checkpoint
from ledger.projection.database import (
    CACHE_KIB,
    REBUILD_CACHE_KIB,
    Bulk,
    file_of,
    postgres_engine,
    sqlite_engine,
)
from ledger.projection.fold import Change, dump
from ledger.projection.model import SCHEMA, Key, Projection, Table

logger = structlog.get_logger("projection")

SWITCH_MS = 500
"""How long a switch waits for readers of the old tables at a time, on PostgreSQL."""


class Overtaken(Exception):
    """Another process has changed this projection: what is remembered of it is out of date."""


class Refused(Exception):
    """The database can't hold these rows, whenever they are tried again."""


class Store:
    """One projection's place, for the process that keeps it. Used by one thread at a time."""

    def __init__(self, projection: Projection, data: Path | None, url: str | None) -> None:
        self.projection = projection
        self._file = None if url or data is None else file_of(data, projection)
        if self._file is not None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            cache = REBUILD_CACHE_KIB if projection.is_twin else CACHE_KIB
            self._engine = sqlite_engine(self._file, write=True, cache_kib=cache)
        else:
            assert url is not None
            self._engine = postgres_engine(url, write=True)
        self._looking = self._engine
        if self._file is None:  # to begin and to end a transaction are two more words to the server
            self._looking = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._mark = 0
        self._driver: Any = self._engine.dialect.loaded_dbapi

    def open(self) -> Checkpoint:
        """Make the tables where there are none, or where their shape is another; the checkpoint.

        A file that SQLite can't read is removed: it can be made again. One that was deleted under
        us is let go of first.
        """
        if self.gone():
            self._engine.dispose()
        try:
            return self._opened()
        except sa.exc.DatabaseError as error:
            if self._file is None or type(error.orig) is not self._driver.DatabaseError:
                raise
            logger.error(
                "projection unreadable: made again", projection=self.projection.id, error=str(error)
            )
            self._engine.dispose()
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self._file.with_name(self._file.name + end).unlink()
            return self._opened()

    def gone(self) -> bool:
        """Is the file another than the one that was opened, or no more? Nothing may be written to
        it then: nobody would find it."""
        return self._file is not None and self._mark != 0 and _mark(self._file) != self._mark

    def _opened(self) -> Checkpoint:
        found = self._open()
        self._mark = _mark(self._file) if self._file is not None else 0
        return found

    def _open(self) -> Checkpoint:
        projection = self.projection
        with self._engine.begin() as connection:
            self._prepare(connection)
            known = checkpoints.read(connection, projection.id, lock=True)
            lost = self._lost(connection)
            if known is not None and known.shape == projection.shape and not lost:
                return known
            if known is not None and known.shape == projection.shape:
                logger.warning(
                    "projection lost tables: made again", projection=projection.id, lost=lost
                )
            elif known is not None:
                logger.warning("projection has other columns: made again", projection=projection.id)
            self._drop(connection)
            projection.metadata.create_all(connection)
            fresh = Checkpoint(shape=projection.shape)
            if known is None:
                checkpoints.insert(connection, projection.id, fresh)
            else:
                checkpoints.write(connection, projection.id, fresh)
            return fresh

    def _lost(self, connection: sa.Connection) -> list[str]:
        """The tables that should be there and are not."""
        there = sa.inspect(connection).get_table_names(schema=None if self._file else SCHEMA)
        return [t.sql.name for t in self.projection.tables if t.sql.name not in there]

    def _prepare(self, connection: sa.Connection) -> None:
        if self._file is None:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('projections'))"))
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        checkpoints.METADATA.create_all(connection)

    def _drop(self, connection: sa.Connection) -> None:
        """Drop the tables of this version, whatever an older shape of it called them."""
        schema = SCHEMA if self._file is None else None
        prefix = f"{self.projection.id}_"
        for name in sa.inspect(connection).get_table_names(schema=schema):
            if name.startswith(prefix):
                sa.Table(name, sa.MetaData(), schema=SCHEMA).drop(connection)

    def discard(self) -> None:
        """Let there be neither tables nor a checkpoint of this projection."""
        with self._engine.begin() as connection:
            self._prepare(connection)
            self._drop(connection)
            checkpoints.forget(connection, self.projection.id)

    def index(self, twin: Projection) -> None:
        """Make the indexes of this projection on a twin's tables, where they are not yet.

        They keep the names that they get here: SQLite renames no index.
        """
        for mine, new in zip(self.projection.tables, twin.tables, strict=True):
            for index in mine.sql.indexes:
                with self._engine.begin() as connection:
                    self._index(connection, index, mine, new)

    def _index(
        self, connection: sa.Connection, index: sa.Index, mine: Table[Any], new: Table[Any]
    ) -> None:
        schema = SCHEMA if self._file is None else None
        found = sa.inspect(connection)
        columns = [column.name for column in index.columns]
        if any(i["column_names"] == columns for i in found.get_indexes(new.sql.name, schema)):
            return
        taken = {i["name"] for i in found.get_indexes(mine.sql.name, schema)}
        name = str(index.name)
        if name in taken:
            name = name.replace(mine.sql.name, new.sql.name, 1)
        names = ", ".join(f'"{column}"' for column in columns)
        connection.exec_driver_sql(f'CREATE INDEX "{name}" ON {self._name(new)} ({names})')

    def take_over(
        self, twin: Projection, reached: Checkpoint, beyond: Callable[[Checkpoint], bool]
    ) -> Checkpoint | None:
        """Let a twin's tables be this projection's, in one transaction; the checkpoint then.

        None, and nothing changed, where the present one is `beyond` the twin. Readers see the old
        tables until it is done. Raises `Overtaken` where the twin is no longer as it was
        `reached`, and the database's own error where a reader keeps the old ones for too long.
        """
        after = msgspec.structs.replace(reached, shape=self.projection.shape)
        with self._engine.begin() as connection:
            if self._file is None:  # who waits for readers keeps others from reading
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{SWITCH_MS}ms'")
            known = checkpoints.read(connection, self.projection.id, lock=True)
            if known is None or checkpoints.read(connection, twin.id, lock=True) != reached:
                raise Overtaken
            if beyond(known):
                return None
            self._drop(connection)
            for mine, new in zip(self.projection.tables, twin.tables, strict=True):
                connection.exec_driver_sql(
                    f'ALTER TABLE {self._name(new)} RENAME TO "{mine.sql.name}"'
                )
            checkpoints.forget(connection, twin.id)
            checkpoints.write(connection, self.projection.id, after)
        return after

    def _name(self, table: Table[Any]) -> str:
        return f'{"" if self._file else SCHEMA + "."}"{table.sql.name}"'

    def load(self, table: Table[Any], keys: Sequence[Key]) -> dict[Key, Any]:
        """The rows that there are of these keys."""
        with self._looking.connect() as connection:
            return Bulk(connection).load(table, keys)

    def greatest(self, table: Table[Any]) -> int | None:
        """The greatest number that the key of a row begins with; None if there is no row."""
        with self._looking.connect() as connection:
            return Bulk(connection).greatest(table)

    def write(self, before: Checkpoint, after: Checkpoint, changes: Iterable[Change]) -> None:
        """Change rows and checkpoint in one transaction, or neither.

        Raises `Overtaken` if the checkpoint is not `before`, `Refused` for rows that the database
        can't hold, and whatever the driver raises where the database can't be reached.
        """
        if self.gone():
            raise Overtaken
        with self._refusals(), self._engine.begin() as connection:
            if not checkpoints.move(connection, self.projection.id, before, after):
                raise Overtaken
            bulk = Bulk(connection, alone=self.projection.is_twin)
            for change in changes:
                bulk.apply(change)

    def reset(self) -> Checkpoint:
        """Empty the tables and go back to the log's beginning, in one transaction."""
        fresh = Checkpoint(shape=self.projection.shape)
        with self._engine.begin() as connection:
            checkpoints.read(connection, self.projection.id, lock=True)
            for table in self.projection.tables:
                connection.execute(sa.delete(table.sql))
            checkpoints.write(connection, self.projection.id, fresh)
        return fresh

    def stop(self, before: Checkpoint, position: int, error: str) -> Checkpoint:
        """Note why the projection stands still. Raises `Overtaken`."""
        after = msgspec.structs.replace(before, stopped_at=position, error=error.replace("\0", "␀"))
        self.write(before, after, ())
        return after

    def dump(self) -> tuple[Checkpoint, bytes]:
        """The canonical bytes of all rows, and the checkpoint they belong to."""
        with self._engine.begin() as connection:
            return dump_of(connection, self.projection)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        driver = self._driver
        try:
            yield
        except (driver.DataError, driver.IntegrityError, OverflowError, UnicodeError) as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        except (sa.exc.DataError, sa.exc.IntegrityError) as error:
            raise Refused(str(error.orig)) from error


def _mark(file: Path) -> int:
    """What tells a file from another of its name; -1 if there is none."""
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return -1


def dump_of(connection: sa.Connection, projection: Projection) -> tuple[Checkpoint, bytes]:
    """What a projection holds, as canonical bytes, and the checkpoint it belongs to."""
    found = checkpoints.read(connection, projection.id) or Checkpoint()
    rows: dict[str, Iterable[Any]] = {}
    for table in projection.tables:
        key = [table.c[c.name] for c in table.columns[: table.key]]
        rows[table.name] = table.rows(connection, table.select().order_by(*key))
    return found, dump(projection, rows)
