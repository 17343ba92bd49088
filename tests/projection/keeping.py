"""What the tests of projections share: logs in memory, and projections kept in a place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg
import pysqlite3  # type: ignore[import-untyped]

from ledger.events import Event, JobsSubmitted, Recorded
from ledger.projection import Projection, Table
from ledger.projection.database import file_of
from ledger.projection.discover import discover
from ledger.projection.follower import Follower
from ledger.projection.source import Source, batch
from ledger.testing.projections import close, kept, wandered
from ledger.testing.projections import held as dump
from ledger.testing.stories import Story
from places import Place

__all__ = ["close", "dump", "kept", "wandered"]

PROJECTIONS = list(discover().projections.values())
"""All that are installed: one that is added is tried by itself."""


class End(NamedTuple):
    """A commit's end."""

    position: int
    hash: str
    at: int


class Told(Source):
    """A story as a log to read, as far as it has been told."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.name = story.incarnation
        self.prefix = "hash"

    @property
    def incarnation(self) -> str:
        return self.name

    def ends(self) -> list[End]:
        found, position = [], 0
        for n, draft in enumerate(self.story.drafts, 1):
            position += 1 + len(draft.facts)
            found.append(End(position, f"{self.prefix}-{n}", draft.at))
        return found

    def head(self) -> End:
        return (self.ends() or [End(0, "", 0)])[-1]

    def commit_at(self, position: int) -> End | None:
        return next((end for end in self.ends() if end.position == position), None)

    def commit_before(self, position: int) -> int:
        return max((end.position for end in self.ends() if end.position <= position), default=0)

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        whole = max(
            (e.position for e in self.ends() if upto is None or e.position <= upto), default=0
        )
        assert after == 0 or self.commit_at(after)
        return (r for r in self.story.events if after < r.position <= whole)

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        return (r for r in self.story.events if r.stream == stream and r.position > after)


def in_batches(follower: Follower, source: Source, size: int) -> None:
    """Take in all there is, some events at a time."""
    follower.catch_up(lambda after: batch(source, after, size))


def ask(follower: Follower, query: Any, *args: Any, **kwargs: Any) -> Any:
    """What a query gives."""
    with follower._store._engine.begin() as connection:
        return query(connection, *args, **kwargs)


def behind(place: Place, projection: Projection, statement: str) -> list[Any]:
    """Run a statement on the database of a projection, behind its back."""
    if place.url:
        with psycopg.connect(place.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
    assert place.data is not None
    connection = pysqlite3.connect(file_of(place.data, projection), isolation_level=None)
    try:
        return list(connection.execute(statement.replace("projections.", "")).fetchall())
    finally:
        connection.close()


class NameRow(msgspec.Struct, frozen=True):
    """A job's name."""

    job: int
    name: str


def names(chokes_on: str = "", version: int = 1, extra: type[Event] | None = None) -> Projection:
    """A projection of jobs' names that can't digest one of them."""

    def keys(r: Recorded) -> list[tuple[int]]:
        e = r.event
        return [(e.first_job + i,) for i in range(e.count)] if isinstance(e, JobsSubmitted) else []

    def evolve(key: tuple[int], row: NameRow | None, r: Recorded) -> NameRow | None:
        assert isinstance(r.event, JobsSubmitted)
        name = r.event.specs[0].name
        if name and name == chokes_on:
            raise ValueError(f"{name} is hard to digest")
        return NameRow(key[0], name)

    events = (JobsSubmitted, extra) if extra else (JobsSubmitted,)
    table = Table("names", NameRow, key=1, events=events, keys=keys, evolve=evolve)
    return Projection("names", version=version, tables=(table,))


def folder(place: Place, tmp_path: Path) -> Path:
    """A data directory, needed or not."""
    return place.data or tmp_path
