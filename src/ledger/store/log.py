"""What a log is, whatever database it lies in, and how it fails."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from ledger.events import Fact, Recorded
from ledger.store.chain import Head, Row


class Draft(NamedTuple):
    """A commit to be: its time, its epoch, its facts in order, and the blobs they speak of.

    `blobs` maps the SHA-256 (hex) of a text to the text; storing one twice is harmless.
    """

    at: int
    epoch: int
    facts: Sequence[Fact]
    blobs: Mapping[str, bytes] = {}


class LogFailure(Exception):
    """The log could not do what was asked of it. Each kind below says what that leaves true."""


class Fenced(LogFailure):
    """Another writer has appended since: this one's reign is over. Nothing was written."""


class NothingWritten(LogFailure):
    """The transaction was rolled back, and is proved absent: the writer may go on."""


class StorageFull(NothingWritten):
    """No room."""


class LogLocked(NothingWritten):
    """Somebody who is no master has kept the database locked for as long as we wait."""


class AppendFailed(LogFailure):
    """The append failed and may or may not be on disk: the process must end and replay."""


class LogUnavailable(LogFailure):
    """The database can't be reached, opened, or is not a jobledger log."""


class LogBusy(LogFailure):
    """Somebody else holds the log. `holder` says who."""

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class LogCorrupt(LogFailure):
    """Stored rows contradict the chain, or can't be read, first at `position`; 0 where every row
    is as it was written and what the database keeps beside the rows is not."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class Log(Protocol):
    """A log of commits. One process appends; any number read. All calls block; none is shared
    between threads, except that `wait` and `interrupt` may be called from any thread."""

    @property
    def incarnation(self) -> str:
        """The random id of this copy of the log: new when it is created, restored or imported."""

    def replaced(self) -> bool:
        """Does another log lie in the place of this one by now, or none, as in a restore? Then
        there is nothing more to be learned here: open the log anew."""

    def head(self) -> Head:
        """The last whole commit, durable when this returns."""

    def append(self, drafts: Sequence[Draft]) -> Head:
        """Append commits, all of them in one transaction, and return the new head once durable.

        Each event is encoded, decoded back and compared first (`codec.BrokenEvent` refuses it and
        leaves the log as it was). Raises `Fenced`, `NothingWritten` or `AppendFailed`.
        """

    def append_rows(self, rows: Sequence[Row], blobs: Mapping[str, bytes]) -> Head:
        """Append stored rows of whole commits as they are (import, restore), chain checked.

        No rows at all are allowed: then only blobs are stored. Raises `LogCorrupt` for rows that
        do not go on from the head, and what `append` raises.
        """

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        """Every event behind `after` in order, of whole commits only, headers left out.

        `after` must be a commit's last position, or 0; `upto` ends at the last whole commit that
        lies at or before it. Every commit is checked against the chain: `LogCorrupt`.
        """

    def rows(self, after: int = 0, upto: int | None = None) -> Iterator[Row]:
        """Every stored row behind `after`, headers included, unchecked."""

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        """The events of one stream, each with the time and epoch of its commit."""

    def commit_at(self, position: int) -> Head | None:
        """The head as it was at the commit that ends at `position`; None if none ends there."""

    def commit_before(self, position: int) -> int:
        """Where the last whole commit at or before any position ends; 0 if there is none."""

    def blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Texts by digest; one that is erased, unknown, or not what its digest says is absent."""

    def all_blobs(self) -> Iterator[tuple[str, bytes]]:
        """Every text beside the log with its digest, in the order of digests."""

    def inspect(self, last: int) -> None:
        """Have the database look for damage that rows read in order can't show; `last` is the
        position that they ended at, and the log may have grown since. Raises `LogCorrupt`."""

    def wait(self, after: int, timeout: float) -> bool:
        """Wait until the head lies behind `after`; False when `timeout` seconds passed first."""

    def interrupt(self) -> None:
        """Make a `wait` in another thread return at once."""

    def close(self) -> None:
        """Let go of connections and locks."""
