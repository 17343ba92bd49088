"""The fold itself: rows out of events, without a database.

`Rows` holds the rows that it has touched lately and asks for the others. It is right whether it
remembers all, some or none of them, and however its events are cut into batches.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import msgspec

from ledger.events import Recorded
from ledger.projection.model import Key, Projection, Table

KEPT_ROWS = 50_000
"""Rows remembered from batch to batch; where they come to be more, all are forgotten."""

AT_ONCE = 1000
"""Events that are gone through table by table: so many stay in a processor's cache."""

NOTHING = -(2**63) - 1
"""Less than any number in a database."""


class Stored(Protocol):
    """Where the rows are that are remembered no more."""

    def load(self, table: Table[Any], keys: Sequence[Key], /) -> dict[Key, Any]:
        """The rows that there are of these keys."""

    def greatest(self, table: Table[Any], /) -> int | None:
        """The greatest number that the key of a row begins with; None if there is no row. Asked of
        tables only whose keys begin with a number."""


class Undigestable(Exception):
    """An event that a projection can't make rows of. `position` and `commit` say where it is."""

    def __init__(self, recorded: Recorded, error: Exception) -> None:
        super().__init__(f"{recorded.event.name}: {type(error).__name__}: {error}")
        self.position, self.commit = recorded.position, recorded.commit


class Change(NamedTuple):
    """What became of a table in a batch: rows that were not there before, rows that are to be
    another, and keys that are gone."""

    table: Table[Any]
    new: list[Any]
    rows: list[Any]
    gone: list[Key]


class Rows:
    """The rows of one projection, of which `stored` has others; `empty`: it has none yet."""

    def __init__(self, projection: Projection, stored: Stored | None, *, empty: bool) -> None:
        assert empty or stored is not None
        self._stored = stored
        self._complete = empty
        self._tables = [_Kept(table) for table in projection.tables]

    def fold(self, events: Sequence[Recorded], skipped: frozenset[int]) -> list[Change]:
        """Take events in, but those at the `skipped` positions; what has changed by them.

        Raises `Undigestable`: then these rows are to be thrown away.
        """
        if skipped:
            events = [recorded for recorded in events if recorded.position not in skipped]
        stored = None if self._complete else self._stored
        for start in range(0, len(events), AT_ONCE):
            some = events[start : start + AT_ONCE]
            for kept in self._tables:
                kept.take(some, stored)
        return [kept.change() for kept in self._tables]

    def forget(self) -> None:
        """After a batch is safe: remember no more than `KEPT_ROWS`."""
        if sum(len(kept.rows) for kept in self._tables) > KEPT_ROWS:
            self._complete = False
            for kept in self._tables:
                kept.rows.clear()

    def all(self) -> dict[str, dict[Key, Any]]:
        """Every row by table and key, of rows that began empty and were never forgotten."""
        assert self._complete
        return {
            kept.table.name: {key: row for key, row in kept.rows.items() if row is not None}
            for kept in self._tables
        }


class _Kept:
    """What is remembered of a table. No row of it depends on one of another, so that events are
    taken in table by table. `_before` has the rows that a batch touches, as they were before it."""

    def __init__(self, table: Table[Any]) -> None:
        self.table = table
        self.rows: dict[Key, Any] = {}
        self._before: dict[Key, Any] = {}
        self._numbered = table.columns[0].kind == "int"
        self._greatest: Any = None

    def take(self, events: Sequence[Recorded], stored: Stored | None) -> None:
        """Take in a part of a batch; `stored` has the rows that are not remembered, if there are
        any. Raises `Undigestable`."""
        wanted = self.table.events
        mine = [recorded for recorded in events if type(recorded.event) in wanted]
        if not mine:
            return
        keys, touched = self._touched(mine)
        self._find(touched, stored)
        rows, evolve = self.rows, self.table.evolve
        try:
            for recorded, some in zip(mine, keys, strict=True):
                for key in some:
                    rows[key] = evolve(key, rows[key], recorded)
        except Exception as error:
            raise Undigestable(recorded, error) from error

    def _touched(self, events: Sequence[Recorded]) -> tuple[list[Iterable[Key]], list[Key]]:
        """The keys of the rows that each of these events touches, and those that no event of this
        batch has touched before."""
        keys_of, before = self.table.keys, self._before
        keys, touched = list[Iterable[Key]](), dict[Key, None]()
        try:
            for recorded in events:
                some = keys_of(recorded)
                if type(some) is not tuple:
                    some = tuple(some)
                keys.append(some)
                for key in some:
                    if key not in before:
                        touched[key] = None
        except Exception as error:
            raise Undigestable(recorded, error) from error
        return keys, list(touched)

    def _find(self, touched: list[Key], stored: Stored | None) -> None:
        """Let the touched rows be there, and noted, as they are before the batch."""
        rows = self.rows
        if missing := [key for key in touched if key not in rows]:
            rows.update(dict.fromkeys(missing))
            if stored is not None and (old := self._old(missing, stored)):
                rows.update(stored.load(self.table, old))
        for key in touched:
            self._before[key] = rows[key]

    def _old(self, keys: list[Key], stored: Stored) -> list[Key]:
        """Those of these keys that need looking for: not such as begin with a greater number than
        that of any row. Most rows are made in this order."""
        if not self._numbered:
            return keys
        if self._greatest is None:
            found = stored.greatest(self.table)
            self._greatest = NOTHING if found is None else found
        try:
            return [key for key in keys if key[0] <= self._greatest]
        except TypeError:  # not numbers at all: the database will refuse them
            return keys

    def change(self) -> Change:
        """What has become of the rows that a batch has touched, in the order of their keys: a
        database takes rows faster where they lie side by side."""
        rows, before = self.rows, self._before
        self._before = {}
        changed = [key for key, row in before.items() if rows[key] is not row]
        try:
            changed.sort()
            if changed and self._greatest is not None:
                self._greatest = max(self._greatest, changed[-1][0])
        except TypeError:  # neither can these be kept
            self._numbered = False
        new, others, gone = [], [], []
        for key in changed:
            row = rows[key]
            if row is None:
                gone.append(key)
            elif before[key] is None:
                new.append(row)
            else:
                others.append(row)
        return Change(self.table, new, others, gone)


def fold(
    projection: Projection, events: Iterable[Recorded], skipped: frozenset[int] = frozenset()
) -> dict[str, dict[Key, Any]]:
    """Every row that `events`, from the first on, come to, by table and key: the whole in memory.

    Raises `Undigestable`.
    """
    rows = Rows(projection, None, empty=True)
    rest = iter(events)
    while some := list(islice(rest, AT_ONCE)):
        rows.fold(some, skipped)
    return rows.all()


def dump(projection: Projection, rows: dict[str, Iterable[Any]]) -> bytes:
    """The canonical bytes of a projection: for each table its name, then a JSON array a row.

    `rows` are those of each table in the order of their keys.
    """
    encode = msgspec.json.Encoder().encode
    lines = []
    for table in projection.tables:
        lines.append(encode({"table": table.name}))
        lines += [encode(msgspec.structs.astuple(row)) for row in rows[table.name]]
    return b"\n".join([*lines, b""])


def in_order(rows: dict[str, dict[Key, Any]]) -> dict[str, Iterable[Any]]:
    """Rows by table in the order of their keys, as `dump` takes them."""
    return {name: [found[key] for key in sorted(found)] for name, found in rows.items()}
