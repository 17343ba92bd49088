"""The fold itself: rows out of events, without a database.

`Rows` holds the rows that it has touched lately and asks for the others. It is right whether it
remembers all, some or none of them, and however its events are cut into batches.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from ledger.events import Recorded
from ledger.projection.model import Key, Projection, Table

KEPT_ROWS = 50_000
"""Rows remembered from batch to batch; where they come to be more, all are forgotten."""

AT_ONCE = 1000

Load = Callable[[Table[Any], Sequence[Key]], dict[Key, Any]]


class Undigestable(Exception):
    """An event that a projection can't make rows of. `position` and `commit` say where it is."""

    def __init__(self, recorded: Recorded, error: Exception) -> None:
        super().__init__(f"{recorded.event.name}: {type(error).__name__}: {error}")
        self.position, self.commit = recorded.position, recorded.commit


class Change(NamedTuple):
    """What became of a table in a batch: rows that are to be as here, and keys that are gone."""

    table: Table[Any]
    rows: list[Any]
    gone: list[Key]


class Rows:
    """The rows of one projection. `load` finds rows by key; `empty`: there are none to find."""

    def __init__(self, projection: Projection, load: Load, *, empty: bool) -> None:
        self._projection = projection
        self._load = load
        self._complete = empty
        self._rows: dict[str, dict[Key, Any]] = {table.name: {} for table in projection.tables}

    def fold(self, events: Iterable[Recorded], skipped: frozenset[int]) -> list[Change]:
        """Take events in, but those at the `skipped` positions; what has changed by them.

        Raises `Undigestable`: then these rows are to be thrown away.
        """
        planned = self._plan(events, skipped)
        before = {name: self._known(name, touched) for name, touched in planned.touched.items()}
        for table, recorded, keys in planned.steps:
            rows, evolve = self._rows[table.name], table.evolve
            try:
                for key in keys:
                    rows[key] = evolve(key, rows[key], recorded)
            except Exception as error:
                raise Undigestable(recorded, error) from error
        return [self._change(t, before[t.name]) for t in self._projection.tables]

    def forget(self) -> None:
        """After a batch is safe: remember no more than `KEPT_ROWS`."""
        if sum(map(len, self._rows.values())) > KEPT_ROWS:
            self._complete = False
            for rows in self._rows.values():
                rows.clear()

    def all(self) -> dict[str, dict[Key, Any]]:
        """Every row by table and key, of rows that began empty and were never forgotten."""
        assert self._complete
        return {
            name: {key: row for key, row in rows.items() if row is not None}
            for name, rows in self._rows.items()
        }

    def _plan(self, events: Iterable[Recorded], skipped: frozenset[int]) -> "_Plan":
        steps: list[tuple[Table[Any], Recorded, Sequence[Key]]] = []
        touched: dict[str, dict[Key, None]] = {t.name: {} for t in self._projection.tables}
        by_event = self._projection.by_event
        for recorded in events:
            for table in by_event.get(type(recorded.event), ()):
                if recorded.position in skipped:
                    continue
                try:
                    keys = tuple(table.keys(recorded))
                    touched[table.name].update(dict.fromkeys(keys))
                except Exception as error:
                    raise Undigestable(recorded, error) from error
                steps.append((table, recorded, keys))
        return _Plan(steps, touched)

    def _known(self, name: str, touched: dict[Key, None]) -> dict[Key, Any]:
        """The touched rows as they are before the batch, loaded where they are not remembered."""
        rows = self._rows[name]
        missing = [key for key in touched if key not in rows]
        found: dict[Key, Any] = {}
        if missing and not self._complete:
            table = next(t for t in self._projection.tables if t.name == name)
            found = self._load(table, missing)
        for key in missing:
            rows[key] = found.get(key)
        return {key: rows[key] for key in touched}

    def _change(self, table: Table[Any], before: dict[Key, Any]) -> Change:
        rows = self._rows[table.name]
        changed = [(key, rows[key]) for key, row in before.items() if rows[key] is not row]
        return Change(
            table,
            [row for _, row in changed if row is not None],
            [key for key, row in changed if row is None],
        )


class _Plan(NamedTuple):
    steps: list[tuple[Table[Any], Recorded, Sequence[Key]]]
    touched: dict[str, dict[Key, None]]


def fold(
    projection: Projection, events: Iterable[Recorded], skipped: frozenset[int] = frozenset()
) -> dict[str, dict[Key, Any]]:
    """Every row that `events`, from the first on, come to, by table and key: the whole in memory.

    Raises `Undigestable`.
    """
    rows = Rows(projection, lambda table, keys: {}, empty=True)
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
