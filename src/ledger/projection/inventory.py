"""How projections lie in their databases: rows, bytes, and versions that nothing names any more."""

import re
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from ledger.projection.database import FOLDER, file_of, postgres_engine
from ledger.projection.model import SCHEMA, Projection
from ledger.projection.reader import Reader, Unavailable
from ledger.projection.store import Store

FILE = re.compile(r"([a-z][a-z0-9_]*)\.v(\d+)\.db")
TABLE = re.compile(r"([a-z][a-z0-9_]*?)_v(\d+)(?:new)?_.*")


class Unused(NamedTuple):
    """A version of a projection that lies on disk, and that no installed code is: its bytes."""

    name: str
    version: int
    bytes: int


def size(reader: Reader, projection: Projection, data: Path | None, url: str | None) -> int | None:
    """The bytes that a projection takes on disk; None where there is none of it."""
    if not url and data is not None:
        return _file_size(file_of(data, projection)) or None
    query = sa.text(
        "SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) "
        "FROM unnest(cast(:names AS text[])) AS name"
    )
    names = [f'{SCHEMA}."{table.sql.name}"' for table in projection.tables]
    try:
        found = reader.ask(projection.name, lambda c: c.execute(query, {"names": names}).scalar())
    except Unavailable:
        return None
    return int(found.value or 0)


def rows(reader: Reader, projection: Projection) -> dict[str, int]:
    """How many rows each table has. Raises `Unavailable`."""

    def count(connection: sa.Connection) -> dict[str, int]:
        return {
            table.name: int(
                connection.execute(sa.select(sa.func.count()).select_from(table.sql)).scalar() or 0
            )
            for table in projection.tables
        }

    return reader.ask(projection.name, count).value


def unused(projections: Iterable[Projection], data: Path | None, url: str | None) -> list[Unused]:
    """What lies there of projections and versions other than these, by name and version.

    Raises `Unavailable`.
    """
    known = {(projection.name, projection.version) for projection in projections}
    found = _in_postgres(url) if url else _in_files(data) if data is not None else {}
    return [
        Unused(name, version, found[name, version])
        for name, version in sorted(found)
        if (name, version) not in known
    ]


def drop(name: str, version: int, data: Path | None, url: str | None) -> None:
    """Remove a version of a projection. One that is in use would be made again by `follow`.

    Raises the database's own error.
    """
    projection = Projection(name, version=version, tables=())
    if url is None and data is not None:
        file = file_of(data, projection)
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                file.with_name(file.name + end).unlink()
        return
    for one in (projection, projection.twin()):
        with closing(Store(one, data, url)) as store:
            store.discard()


def _file_size(file: Path) -> int:
    parts = [file.with_name(file.name + end) for end in ("", "-wal")]
    return sum(part.stat().st_size for part in parts if part.exists())


def _in_files(data: Path) -> dict[tuple[str, int], int]:
    files = sorted((data / FOLDER).glob("*.db"))
    named = ((FILE.fullmatch(file.name), file) for file in files)
    return {(m[1], int(m[2])): _file_size(file) for m, file in named if m}


def _in_postgres(url: str) -> dict[tuple[str, int], int]:
    query = sa.text(
        "SELECT relname, pg_total_relation_size(c.oid) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND relkind = 'r'"
    )
    engine = postgres_engine(url, write=False)
    try:
        with engine.begin() as connection:
            tables = connection.execute(query, {"schema": SCHEMA}).all()
    except sa.exc.DBAPIError as error:
        raise Unavailable(str(error.orig).strip().partition("\n")[0]) from error
    finally:
        engine.dispose()
    found: dict[tuple[str, int], int] = {}
    for table, size_ in tables:
        if size_ is not None and (m := TABLE.fullmatch(table)):  # None: it was dropped just now
            found[m[1], int(m[2])] = found.get((m[1], int(m[2])), 0) + size_
    return found
