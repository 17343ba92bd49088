"""The program of `test_real_pasts`: keeps projections of ledgers, and prints what they hold.

python kept_pasts.py FOLDER URL STEPS SIZES LEDGER

All projections follow LEDGER, a data directory, in batches of each of the SIZES (joined by
commas), with their tables in FOLDER or in the database URL. Each step is a transaction; where it
takes more than STEPS, they are written as they come, but many in one.
"""

import bisect
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ledger.events import Recorded
from ledger.projection import Projection, Table
from ledger.projection import checkpoint as checkpoints
from ledger.projection.checkpoint import Checkpoint
from ledger.projection.database import Bulk
from ledger.projection.discover import discover
from ledger.projection.fold import Change, dump, fold, in_order
from ledger.projection.follower import Follower
from ledger.projection.model import Key
from ledger.projection.rebuild import rebuild
from ledger.projection.source import BEGINNING, Place, Source, batch
from ledger.projection.store import Store
from ledger.store.location import open_log
from ledger.store.log import Log


class Remembered(Source):
    """A log that was read once, as it was then."""

    def __init__(self, log: Log) -> None:
        self._incarnation = log.incarnation
        self._events = list(log.read())
        last = {r.commit: r.position for r in self._events}
        heads = (log.commit_at(position) for position in last.values())
        self._heads = {head.position: head for head in heads if head is not None}
        self._ends = list(self._heads)
        self._at = [r.position for r in self._events]

    @property
    def incarnation(self) -> str:
        return self._incarnation

    def steps(self, size: int) -> int:
        """In how many batches of so many events it is taken in, about."""
        return min(len(self._ends), len(self._events) // size + 1)

    def head(self) -> Place:
        return self._heads[self._ends[-1]]

    def commit_at(self, position: int) -> Place | None:
        return self._heads.get(position)

    def commit_before(self, position: int) -> int:
        n = bisect.bisect_right(self._ends, position)
        return self._ends[n - 1] if n else BEGINNING.position

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        whole = self._ends[-1] if upto is None else self.commit_before(upto)
        first, behind = (bisect.bisect_right(self._at, end) for end in (after, whole))
        return iter(self._events[first:behind])

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        return (r for r in self._events if r.stream == stream and r.position > after)


TOGETHER = 500


class Together(Store):
    """Writes the rows of each step as it comes, and ends the transaction after many of them."""

    def __init__(self, projection: Projection, data: Path, url: str | None) -> None:
        super().__init__(projection, data, url)
        self._count, self._last = 0, Checkpoint()
        self._held: sa.Connection | None = None
        self._pipeline = ExitStack()

    def load(self, table: Table[Any], keys: Sequence[Key]) -> dict[Key, Any]:
        return (
            super().load(table, keys) if self._held is None else Bulk(self._held).load(table, keys)
        )

    def greatest(self, table: Table[Any]) -> int | None:
        return super().greatest(table) if self._held is None else Bulk(self._held).greatest(table)

    def write(self, before: Checkpoint, after: Checkpoint, changes: Iterable[Change]) -> None:
        if self._held is None:
            self._held = self._engine.connect()
            self._held.begin()
            assert checkpoints.read(self._held, self.projection.id, lock=True) == before
            if self._held.dialect.name == "postgresql":  # no statement waits for the one before
                driver: Any = self._held.connection.driver_connection
                self._pipeline.enter_context(driver.pipeline())
        bulk = Bulk(self._held)
        for change in changes:
            bulk.apply(change)
        self._count, self._last = self._count + 1, after
        if self._count == TOGETHER:
            self.settle()

    def settle(self) -> None:
        """End the transaction."""
        if self._held is not None:
            self._pipeline.close()
            checkpoints.write(self._held, self.projection.id, self._last)
            self._held.commit()
            self._held.close()
            self._held, self._count = None, 0


def follow(source: Source, stores: Sequence[Store], size: int) -> None:
    """Let all take in the log, so many events at a time; each batch is read once."""
    followers = [Follower(store.projection, store, source) for store in stores]
    taken = batch(source, 0, size)
    while taken is not None:
        for follower in followers:
            assert follower.step(lambda after: taken)  # noqa: B023
        taken = batch(source, taken.end.position, size)
    assert {follower.checkpoint.position for follower in followers} == {source.head().position}


def main(folder: Path, url: str | None, most: int, sizes: list[int], data: Path) -> None:
    """For each projection: how it came about, and the digest of its canonical bytes."""

    def tell(name: str, how: str, rows: bytes) -> None:
        print(name, how, sha256(rows).hexdigest(), flush=True)

    with closing(open_log(data, None, write=False)) as log:
        source = Remembered(log)
    projections = discover().projections
    for name, projection in projections.items():
        tell(name, "folded", dump(projection, in_order(fold(projection, source.read()))))
    for size in sizes:
        kind = Together if source.steps(size) > most else Store
        stores = [kind(one, folder, url) for one in projections.values()]
        for store in stores:
            store.discard()
        follow(source, stores, size)
        for store in stores:
            if isinstance(store, Together):
                store.settle()
            tell(store.projection.name, f"live:{size}", store.dump()[1])
            store.close()
    for name, projection in projections.items():
        rebuild(projection, folder, url, source)
        with closing(Store(projection, folder, url)) as store:
            tell(name, "rebuilt", store.dump()[1])


if __name__ == "__main__":
    place, address, steps, wanted, ledger = sys.argv[1:]
    sizes = [int(n) for n in wanted.split(",")]
    main(Path(place), address or None, int(steps), sizes, Path(ledger))
