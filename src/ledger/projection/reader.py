"""Asking projections, from any process: read-only, each answer with the position it is true at."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Concatenate, Generic, Literal, NamedTuple, ParamSpec, TypeVar

import sqlalchemy as sa

from ledger.projection import checkpoint as checkpoints
from ledger.projection.checkpoint import Checkpoint
from ledger.projection.database import file_of, postgres_engine, sqlite_engine
from ledger.projection.model import SCHEMA, Projection
from ledger.projection.store import dump_of

LOOK_EVERY_S = 0.005
P = ParamSpec("P")
T = TypeVar("T")
State = Literal["up to date", "behind", "stopped", "unavailable"]


class Unavailable(Exception):
    """A projection can't be asked: it is not installed, not made yet, or can't be reached."""


class Answer(NamedTuple, Generic[T]):
    """What a query gave, the position it is true at, and by how many events that was too old."""

    value: T
    position: int
    lag: int


class Status(NamedTuple):
    """How far a projection has come; `stopped_at` is the event that it can't digest, or 0.

    `at`: the time of the last commit taken in, µs.
    """

    name: str
    version: int
    position: int
    at: int
    stopped_at: int
    error: str

    def behind(self, position: int, at: int) -> tuple[int, float]:
        """By how many events, and seconds of the log's time, it is behind a head."""
        events = max(0, position - self.position)
        return events, max(0, at - (self.at or at)) / 1_000_000 if events else 0.0

    def state(self, events_behind: int) -> State:
        """How it is, in words."""
        if self.stopped_at:
            return "stopped"
        if self.error:
            return "unavailable"
        return "behind" if events_behind else "up to date"


