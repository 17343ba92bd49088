"""Where a log lies, and how it is made, opened and brought up to date."""

import os
from contextlib import closing
from pathlib import Path

import psycopg
import pysqlite3  # type: ignore[import-untyped]

from ledger.store.log import Log, LogUnavailable
from ledger.store.sqlite import SQLiteLog, connect

FILE = "log.db"
REVISIONS = ("0001",)
"""The migrations this release knows, oldest first: those in `alembic/versions`."""


def open_log(
    data: Path | None,
    url: str | None,
    *,
    write: bool,
    create: bool = False,
    unfinished: bool = False,
) -> Log:
    """The log in the directory `data`, or in the PostgreSQL database `url` if one is given.

    A place without a log is refused, unless `create` makes one there. Raises `LogUnavailable` for
    that, for a log of a newer release, and, if it is to be written, for one of an older release;
    unless `unfinished`, also for one into which a restore did not end.
    """
    place = url or str(data)
    version = db_version(data, url)
    if version is None and create:
        version = db_upgrade(data, url)
    if version is None:
        traces = " although there was one" if data is not None and had_log(data) else ""
        raise LogUnavailable(f"there is no log in {_shown(place)}{traces}; nothing was created")
    _check_version(version, _shown(place), write=write)
    if url:
        from ledger.store.postgres import PostgresLog

        if not unfinished:
            _check_finished(url)
        return PostgresLog(url, write=write)
    return SQLiteLog(_file(data), write=write)


def size_of(data: Path) -> int:
    """The bytes that a log in SQLite takes on disk."""
    files = (data / f"{FILE}{end}" for end in ("", "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def had_log(data: Path) -> bool:
    """Does a data directory hold what only a log can have left there: checkpoints, projections?

    Then a log that is not there was lost, or lies on a disk that is not mounted, and a new one in
    its place would be another, empty cluster.
    """
    return any(any(data.glob(trace)) for trace in ("checkpoints/*.checkpoint", "projections/*.db"))


def db_version(data: Path | None, url: str | None) -> str | None:
    """The schema version of a log; None where there is none yet. Raises `LogUnavailable`."""
    if url:
        with _connected(url) as connection:
            row = connection.execute("SELECT to_regclass('alembic_version')::text").fetchone()
            if row is None or row[0] is None:
                return None
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    else:
        file = _file(data)
        if not file.exists() or file.stat().st_size == 0:
            return None
        with closing(connect(file, "ro")) as reader:
            try:
                tables = reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
                if tables == 0:
                    return None
                found = reader.execute("SELECT version_num FROM alembic_version").fetchone()
            except (pysqlite3.Error, UnicodeDecodeError) as error:
                raise LogUnavailable(f"{file} is not a jobledger log: {error}") from error
    return str(found[0]) if found else None


def db_upgrade(data: Path | None, url: str | None) -> str:
    """Make a log's tables, or bring them up to this release; the version they then have.

    One transaction: they are the old ones or the new ones, never between. The caller holds the
    master's lock. Raises `LogUnavailable` for a log of a newer release.
    """
    place = _shown(url or str(data))
    version = db_version(data, url)
    if version is not None:
        _check_version(version, place, write=False)
    from ledger.store import migrate

    if url:
        engine = migrate.postgres_engine(lambda: _connected(url))
    else:
        _file(data).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _file(data).touch(mode=0o600)
        engine = migrate.sqlite_engine(_file(data))
    migrate.migrate(engine, place)
    if not url:
        sync_directory(_file(data).parent)
    return REVISIONS[-1]


def set_unfinished(url: str, *, unfinished: bool) -> None:
    """Mark the log in a database as one that is being restored, or take the mark away."""
    with _connected(url) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'restoring'")
        if unfinished:
            connection.execute("INSERT INTO meta VALUES ('restoring', 'not ended')")


def _check_finished(url: str) -> None:
    with _connected(url) as connection:
        found = connection.execute("SELECT 1 FROM meta WHERE key = 'restoring'").fetchone()
    if found is not None:
        raise LogUnavailable(
            f"a restore into {_shown(url)} was interrupted, and what is there is a part of a log: "
            "drop this database, create it anew, and restore again"
        )


def _connected(url: str) -> psycopg.Connection:
    try:
        return psycopg.connect(url, connect_timeout=10)
    except psycopg.Error as error:
        raise LogUnavailable(f"can't reach the database {_shown(url)}: {error}") from error


def _check_version(version: str, place: str, *, write: bool) -> None:
    if version not in REVISIONS:
        raise LogUnavailable(
            f"the log in {place} was made by a newer release (schema {version}; "
            f"this one knows up to {REVISIONS[-1]}): install that release"
        )
    if write and version != REVISIONS[-1]:
        raise LogUnavailable(
            f"the log in {place} has the older schema {version}: run `jobledger db upgrade`"
        )


def _file(data: Path | None) -> Path:
    if data is None:
        raise LogUnavailable("neither a data directory nor a database is given")
    return data / FILE


def _shown(place: str) -> str:
    """A place as it may be printed: a URL without its password."""
    if "://" not in place:
        return place
    known = psycopg.conninfo.conninfo_to_dict(place)
    return " ".join(f"{key}={value}" for key, value in known.items() if key != "password")


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on disk when this returns. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
