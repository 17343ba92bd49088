"""What a projection reads: whole commits out of a log, some at a time."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple, Protocol

from ledger.codec import BrokenEvent, UnknownEvent
from ledger.events import JobsSubmitted, ProjectionSkipped, Recorded

BATCH = 10_000
"""Events, or jobs in them, in one batch: what one transaction changes."""


class Place(Protocol):
    """A commit's end."""

    @property
    def position(self) -> int:
        """Its last position."""

    @property
    def hash(self) -> str:
        """The commit's hash."""

    @property
    def at(self) -> int:
        """The commit's time, µs."""


class _Beginning(NamedTuple):
    position: int = 0
    hash: str = ""
    at: int = 0


BEGINNING: Place = _Beginning()
"""Where nothing has happened yet."""


class Source(Protocol):
    """The part of a log that projections need: see `ledger.store.log.Log`."""

    @property
    def incarnation(self) -> str:
        """The id of this copy of the log."""

    def head(self) -> Place:
        """The last whole commit."""

    def commit_at(self, position: int) -> Place | None:
        """The commit that ends at `position`; None if none ends there."""

    def commit_before(self, position: int) -> int:
        """Where the last whole commit at or before any position ends; 0 if there is none."""

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        """Every event behind `after`, of whole commits only."""

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        """The events of one stream."""


class Batch(NamedTuple):
    """Whole commits: their events, and where they end.

    `unreadable`: why the commit behind them can't be read, with the position where it goes wrong.
    """

    events: list[Recorded]
    end: Place
    unreadable: tuple[int, str] | None = None


def batch(source: Source, after: int, size: int = BATCH) -> Batch | None:
    """The next whole commits behind `after`; None if there are none.

    As many as hold `size` events, or jobs in them: one more commit's worth at most.
    """
    head = source.head()
    reach = size
    while head.position > after:
        upto = min(after + reach + 1, head.position)
        found = _read(source, source.read(after, upto), after, size)
        if found.events or found.unreadable or upto == head.position:
            return _batch(source, after, found, head if upto == head.position else None)
        reach *= 2
    return None


class Batches:
    """The same, out of one read of all that the log holds when it begins: of a long one, whole
    commits are read ahead while those before them are made use of (`ledger.store.ahead`)."""

    def __init__(self, source: Source, size: int) -> None:
        self._source, self._size = source, size
        self._behind, self._head = -1, BEGINNING
        self._events: Iterator[Recorded] = iter(())
        self._beyond: Recorded | None = None

    def next(self, after: int) -> Batch | None:
        """The next whole commits behind `after`, which lie where those before them ended; if not,
        they are read anew. None if there are none."""
        if after != self._behind:
            self._head = self._source.head()
            if self._head.position <= after:
                return None
            self._events, self._beyond = self._source.read(after, self._head.position), None
        events = self._events if self._beyond is None else chain((self._beyond,), self._events)
        found = _read(self._source, events, after, self._size)
        made = _batch(self._source, after, found, self._head)
        self._beyond = found.beyond
        self._behind = -1 if found.beyond is None else made.end.position
        return made


def weight_of(recorded: Recorded) -> int:
    """What an event counts for in a batch: the jobs in it, or one."""
    event = recorded.event
    return event.count if type(event) is JobsSubmitted else 1


def last_until(source: Source, at: int) -> Place:
    """The last commit at or before a time (µs); a place at position 0 if there is none."""
    low, high, found = 0, source.head().position, BEGINNING
    while low < high:
        middle = (low + high + 1) // 2
        place = source.commit_at(source.commit_before(middle))
        if place is None or place.position <= low:  # no commit ends between low and middle
            low = middle
        elif place.at <= at:
            low, found = middle, place
        else:
            high = place.position - 1
    return found


def skips(source: Source, projection: str) -> frozenset[int]:
    """The positions that the log, as far as it is now, says this projection is to leave out."""
    return frozenset(
        r.event.position
        for r in source.read_stream("master")
        if isinstance(r.event, ProjectionSkipped) and r.event.projection == projection
    )


class _Read(NamedTuple):
    """`beyond`: the event behind them, if that was looked at."""

    events: list[Recorded]
    beyond: Recorded | None
    unreadable: tuple[int, str] | None


def _read(source: Source, found: Iterable[Recorded], after: int, size: int) -> _Read:
    """The first whole commits of these events behind `after`."""
    events: list[Recorded] = []
    weight = 0
    try:
        for recorded in found:
            if weight >= size and recorded.commit != events[-1].commit:
                return _Read(events, recorded, None)
            events.append(recorded)
            event = recorded.event  # what `weight_of` says, without a call for each
            weight += event.count if type(event) is JobsSubmitted else 1
    except (UnknownEvent, BrokenEvent) as error:
        last = events[-1].position if events else after
        at = last + (1 if events and source.commit_at(last) is None else 2)
        while events and source.commit_at(events[-1].position) is None:
            events.pop()
        return _Read(events, None, (at, str(error)))
    return _Read(events, None, None)


def _batch(source: Source, after: int, found: _Read, head: Place | None) -> Batch:
    """What was read; `head`: where a read that came to its end has ended."""
    whole = found.beyond is None and found.unreadable is None
    end = head if whole and head is not None else _end(source, after, found.events)
    return Batch(found.events, end, found.unreadable)


def _end(source: Source, after: int, events: list[Recorded]) -> Place:
    end = source.commit_at(events[-1].position if events else after)
    return BEGINNING if end is None else end