class Reader:
    """All projections of a ledger, for reading. Any number of threads may use it.

    `incarnation` is that of the log which they must be of, once it is known: one that still has
    rows of another, as after a restore until `follow` has made it again, is `Unavailable`.
    """

    def __init__(
        self,
        projections: Mapping[str, Projection],
        data: Path | None,
        url: str | None,
        incarnation: str = "",
    ) -> None:
        self.incarnation = incarnation
        self._projections = projections
        self._data, self._url = data, url
        self._engines: dict[str, tuple[int, sa.Engine]] = {}
        self._lock = Lock()

    @property
    def projections(self) -> Mapping[str, Projection]:
        """Those that can be asked, by name."""
        return self._projections

    def wait(self, name: str, at_least: int, timeout: float) -> int:
        """The position of a projection, once it is `at_least` this or `timeout` seconds are over.

        One that is being made, or whose database is starting again, is waited for as well. Raises
        `Unavailable` if it still can't be asked then.
        """
        deadline = time.monotonic() + timeout
        while True:
            late = time.monotonic() >= deadline
            try:
                found = self.checkpoint(name)
                if found.position >= at_least or found.stopped_at or late:
                    return found.position
            except Unavailable:
                if late or name not in self._projections:
                    raise
            time.sleep(min(LOOK_EVERY_S, max(0.0, deadline - time.monotonic())))

    def ask(
        self,
        name: str,
        query: Callable[Concatenate[sa.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Answer[T]:
        """What a query function of a projection gives now; see `at_least`."""
        return self.at_least(name, 0, 0, query, *args, **kwargs)

    def at_least(
        self,
        name: str,
        position: int,
        timeout: float,
        query: Callable[Concatenate[sa.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Answer[T]:
        """What a query gives once the projection has come to `position`, or after `timeout` s.

        The rows and the position told are of one state of the database. Raises `Unavailable`.
        """
        if position:
            self.wait(name, position, timeout)
        projection = self._projection(name)
        with self._connected(projection) as connection:
            _hold(connection, projection)
            found = self._confirmed(projection, checkpoints.read(connection, projection.id))
            value = query(connection, *args, **kwargs)
        return Answer(value, found.position, max(0, position - found.position))

    def query(self, name: str, query: str) -> Callable[..., Any]:
        """A query function of a projection by its name, to be asked. Raises `Unavailable`."""
        found = self._projection(name).queries.get(query)
        if found is None:
            raise Unavailable(f"the projection {name} has no query {query}")
        return found

    def checkpoint(self, name: str) -> Checkpoint:
        """How far a projection has come. Raises `Unavailable`."""
        projection = self._projection(name)
        with self._connected(projection) as connection:
            return self._confirmed(projection, checkpoints.read(connection, projection.id))

    def status(self) -> list[Status]:
        """How far each projection has come; one that can't be reached says so in `error`."""
        told = []
        for name, projection in sorted(self._projections.items()):
            try:
                c = self.checkpoint(name)
            except Unavailable as error:
                c = Checkpoint(error=str(error))
            told.append(Status(name, projection.version, c.position, c.at, c.stopped_at, c.error))
        return told

    def dump(self, name: str) -> tuple[Checkpoint, bytes]:
        """The canonical bytes of a projection, and the checkpoint they belong to."""
        projection = self._projection(name)
        with self._connected(projection) as connection:
            _hold(connection, projection)
            found, rows = dump_of(connection, projection)
            return self._confirmed(projection, found), rows

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            for _, engine in self._engines.values():
                engine.dispose()
            self._engines.clear()

    def _projection(self, name: str) -> Projection:
        found = self._projections.get(name)
        if found is None:
            raise Unavailable(f"there is no projection {name}")
        return found

    def _confirmed(self, projection: Projection, found: Checkpoint | None) -> Checkpoint:
        """What was found, unless it is of another log. Raises `Unavailable`."""
        mine = self.incarnation
        if found is not None and found.position and mine and found.incarnation != mine:
            raise Unavailable(
                f"{projection.name} is still of another log, as after a restore: "
                "`jobledger follow` makes it again"
            )
        return found or Checkpoint()

    def _connected(self, projection: Projection) -> "_Reading":
        return _Reading(self._engine(projection), projection)

    def _engine(self, projection: Projection) -> sa.Engine:
        """The engine of a projection; another one when its file has been made again."""
        key, mark = "", 0
        if self._url is None:
            assert self._data is not None
            key, file = projection.id, file_of(self._data, projection)
            try:
                mark = file.stat().st_ino
            except FileNotFoundError:
                raise Unavailable(f"{projection.name} is not made yet") from None
        with self._lock:
            known = self._engines.get(key)
            if known is not None and known[0] == mark:
                return known[1]
            if known is not None:
                known[1].dispose()
            engine = (
                postgres_engine(self._url, write=False)
                if self._url
                else sqlite_engine(file, write=False)
            )
            self._engines[key] = (mark, engine)
            return engine


class _Reading:
    """One transaction whose database errors are `Unavailable`."""

    def __init__(self, engine: sa.Engine, projection: Projection) -> None:
        self._engine, self._projection = engine, projection
        self._begun: Any = None

    def __enter__(self) -> sa.Connection:
        try:
            self._begun = self._engine.begin()
            connection: sa.Connection = self._begun.__enter__()
        except sa.exc.DBAPIError as error:
            raise Unavailable(f"{self._projection.name}: {_first_line(error.orig)}") from error
        return connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._begun.__exit__(kind, error, trace)
        if isinstance(error, sa.exc.DBAPIError):
            raise Unavailable(f"{self._projection.name}: {_first_line(error.orig)}") from error


def _hold(connection: sa.Connection, projection: Projection) -> None:
    """Keep a rebuild from putting other tables in the place of these until the transaction is over.

    PostgreSQL would show what was there when the transaction began, in tables that were not. It
    takes its picture of the database after this lock.
    """
    if connection.dialect.name == "postgresql" and projection.tables:
        names = ", ".join(f'{SCHEMA}."{table.sql.name}"' for table in projection.tables)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS SHARE MODE")


def _first_line(error: BaseException | None) -> str:
    """What a database says, without its drawing of the statement."""
    return str(error).strip().partition("\n")[0]
