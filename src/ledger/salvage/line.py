"""One log out of several sources: as far as the chain proves it, and what can be read behind.

The rows of all sources are merged by position, and the chain decides which of them belong together:
a commit counts if its hash is right over what came before it, whichever source each of its rows
came from. Where that ends, commits that are whole in themselves are taken as they are, and at last
single rows; both are unproven, since something before them is missing.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby, islice, product
from typing import NamedTuple, Protocol

from ledger.codec import CODEC, BrokenEvent, UnknownEvent
from ledger.events import Recorded
from ledger.salvage.sources import Source, said
from ledger.store.chain import COMMIT_STREAM, EMPTY, CommitHeader, Head, Row
from ledger.store.commits import check, read_header
from ledger.store.log import LogCorrupt

TOLD_EVERY = 10_000
MAX_WAYS = 256
"""Of putting a commit together, where copies of its rows differ."""


class Taker(Protocol):
    """Who is given the events, in the order of the log."""

    def proven(self, recorded: Recorded) -> None:
        """An event that the chain proves."""

    def unproven(self, recorded: Recorded) -> None:
        """An event behind a break. Its time may be that of an earlier commit."""


class Gap(NamedTuple):
    """Positions of which nothing can be read."""

    first: int
    last: int


@dataclass
class Extent:
    """How far a log could be read: `proven` is its head as far as the chain holds.

    `last` is the last position that can be read at all, `at` (µs) the time of the last commit that
    can; `gaps` lie behind the proven head. `unproven` counts events there. `unknown` and `broken`
    count events of which this release makes nothing, by name.
    """

    proven: Head = EMPTY
    last: int = 0
    at: int = 0
    unproven: int = 0
    gaps: list[Gap] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)


class Copy(NamedTuple):
    """A row, and the sources that have it so."""

    row: Row
    sources: frozenset[int]


Progress = Callable[[int, int], None]
"""Told now and then how far it has come, and the last position that any source may have."""


def read(sources: Sequence[Source], taker: Taker, progress: Progress | None = None) -> Extent:
    """Read a log out of all sources, and give its events to `taker`. Where they tell of several
    logs, the one that went on the longest is meant."""
    ordered = sorted(sources, key=lambda source: (-source.until, -source.reach))
    return _Line(ordered, taker, progress).read()


class _Line:
    def __init__(self, sources: Sequence[Source], taker: Taker, progress: Progress | None) -> None:
        self._sources, self._taker, self._progress = sources, taker, progress
        self._told = 0
        self._merged = _positions(sources)
        self._ahead: dict[int, list[Copy]] = {}
        self._pulled = 0
        self._ended = False
        self._others: set[int] = set()
        self.extent = Extent()

    def read(self) -> Extent:
        head = EMPTY
        while (found := self._next(head)) is not None:
            head, rows = found
            self._give(head, rows, proven=True)
            self.extent.proven = head
        self._read_behind(head)
        return self.extent

    def _read_behind(self, head: Head) -> None:
        """What lies behind the break: whole commits, and rows of others."""
        while (position := self._following(head.position)) is not None:
            if position > head.position + 1:
                self.extent.gaps.append(Gap(head.position + 1, position - 1))
            found = self._next(head) or self._alone(position)
            if found is not None:
                head, rows = found
                self._give(head, rows, proven=False)
                continue
            head = Head(position, head.commit, "", head.at, head.epoch)
            rows = [copy.row for copy in self._copies(position)]
            self._give(head, [row for row in rows if row.stream != COMMIT_STREAM], proven=False)
            self._forget(position)

    def _give(self, head: Head, rows: Iterable[Row], *, proven: bool) -> None:
        extent = self.extent
        extent.last, extent.at = head.position, max(extent.at, head.at)
        if self._progress is not None and head.position >= self._told + TOLD_EVERY:
            self._told = head.position
            self._progress(head.position, max(source.reach for source in self._sources))
        give = self._taker.proven if proven else self._taker.unproven
        for position, stream, version, name, data in rows:
            try:
                event, envelope = CODEC.decode(name, data)
            except UnknownEvent:
                extent.unknown[name] = extent.unknown.get(name, 0) + 1
                continue
            except (BrokenEvent, UnicodeDecodeError, RecursionError):
                extent.broken[name] = extent.broken.get(name, 0) + 1
                continue
            extent.unproven += not proven
            _, n, _, at, epoch = head
            give(Recorded(position, stream, version, n, at, epoch, "", event, envelope))

    # commits

    def _next(self, head: Head) -> tuple[Head, list[Row]] | None:
        """The commit that follows `head`, of whichever copies it can be made; None: of none."""
        if not head.hash:
            return None
        for header in self._copies(head.position + 1):
            found = self._whole(header, head)
            if found is not None:
                self._tell_others(head.position + 1, header)
                self._forget(found[0].position)
                return found
        return None

    def _alone(self, position: int) -> tuple[Head, list[Row]] | None:
        """A commit at a position that is whole in itself, whatever came before it."""
        for header in self._copies(position):
            found = self._whole(header, None)
            if found is not None:
                self._forget(found[0].position)
                return found
        return None

    def _whole(self, header: Copy, head: Head | None) -> tuple[Head, list[Row]] | None:
        told = _header(header.row)
        if told is None:
            return None
        if head is None:
            head = Head(told.first - 1, told.n - 1, told.prev, 0, 0)
        copies = []
        for position in range(told.first + 1, told.first + 1 + told.count):
            here = [c.row for c in self._copies(position) if c.row.stream != COMMIT_STREAM]
            if not here:
                return None
            copies.append(here)
        for rows in islice(product(*copies), MAX_WAYS):
            try:
                return check(head, told, header.row, rows), list(rows)
            except (LogCorrupt, TypeError, AttributeError, OverflowError, struct.error):
                continue
        return None

    def _tell_others(self, position: int, taken: Copy) -> None:
        """Sources that have another commit here, whole in itself, tell of another log."""
        for copy in list(self._copies(position)):
            mine = copy.sources - taken.sources
            if mine and copy.row != taken.row and self._whole(copy, None) is not None:
                self._others |= mine
                for n in mine:
                    self._sources[n].other = position

    # rows

    def _copies(self, position: int) -> list[Copy]:
        """The copies of a row, of sources that tell of this log."""
        self._pull(position)
        here = self._ahead.get(position, [])
        return [c for c in here if not c.sources <= self._others] if self._others else here

    def _following(self, position: int) -> int | None:
        """The first position behind this one of which there is a row; None: there is none."""
        while True:
            known = [p for p in self._ahead if p > position and self._copies(p)]
            if known:
                return min(known)
            if self._ended:
                return None
            self._pull(self._pulled + 1)

    def _pull(self, position: int) -> None:
        while self._pulled < position and not self._ended:
            found = next(self._merged, None)
            if found is None:
                self._ended = True
            else:
                self._pulled, copies = found
                self._ahead[self._pulled] = copies

    def _forget(self, position: int) -> None:
        for old in [p for p in self._ahead if p <= position]:
            del self._ahead[old]


def _header(row: Row) -> CommitHeader | None:
    try:
        return read_header(row)
    except LogCorrupt:
        return None


def _positions(sources: Sequence[Source]) -> Iterator[tuple[int, list[Copy]]]:
    """The rows of all sources by position: each distinct one once, with those that have it."""
    every = (_plausible(n, source) for n, source in enumerate(sources))
    for position, some in groupby(merge(*every, key=_position), key=_position):
        copies: dict[Row, set[int]] = {}
        for row, n in some:
            copies.setdefault(row, set()).add(n)
        yield position, [Copy(row, frozenset(ns)) for row, ns in copies.items()]


def _position(found: tuple[Row, int]) -> int:
    return found[0].position


def _plausible(n: int, source: Source) -> Iterator[tuple[Row, int]]:
    """The rows of a source that lie where they say, in their order; what it has is counted."""
    last = 0
    for row in source.rows():
        header = said(row) if row.stream == COMMIT_STREAM else None
        place = row.version if header is None else header.first
        if place != row.position or row.position < last:
            continue
        if header is not None:
            source.at = max(source.at, header.at)
        last = row.position
        source.first = source.first or last
        source.last = last
        source.rows_read += 1
        yield row, n
