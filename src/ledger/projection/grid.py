"""Arithmetic over a regular grid of time, for projections that keep differences and not levels.

A row of such a table says by how much a level (nodes in use, jobs that wait) rose or fell in a
quarter of an hour, and what of that quarter this was worth: each change times what was left of it.
The integral over a quarter is then the sum of all changes before it, times its width, plus what it
was worth itself: exact to the microsecond, with one row an event at most and nothing to write while
nothing changes. Any day of any time zone is a sum of whole quarters.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import gcd
from typing import NamedTuple, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

SLOT_US = 900_000_000
"""A quarter of an hour, which every time zone's midnight is a multiple of."""

MOST = 2**62
_LIMB = 2**31
"""Counts are added up in two halves: what SQLite adds up must fit into 64 bits."""

R = TypeVar("R", bound=msgspec.Struct)
Group = tuple[str, ...]
Row = list[int]
"""A slot, then for each level its change and what that is worth, then counts."""


class Level(NamedTuple):
    """The two expressions of a level: its change, and what that is worth in its slot (µs)."""

    change: sa.ColumnElement[int]
    worth: sa.ColumnElement[int]


class Piece(NamedTuple):
    """A stretch of time within one period: either a slot with changes, or one of constant levels.

    `integrals` are those of the levels (µs), `counts` what was counted in it.
    """

    period: int
    integrals: Sequence[int]
    counts: Sequence[int]


def slot_of(at: int) -> int:
    """The slot that a moment (µs) lies in."""
    return at // SLOT_US


def left_of(slot: int, at: int) -> int:
    """How much of a slot is left at a moment in it, µs."""
    return (slot + 1) * SLOT_US - at


def changed(row: R, changes: Mapping[str, int], at: int) -> R:
    """A row of `at`'s slot, with these columns changed at that moment. Those that have another one
    beside them, called the same and `_us`, are levels, whose change is worth what is left. Others
    are counts, of which no more is counted than every database can hold."""
    left, new = left_of(slot_of(at), at), dict[str, int]()
    for name, n in changes.items():
        worth = getattr(row, f"{name}_us", None)
        new[name] = getattr(row, name) + n
        if worth is None:
            new[name] = min(new[name], MOST)
        else:
            new[f"{name}_us"] = worth + n * left
    return replace(row, **new)


def width(edges: Sequence[int]) -> int:
    """The most slots that can be taken together, so that every edge but the last lies between."""
    found = gcd(*(slot_of(edge - edges[0]) for edge in edges[:-1])) or slot_of(edges[-1]) + 1
    whole = all((edge - edges[0]) % SLOT_US == 0 for edge in edges[:-1])
    return found if whole and edges[0] % SLOT_US == 0 else 1


