"""What the tests of projections share: logs in memory, and projections kept in a place."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import psycopg
import pysqlite3

from ledger.commands import SYSTEM, AnswerAbuse, NoteAbuse, SetPolicy
from ledger.events import Blob, Event, JobsSubmitted, Recorded
from ledger.projection import Projection, Table
from ledger.projection.database import file_of
from ledger.projection.follower import Follower
from ledger.projection.source import Source, batch
from ledger.projection.store import Store
from ledger.testing.stories import OPERATOR, Story, Wanderer
from ledger_projections import abuse, demand, jobs, occupancy, outage_impact, usage
from places import Place

PROJECTIONS = [
    projection.PROJECTION for projection in (jobs, outage_impact, usage, abuse, demand, occupancy)
]
NOTE = Blob(sha256="e" * 64, bytes=5)


def wandered(seed: int, steps: int) -> Story:
    """A story that took its course, in which rules of use are broken."""
    story = Story()
    rules = {"abuse_submissions_per_min": 1, "abuse_fail_jobs": 3, "abuse_idle_node_s": 60}
    story.ask(OPERATOR, SetPolicy(**rules, abuse_fail_percent=30, abuse_fail_within_s=600))
    wanderer = Wanderer(story, Random(seed))  # noqa: S311
    for step in range(steps):
        wanderer.walk(1)
        for user, rule in sorted(story.cluster.watch.due):
            story.ask(SYSTEM, NoteAbuse(user=user, rule=rule))
        if step % 20 == 0 and (last := story.cluster.watch.findings):
            story.ask(OPERATOR, AnswerAbuse(finding=last, note=NOTE if step % 40 else None))
    return story


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

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        whole = max(
            (e.position for e in self.ends() if upto is None or e.position <= upto), default=0
        )
        assert after == 0 or self.commit_at(after)
        return (r for r in self.story.events if after < r.position <= whole)

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        return (r for r in self.story.events if r.stream == stream and r.position > after)


def kept(projection: Projection, place: Place, source: Source) -> Follower:
    """A projection in a place, following a log; nothing is taken in yet."""
    return Follower(projection, Store(projection, place.data, place.url), source)


def in_batches(follower: Follower, source: Source, size: int) -> None:
    """Take in all there is, some events at a time."""
    follower.catch_up(lambda after: batch(source, after, size))


def dump(follower: Follower) -> bytes:
    """What the database holds."""
    return follower._store.dump()[1]


def ask(follower: Follower, query: Any, *args: Any, **kwargs: Any) -> Any:
    """What a query gives."""
    with follower._store._engine.begin() as connection:
        return query(connection, *args, **kwargs)


def close(*followers: Follower) -> None:
    """Let go of the database."""
    for follower in followers:
        follower._store.close()


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
