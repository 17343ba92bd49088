"""How projections lie in their databases: rows and bytes."""

from pathlib import Path

import sqlalchemy as sa

from ledger.projection.database import file_of
from ledger.projection.model import SCHEMA, Projection
from ledger.projection.reader import Reader, Unavailable


def size(reader: Reader, projection: Projection, data: Path | None, url: str | None) -> int | None:
    """The bytes that a projection takes on disk; None where there is none of it."""
    if not url and data is not None:
        file = file_of(data, projection)
        parts = [file.with_name(file.name + end) for end in ("", "-wal")]
        return sum(part.stat().st_size for part in parts if part.exists()) or None
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
