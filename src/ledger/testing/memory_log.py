"""A log in memory that is one: chain, fence, incarnation, whole commits. And a disk that fails."""

import bisect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from ledger.events import Recorded
from ledger.store.chain import COMMIT_STREAM, EMPTY, Head, Row
from ledger.store.commits import (
    check_blobs,
    check_fence,
    check_rows,
    commits,
    draft_rows,
    head_of,
    recorded,
    recorded_alone,
)
from ledger.store.log import AppendFailed, Draft, StorageFull

Fault = Literal["full", "failed", "unknown"]
"""The disk is full; the append fails and did nothing; it fails, and was done."""


class Disk:
    """What lasts: the rows, the texts, the incarnation. Any number of logs may be opened on it.

    `faults` befall the next appends, in their order.
    """

    def __init__(self, incarnation: str = "0" * 32) -> None:
        self.incarnation = incarnation
        self.rows: list[Row] = []
        self.blobs: dict[str, bytes] = {}
        self.heads: list[Head] = [EMPTY]
        self.faults: deque[Fault] = deque()

    def copy(self, incarnation: str, commit: int | None = None) -> "Disk":
        """Another disk with the log up to a commit, as a backup restored gives it."""
        disk = Disk(incarnation)
        disk.heads = self.heads[: len(self.heads) if commit is None else commit + 1]
        disk.rows = self.rows[: disk.heads[-1].position]
        disk.blobs = dict(self.blobs)
        return disk

    def add(self, rows: Sequence[Row], blobs: Mapping[str, bytes]) -> None:
        """Make these last, whatever they say: a disk checks nothing."""
        self.heads += [head_of(row.data) for row in rows if row.stream == COMMIT_STREAM]
        self.rows += rows
        self.blobs.update(blobs)


class MemoryLog:
    """`store.log.Log` over a disk in memory. `reachable` says whether the disk can be reached."""

    def __init__(
        self, disk: Disk, *, write: bool = True, reachable: Callable[[], bool] = lambda: True
    ) -> None:
        self.disk = disk
        self._write = write
        self._reachable = reachable
        self._fence = disk.heads[-1]

    @property
    def incarnation(self) -> str:
        """The id of this copy of the log."""
        return self.disk.incarnation

    def head(self) -> Head:
        """The last whole commit."""
        return self.disk.heads[-1]

    def append(self, drafts: Sequence[Draft]) -> Head:
        """As `Log.append`, with the disk's next fault."""
        rows, head = draft_rows(self._fence, drafts)
        blobs: dict[str, bytes] = {}
        for draft in drafts:
            blobs.update(draft.blobs)
        return self._append(rows, head, blobs)

    def append_rows(self, rows: Sequence[Row], blobs: Mapping[str, bytes]) -> Head:
        """As `Log.append_rows`."""
        return self._append(rows, check_rows(self._fence, rows), blobs)

    def _append(self, rows: Sequence[Row], head: Head, blobs: Mapping[str, bytes]) -> Head:
        if not self._write:
            raise AppendFailed("this log was opened for reading only, or has failed before")
        check_blobs(blobs)
        if not self._reachable():
            self._write = False
            raise AppendFailed("the disk can't be reached")
        check_fence(self._fence, self.head())
        fault = self.disk.faults.popleft() if self.disk.faults else None
        if fault == "full":
            raise StorageFull("no room for the log")
        self._write = fault is None
        if fault != "failed":
            self.disk.add(rows, blobs)
        if fault is not None:
            raise AppendFailed(f"the append failed: {fault}")
        self._fence = head
        return head

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        """Every event behind `after`, of whole commits, checked against the chain."""
        start = EMPTY if after == 0 else self.commit_at(after)
        if start is None:
            raise ValueError(f"no commit ends at position {after}")
        found = commits(start, [list(self.rows(after, upto))], whole=upto is None)
        return (event for commit in found for event in recorded(commit, self.incarnation))

    def rows(self, after: int = 0, upto: int | None = None) -> Iterator[Row]:
        """Every row behind `after`, unchecked."""
        return iter(self.disk.rows[after:upto])

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        """The events of one stream."""
        for row in list(self.rows(after)):
            if row.stream == stream:
                commit = self._heads_before(row.position)
                header = self.disk.rows[self.disk.heads[commit - 1].position]
                yield recorded_alone(row, header.data, self.incarnation)

    def _heads_before(self, position: int) -> int:
        """The number of the commit that `position` lies in, or that ends there."""
        return bisect.bisect_left(self.disk.heads, position, key=lambda head: head.position)

    def commit_at(self, position: int) -> Head | None:
        """The commit that ends at `position`."""
        n = self._heads_before(position)
        if position <= 0 or n == len(self.disk.heads):
            return None
        return head if (head := self.disk.heads[n]).position == position else None

    def commit_before(self, position: int) -> int:
        """Where the last whole commit at or before a position ends."""
        heads = self.disk.heads
        return heads[bisect.bisect_right(heads, position, key=lambda h: h.position) - 1].position

    def blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Texts by digest."""
        return {d: self.disk.blobs[d] for d in digests if d in self.disk.blobs}

    def all_blobs(self) -> Iterator[tuple[str, bytes]]:
        """Every text, in the order of digests."""
        return iter(sorted(self.disk.blobs.items()))

    def replaced(self) -> bool:
        """A disk keeps its log."""
        return False

    def inspect(self, last: int) -> None:
        """There is no database underneath that could be damaged."""

    def wait(self, after: int, timeout: float) -> bool:
        """Is there more? Nobody else can append while this is asked, so it need not wait."""
        return self.head().position > after

    def interrupt(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """There is nothing to let go; nothing is appended any more."""
        self._write = False
