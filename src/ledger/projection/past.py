"""What a projection said at any position of the past: the log folded up to there.

There is no second mechanism: the same tables, in a private SQLite in memory; the same fold; the
same queries. The last few pasts that were asked for are kept, and a later one goes on from an
earlier one.
"""

import inspect
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, NamedTuple

import pysqlite3  # type: ignore[import-untyped]
import sqlalchemy as sa

from ledger.codec import BrokenEvent, UnknownEvent
from ledger.events import JobsSubmitted, Recorded
from ledger.projection.database import Bulk, memory_engine
from ledger.projection.fold import Rows, Undigestable
from ledger.projection.model import Key, Projection, Table
from ledger.projection.reader import Answer, Unavailable
from ledger.projection.source import BATCH, Source, skips, weight_of

KEPT = 8
MOST_BYTES = 1 << 30
"""So many pasts are kept, of so many bytes in all; none is larger than that."""

PAGE_BYTES = 4096
STEPS = 100_000
"""Steps of SQLite between two looks at the clock."""

MOST_JOBS = 10_000
"""Jobs in one submission, at most."""

OpenSource = Callable[[], AbstractContextManager[Source]]


class TooFar(Exception):
    """This past takes longer to find than one may, or is larger than one may be."""


class _Key(NamedTuple):
    projection: str
    position: int
    left_out: frozenset[int]

    def goes_on(self, earlier: "_Key") -> bool:
        """Is `earlier` what this past was, some commits before?"""
        return (
            earlier.projection == self.projection
            and earlier.position < self.position
            and earlier.left_out == {p for p in self.left_out if p <= earlier.position}
        )