def read(
    connection: sa.Connection,
    slot: sa.ColumnElement[int],
    groups: Sequence[sa.ColumnElement[str]],
    levels: Sequence[Level],
    counts: Sequence[sa.ColumnElement[int]],
    edges: Sequence[int],
    *,
    where: Iterable[sa.ColumnElement[bool]] = (),
    together: int = 1,
) -> dict[Group, list[Row]]:
    """Rows by group, each group's in the order of slots, as `pieces` and `between` take them.

    What lies before the first edge is one row. So are `together` slots from there on, where a
    multiple of them comes between any two edges: a change that is moved to a later slot is worth
    as much more there as the slots between make.
    """
    first, last = slot_of(edges[0]), slot_of(edges[-1] - 1)
    moved = sa.case(
        (slot < first, first - 1),
        else_=slot - (slot - first) % together + (together - 1),
    )
    to = sa.case((moved > last, last), else_=moved).label("at_slot")
    sums: list[sa.ColumnElement[int]] = []
    for level in levels:
        sums += [level.change, level.change * (to.element - slot), level.worth]
    halves = [half for count in counts for half in (count // _LIMB, count % _LIMB)]
    query = (
        sa.select(*groups, to, *(sa.func.sum(one) for one in (*sums, *halves)))
        .where(slot <= last, *where)
        .group_by(*groups, to)
        .order_by(*groups, to)
    )
    found: dict[Group, list[Row]] = {}
    for row in connection.execute(query):
        group, (at, *values) = tuple(row[: len(groups)]), map(int, row[len(groups) :])
        made = [at]
        for i in range(0, 3 * len(levels), 3):
            made += [values[i], values[i + 1] * SLOT_US + values[i + 2]]
        high, low = values[3 * len(levels) :: 2], values[3 * len(levels) + 1 :: 2]
        made += [h * _LIMB + n for h, n in zip(high, low, strict=True)]
        found.setdefault(group, []).append(made)
    return found


def merged(*parts: Mapping[Group, list[Row]]) -> dict[Group, list[Row]]:
    """Rows of several sources as those of one."""
    sums: dict[Group, dict[int, Row]] = {}
    for part in parts:
        for group, rows in part.items():
            known = sums.setdefault(group, {})
            for row in rows:
                old = known.get(row[0])
                known[row[0]] = row if old is None else added(old, row)
    return {group: [rows[slot] for slot in sorted(rows)] for group, rows in sums.items()}


def added(one: Row, other: Row) -> Row:
    """Two rows of a slot as one."""
    return [one[0], *map(sum, zip(one[1:], other[1:], strict=True))]


def pieces(rows: Iterable[Row], edges: Sequence[int], levels: int) -> Iterator[Piece]:
    """The time between the first and the last of `edges` (µs, rising), cut at each of them, at each
    slot that has a row and where that slot ends.

    Exact where edges are whole slots; the last may also lie behind all that happened. Of a slot
    that another edge cuts, all changes are taken to lie before the edge.
    """
    now, at, nothing = [0] * levels, edges[0], ()
    for slot, *values in rows:
        begin, end = slot * SLOT_US, (slot + 1) * SLOT_US
        if begin >= edges[-1]:
            break
        changes, worths = values[0 : 2 * levels : 2], values[1 : 2 * levels : 2]
        after = [level + change for level, change in zip(now, changes, strict=True)]
        if end > edges[0]:
            if begin > at:
                yield from _cut(at, begin, [n * (begin - at) for n in now], now, nothing, edges)
            whole = [n * SLOT_US + worth for n, worth in zip(now, worths, strict=True)]
            yield from _cut(begin, end, whole, after, values[2 * levels :], edges)
            at = end
        now = after
    if at < edges[-1]:
        left = edges[-1] - at
        yield from _cut(at, edges[-1], [n * left for n in now], now, nothing, edges)


def _cut(
    begin: int,
    end: int,
    integrals: Sequence[int],
    after: Sequence[int],
    counts: Sequence[int],
    edges: Sequence[int],
) -> Iterator[Piece]:
    """A stretch of time, cut at the edges in it; `after` are the levels behind the first one."""
    period = bisect_right(edges, begin) - 1
    inside = edges[period + 1 : bisect_right(edges, end - 1)]
    marks = [*inside, end]
    first = [i - n * (end - marks[0]) for i, n in zip(integrals, after, strict=True)]
    if period >= 0:
        yield Piece(period, first, counts)
    for number, (low, high) in enumerate(pairwise(marks), period + 1):
        if number < len(edges) - 1:
            yield Piece(number, [n * (high - low) for n in after], ())


def between(rows: Iterable[Row], edges: Sequence[int], levels: int, counts: int) -> list[list[int]]:
    """For each two edges the integrals of the levels (µs), and what was counted."""
    found = [[0] * (levels + counts) for _ in edges[1:]]
    for piece in pieces(rows, edges, levels):
        period = found[piece.period]
        for i, integral in enumerate(piece.integrals):
            period[i] += integral
        for i, count in enumerate(piece.counts, levels):
            period[i] += count
    return found


def levels_at(rows: Sequence[Row], edges: Sequence[int], levels: int) -> list[list[int]]:
    """The levels at each edge."""
    found, now, place = [], [0] * levels, 0
    for edge in edges:
        while place < len(rows) and rows[place][0] * SLOT_US < edge:
            changes = rows[place][1 : 1 + 2 * levels : 2]
            now = [level + change for level, change in zip(now, changes, strict=True)]
            place += 1
        found.append(now)
    return found
