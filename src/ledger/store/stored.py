"""What a log does alike on both databases: the queries that read it, and the shape of an append."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain, count
from typing import Any, ClassVar, cast

import msgspec

from ledger.events import Recorded
from ledger.store.ahead import Place, read_ahead, worth
from ledger.store.bell import Bell
from ledger.store.chain import EMPTY, Head, Row, decode_header
from ledger.store.commits import (
    Commit,
    check_blobs,
    check_rows,
    commits,
    draft_rows,
    head_of,
    recorded,
    recorded_alone,
)
from ledger.store.log import AppendFailed, Draft, LogCorrupt

BLOBS_AT_ONCE = 500
FIRST_PAGE = 100
PAGE_BYTES = 8 << 20
"""About so much is read at a time: an event may have a megabyte, most have some hundred bytes."""


class StoredLog(ABC):
    """`Log` over the table `stored_events`, whose position column and marks differ.

    The fence is the head the log had when it was opened for writing, then the head of the last
    append here: whoever else appends ends this writer (`Fenced`).

    `page` is how many rows are read at a time: no read transaction lasts longer than it takes to
    fetch so many, and they should fit into a processor's cache while they are checked and decoded.
    """

    position: ClassVar[str]
    page: ClassVar[int]

    def __init__(self, *, write: bool) -> None:
        self._bell = Bell()
        self._write = write
        self._failed = False
        found = self._fetch(INCARNATION)
        if not found:
            raise LogCorrupt("the table meta does not say which incarnation this log is", 0)
        self._incarnation: str = found[0][0]
        self._fence = self.head() if write else EMPTY

    @abstractmethod
    def _fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of a reading query, in which {position}, {headers} and ? stand for what differs."""

    @abstractmethod
    def _insert(self, rows: Sequence[Row], head: Head, blobs: Mapping[str, bytes]) -> None:
        """Put rows into the log in one durable transaction, if its head is still the fence.

        Raises `Fenced`, `NothingWritten` or `AppendFailed`.
        """

    @property
    @abstractmethod
    def place(self) -> Place:
        """Where another process finds this log."""

    @abstractmethod
    def inspect(self, last: int) -> None:
        """What `Log` says."""

    @abstractmethod
    def close(self) -> None:
        """What `Log` says."""

    @property
    def incarnation(self) -> str:
        return self._incarnation

    def replaced(self) -> bool:
        return [value for (value,) in self._fetch(INCARNATION)] != [self._incarnation]

    def append(self, drafts: Sequence[Draft]) -> Head:
        rows, head = draft_rows(self._fence, drafts)
        blobs: dict[str, bytes] = {}
        for draft in drafts:
            blobs.update(draft.blobs)
        return self._append(rows, head, blobs)

    def append_rows(self, rows: Sequence[Row], blobs: Mapping[str, bytes]) -> Head:
        return self._append(rows, check_rows(self._fence, rows), blobs)

    def _append(self, rows: Sequence[Row], head: Head, blobs: Mapping[str, bytes]) -> Head:
        if not self._write or self._failed:
            raise AppendFailed("this log was opened for reading only, or has failed before")
        check_blobs(blobs)
        if rows or blobs:
            self._insert(rows, head, blobs)
            self._fence = head
            self._bell.ring(head.position)
        return head

    def head(self) -> Head:
        found = self._fetch(LAST_HEADER)
        try:
            return head_of(found[0][0]) if found else EMPTY
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            position = self._fetch(PLACE_OF_LAST_HEADER)[0][0]
            raise LogCorrupt(
                f"the header at position {position} can't be read: {error}", position
            ) from error

    def commit_at(self, position: int) -> Head | None:
        found = self._fetch(HEADER_BEFORE, (position,))
        head = head_of(found[0][0]) if found else EMPTY
        return head if found and head.position == position else None

    def commit_before(self, position: int) -> int:
        found = self._fetch(HEADER_BEFORE, (position,))
        if not found:
            return 0
        header = decode_header(found[0][0])
        end = header.first + header.count
        return end if end <= position else header.first - 1

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        start = EMPTY if after == 0 else self.commit_at(after)
        if start is None:
            raise ValueError(f"no commit ends at position {after}")
        found = self._commits(start, upto)
        return chain.from_iterable(recorded(commit, self._incarnation) for commit in found)

    def _commits(self, head: Head, upto: int | None) -> Iterator[Commit]:
        """The whole commits behind one, the first many of them by another process."""
        last = head.position
        with suppress(LogCorrupt):  # which is located below
            last = self._last(upto)
        if worth(last - head.position):
            for commit in read_ahead(self, head, last):
                yield commit
                head = commit.head
        yield from commits(head, self.pages(head.position, upto), whole=upto is None)

    def rows(self, after: int = 0, upto: int | None = None) -> Iterator[Row]:
        return (Row._make(row) for page in self.pages(after, upto) for row in page)

    def _last(self, upto: int | None) -> int:
        """The last position, or the last one that is asked for."""
        found: int = self._fetch("SELECT max({position}) FROM stored_events")[0][0] or 0
        return found if upto is None else min(found, upto)

    def pages(self, after: int, upto: int | None) -> Iterator[list[Row]]:
        """Stored rows behind a position, up to another or all, unchecked.

        They are plain tuples in the order of `Row`: making `Row`s of them costs a tenth.
        """
        try:
            last, size = self._last(upto), FIRST_PAGE
            while after < last:
                end = min(after + size, last)
                page = self._fetch(PAGE_OF_ROWS, (after, end))
                size = min(self.page, PAGE_BYTES * len(page) // _bytes_in(page) + 1)
                yield cast("list[Row]", page)
                after = page[-1][0] if page else after
                if after != end:  # and the chain noticed nothing: a commit ends there
                    raise LogCorrupt(f"rows up to {last} are there and can't be reached", 0)
        except LogCorrupt as damage:
            if damage.position:
                raise
            yield from self._rows_before(damage, after)

    def _rows_before(self, damage: LogCorrupt, after: int) -> Iterator[list[Row]]:
        """The rows up to the first that can't be read, one a page; then the damage, located."""
        for position in count(after + 1):
            try:
                row = self._fetch(PAGE_OF_ROWS, (position - 1, position))
            except LogCorrupt:
                row = []
            if not row:
                raise LogCorrupt(
                    f"position {position} can't be read: {damage}", position
                ) from damage
            yield cast("list[Row]", row)

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        while page := self._fetch(PAGE_OF_STREAM, (stream, after, self.page)):
            for *row, header in page:
                yield recorded_alone(Row._make(row), header, self._incarnation)
            after = page[-1][0]

    def blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(digests), BLOBS_AT_ONCE):
            some = digests[start : start + BLOBS_AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT sha256, bytes FROM blobs WHERE sha256 IN ({marks})"  # noqa: S608
            found.update(self._fetch(query, some))
        return {d: text for d, text in found.items() if _is_text(d, text)}

    def all_blobs(self) -> Iterator[tuple[str, bytes]]:
        after = ""
        while page := self._fetch(PAGE_OF_BLOBS, (after, BLOBS_AT_ONCE)):
            yield from page
            after = page[-1][0]

    def interrupt(self) -> None:
        self._bell.interrupt()


def _bytes_in(page: Sequence[Any]) -> int:
    try:
        return sum(len(row[4]) for row in page) or 1
    except TypeError:  # damaged: for the chain to find
        return 1


def _is_text(digest: str, text: object) -> bool:
    return isinstance(text, bytes) and sha256(text).hexdigest() == digest


INCARNATION = "SELECT value FROM meta WHERE key = 'incarnation'"

LAST_HEADER = (
    "SELECT state FROM stored_events WHERE originator_id = 'commit' "
    "ORDER BY originator_version DESC LIMIT 1"
)

PLACE_OF_LAST_HEADER = (
    "SELECT {position} FROM stored_events WHERE originator_id = 'commit' "
    "ORDER BY originator_version DESC LIMIT 1"
)

HEADER_BEFORE = (
    "SELECT state FROM stored_events {headers} "
    "WHERE originator_id = 'commit' AND {position} <= ? "
    "ORDER BY {position} DESC LIMIT 1"
)

PAGE_OF_ROWS = (
    "SELECT {position}, originator_id, originator_version, topic, state "
    "FROM stored_events WHERE {position} > ? AND {position} <= ? ORDER BY {position}"
)

PAGE_OF_STREAM = (
    "SELECT {position}, originator_id, originator_version, topic, state, ("
    "SELECT h.state FROM stored_events AS h {headers} "
    "WHERE h.originator_id = 'commit' AND h.{position} < e.{position} "
    "ORDER BY h.{position} DESC LIMIT 1) "
    "FROM stored_events AS e WHERE originator_id = ? AND originator_version > ? "
    "ORDER BY originator_version LIMIT ?"
)

PAGE_OF_BLOBS = "SELECT sha256, bytes FROM blobs WHERE sha256 > ? ORDER BY sha256 LIMIT ?"