class Pasts:
    """The pasts of a ledger's projections. Any number of threads may ask; one at a time folds."""

    def __init__(
        self,
        projections: Mapping[str, Projection],
        open_source: OpenSource,
        *,
        kept: int = KEPT,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._projections, self._open = projections, open_source
        self._most, self._most_bytes = kept, most_bytes
        self._kept: OrderedDict[_Key, Future[_Past]] = OrderedDict()
        self._lock, self._folding = Lock(), Lock()

    def ask(
        self, name: str, query: str, position: int, limit_s: float, /, *args: Any, **kwargs: Any
    ) -> Answer[Any]:
        """What a query of a projection gave at a commit's end (0: before anything had happened).

        The skips that the log records now are obeyed. Raises `Unavailable`, also where the
        projection can't digest what lies before; `TooFar` after `limit_s` seconds, or where it
        would need too much memory; and what the query raises.
        """
        projection = self._projections.get(name)
        function = projection.queries.get(query) if projection is not None else None
        if projection is None or function is None:
            raise Unavailable(f"there is no question {query} of a projection {name}")
        deadline = time.monotonic() + limit_s
        try:
            while True:
                if query in projection.by_job:
                    job = inspect.signature(function).bind(None, *args, **kwargs).arguments["job"]
                    past = self._of_job(projection, job, position, deadline)
                else:
                    past = self._whole(projection, position, deadline)
                try:
                    return Answer(past.ask(function, deadline, *args, **kwargs), position, 0)
                except _Gone:
                    continue
        except (Undigestable, UnknownEvent, BrokenEvent) as error:
            raise Unavailable(f"{name} could not digest what lies before: {error}") from error
        except sa.exc.OperationalError as error:
            if time.monotonic() > deadline:
                raise TooFar(f"it takes longer than {limit_s:.0f} s") from error
            raise

    def _whole(self, projection: Projection, position: int, deadline: float) -> "_Past":
        """All of a projection. Of those who ask for it at once, the first folds."""
        with self._open() as source:
            left_out = (p for p in skips(source, projection.name) if p <= position)
            key = _Key(projection.id, position, frozenset(left_out))
            with self._lock:
                known = self._kept.get(key)
                if known is None:
                    mine = self._kept[key] = Future()
                self._kept.move_to_end(key)
            if known is not None:
                return _in_time(known, deadline)
            try:
                past = self._folded(projection, source, key, deadline)
            except BaseException as error:
                with self._lock:
                    del self._kept[key]
                mine.set_exception(error)
                raise
        mine.set_result(past)
        self._forget()
        return past

    def _folded(
        self, projection: Projection, source: Source, key: _Key, deadline: float
    ) -> "_Past":
        with self._lock:
            earlier = max((k for k, f in self._kept.items() if f.done() and key.goes_on(k)),
                          key=lambda k: k.position, default=None)  # fmt: skip
            begun = self._kept[earlier].result() if earlier is not None else None
        past = _Past(projection, self._most_bytes)
        after = earlier.position if earlier and begun and past.copy(begun) else 0
        if not self._folding.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TooFar("others are looking further back")
        try:
            events = source.read(after, key.position) if key.position else ()
            past.fold(events, key.left_out, deadline)
        finally:
            self._folding.release()
        return past

    def _of_job(self, projection: Projection, job: int, position: int, deadline: float) -> "_Past":
        """As much of a projection as the events of one job, and of its submission, make."""
        past = _Past(projection, self._most_bytes)
        with self._open() as source:
            events = (r for r in events_of(source, job) if r.position <= position)
            past.fold(events, skips(source, projection.name), deadline)
        return past

    def _forget(self) -> None:
        """Let go of those that were asked for longest ago, where there are too many."""
        with self._lock:
            done = [(key, known.result()) for key, known in self._kept.items() if known.done()]
            count, size = len(done), sum(past.bytes for _, past in done)
            over = []
            for key, past in done[:-1]:
                if count > self._most or size > self._most_bytes:
                    count, size = count - 1, size - past.bytes
                    over.append(past)
                    del self._kept[key]
        for past in over:
            past.close()


def _in_time(past: "Future[_Past]", deadline: float) -> "_Past":
    try:
        return past.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise TooFar("the log up to there is too long to be read in time") from None


def events_of(source: Source, job: int) -> list[Recorded]:
    """The submission of a job and everything that happened to it, in order.

    What many jobs were submitted by is in the stream of the first of them.
    """
    own = list(source.read_stream(f"job-{job}"))
    for first in range(job, max(0, job - MOST_JOBS), -1):
        found = own if first == job else source.read_stream(f"job-{first}")
        if submitted := [r for r in found if isinstance(r.event, JobsSubmitted)]:
            return own if first == job else [*submitted, *own]
    return own


class _Gone(Exception):
    """This past was let go of meanwhile."""


class _Past:
    """The tables of a projection in memory, empty at first. One thread at a time uses them."""

    def __init__(self, projection: Projection, most_bytes: int) -> None:
        self._projection = projection
        self._connection = pysqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        self._engine = memory_engine(self._connection)
        self._most_bytes = most_bytes
        self._lock, self._closed = Lock(), False
        self._empty = True
        self.bytes = 0

    def copy(self, earlier: "_Past") -> bool:
        """Begin with the rows of another; whether that is still there."""
        with earlier._lock:
            if earlier._closed:
                return False
            earlier._connection.backup(self._connection)
        self._empty = False
        return True

    def fold(self, events: Iterable[Recorded], left_out: frozenset[int], deadline: float) -> None:
        """Take events in. Raises `TooFar` and `Undigestable`; then this is to be thrown away."""
        if self._empty:
            self._projection.metadata.create_all(self._engine, checkfirst=False)
        self._connection.execute(f"PRAGMA max_page_count={self._most_bytes // PAGE_BYTES}")
        rows = Rows(self._projection, self, empty=self._empty)
        try:
            for some in _portions(events, deadline):
                changes = rows.fold(some, left_out)
                with self._engine.begin() as connection:
                    bulk = Bulk(connection)
                    for change in changes:
                        bulk.apply(change)
                rows.forget()
        except pysqlite3.OperationalError as error:
            raise TooFar(f"its rows take more than {self._most_bytes} bytes: {error}") from error
        self._connection.execute("PRAGMA query_only=ON")
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self.bytes = pages * PAGE_BYTES

    def load(self, table: Table[Any], keys: Sequence[Key]) -> dict[Key, Any]:
        """The rows that there are of these keys."""
        with self._engine.begin() as connection:
            return Bulk(connection).load(table, keys)

    def greatest(self, table: Table[Any]) -> int | None:
        """The greatest number that the key of a row begins with."""
        with self._engine.begin() as connection:
            return Bulk(connection).greatest(table)

    def ask(self, function: Callable[..., Any], deadline: float, *args: Any, **kwargs: Any) -> Any:
        """What a query gives. Raises `_Gone`; SQLite interrupts it after the deadline."""
        with self._lock:
            if self._closed:
                raise _Gone
            self._connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
            with self._engine.begin() as connection:
                return function(connection, *args, **kwargs)

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            self._closed = True
            self._engine.dispose()
            self._connection.close()


def _portions(events: Iterable[Recorded], deadline: float) -> Iterator[list[Recorded]]:
    """Events, some at a time. Raises `TooFar` once it is too late."""
    some: list[Recorded] = []
    weight = 0
    for recorded in events:
        some.append(recorded)
        weight += weight_of(recorded)
        if weight >= BATCH:
            if time.monotonic() > deadline:
                raise TooFar("the log up to there is too long to be read in time")
            yield some
            some, weight = [], 0
    yield some
