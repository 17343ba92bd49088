"""Who used how many nodes and processors, when, and how much of it came to nothing?

What is in use is kept as differences, not as levels. A row says by how much the nodes in use rose
or fell in a quarter of an hour, and what of that quarter this was worth. Its use is then the sum of
all rises before it, times its width, plus what it was worth itself: exact to the microsecond, one
row an event at most, nothing to write while nothing changes, and any day of any time zone is a sum
of whole quarters.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from ledger.events import AttemptEnded, AttemptPlaced, Recorded
from ledger.projection import Projection, Table

SLOT_US = 900_000_000
"""A quarter of an hour, which every time zone's midnight is a multiple of."""

USED = "used"
"""The kind of all use. The other kinds are how attempts ended: `failed`, `node_fail` and so on,
each over the whole time of those that ended so."""

WASTE = ("failed", "timeout", "out_of_memory", "deadline", "node_fail", "cancelled", "preempted",
         "requeued")  # fmt: skip
By = Literal["day", "user", "account", "pool"]


class FlowRow(msgspec.Struct, frozen=True):
    """Changes of use in one slot (a number of `SLOT_US` since 1970).

    `nodes` and `cpus` are how much the use rose (or fell) in the slot; `node_us` and `cpu_us` what
    of the slot's own time that makes: each change times what was left of the slot. `attempts` and
    `jobs` ended here, those of pending jobs left out; `measured_us` is the processor time that they
    had really used, as far as it is known.
    """

    slot: int
    user: str
    account: str
    pool: str
    kind: str
    nodes: int = 0
    node_us: int = 0
    cpus: int = 0
    cpu_us: int = 0
    attempts: int = 0
    jobs: int = 0
    measured_us: int = 0


Key = tuple[int, str, str, str, str]


def flow_keys(r: Recorded) -> Iterable[Key]:
    """Where use rises at a placement; where it falls at an end, and where what for is known now."""
    e = r.event
    assert isinstance(e, AttemptPlaced | AttemptEnded)
    whose = (e.user, e.account, e.pool)
    if isinstance(e, AttemptPlaced):
        return ((_slot(e.placed_at), *whose, USED),)
    slots = dict.fromkeys((_slot(e.placed_at), _slot(_end(e))))
    return [(_slot(_end(e)), *whose, USED), *((slot, *whose, e.outcome) for slot in slots)]


def evolve_flow(key: Key, row: FlowRow | None, r: Recorded) -> FlowRow:
    """The slot's changes, and this one."""
    e = r.event
    assert isinstance(e, AttemptPlaced | AttemptEnded)
    slot, kind = key[0], key[4]
    row = row or FlowRow(*key)
    nodes = len(e.nodes) if e.node_count is None else e.node_count
    cpus = e.cpus or 0
    if isinstance(e, AttemptPlaced) or (kind != USED and slot == _slot(e.placed_at)):
        row = _changed(row, e.placed_at, nodes, cpus)
    if isinstance(e, AttemptEnded) and slot == _slot(_end(e)):
        row = _changed(row, _end(e), -nodes, -cpus)
        if kind != USED:
            final = e.next == "final"
            row = msgspec.structs.replace(
                row,
                attempts=row.attempts + 1,
                jobs=row.jobs + final,
                measured_us=row.measured_us + (e.cpu_us or 0),
            )
    return row


def _changed(row: FlowRow, at: int, nodes: int, cpus: int) -> FlowRow:
    left = (row.slot + 1) * SLOT_US - at
    return msgspec.structs.replace(
        row,
        nodes=row.nodes + nodes,
        node_us=row.node_us + nodes * left,
        cpus=row.cpus + cpus,
        cpu_us=row.cpu_us + cpus * left,
    )


def _slot(at: int) -> int:
    return at // SLOT_US


def _end(e: AttemptEnded) -> int:
    return e.placed_at + e.held_us


FLOW = Table(
    "flow",
    FlowRow,
    key=5,
    events=(AttemptPlaced, AttemptEnded),
    keys=flow_keys,
    evolve=evolve_flow,
    indexes=[("user", "slot"), ("account", "slot")],
)

# ── queries ──────────────────────────────────────────────────────────────────────────────────────


class Used(msgspec.Struct, frozen=True):
    """What was used in a period (a place in `edges`) by those whom the grouping names.

    `node_us` and `cpu_us` (processors given) count every attempt, also those that still run. Once
    they had ended they count in `measured_us`, the processor time used, and in `wasted`, the
    node-time of those that came to nothing, by how they ended.
    """

    period: int
    user: str
    account: str
    pool: str
    node_us: int
    cpu_us: int
    attempts: int
    jobs: int
    measured_us: int
    wasted: Mapping[str, int]


def usage(
    connection: sa.Connection,
    *,
    edges: Sequence[int],
    by: Sequence[str] = (),
    user: str = "",
    account: str = "",
    pool: str = "",
) -> list[Used]:
    """Use between each two of `edges` (µs, rising), by `user`, `account`, `pool`, or none of them.

    Exact between edges that are whole slots; the last may also be the present. Periods and groups
    in which nothing was used and nothing ended are left out. Sorted by period and group.
    """
    groups = [FLOW.c[name] for name in ("user", "account", "pool") if name in by]
    query = sa.select(
        *groups,
        FLOW.c.kind,
        FLOW.c.slot,
        *(sa.func.sum(FLOW.c[name]) for name in SUMS),
    ).where(FLOW.c.slot < -(-edges[-1] // SLOT_US))
    for column, wanted in ((FLOW.c.user, user), (FLOW.c.account, account), (FLOW.c.pool, pool)):
        query = query.where(column == wanted) if wanted else query
    order = [*groups, FLOW.c.kind, FLOW.c.slot]
    found: dict[tuple[int, tuple[str, ...]], dict[str, list[int]]] = {}
    for (group, kind), rows in _runs(connection.execute(query.group_by(*order).order_by(*order)),
                                     len(groups)):  # fmt: skip
        for period, sums in enumerate(_between(rows, edges)):
            if any(sums):
                found.setdefault((period, group), {})[kind] = sums
    return [
        _used(period, dict(zip([g.name for g in groups], group, strict=True)), kinds)
        for (period, group), kinds in sorted(found.items())
    ]


LEVELS = ("nodes", "node_us", "cpus", "cpu_us")
COUNTS = ("attempts", "jobs", "measured_us")
SUMS = (*LEVELS, *COUNTS)


def span(connection: sa.Connection) -> tuple[int, int] | None:
    """Where the first slot begins (µs) that anything is known of, and where the last one ends."""
    low, high = connection.execute(
        sa.select(sa.func.min(FLOW.c.slot), sa.func.max(FLOW.c.slot))
    ).one()
    return None if low is None else (low * SLOT_US, (high + 1) * SLOT_US)


def _runs(
    rows: Iterable[Any], width: int
) -> Iterator[tuple[tuple[tuple[str, ...], str], list[tuple[int, ...]]]]:
    """Rows by group and kind: slot and sums of each."""
    known: tuple[tuple[str, ...], str] | None = None
    some: list[tuple[int, ...]] = []
    for row in rows:
        key = (tuple(row[:width]), row[width])
        if key != known:
            if known is not None:
                yield known, some
            known, some = key, []
        some.append(tuple(int(value) for value in row[width + 1 :]))
    if known is not None:
        yield known, some


def _between(rows: Sequence[tuple[int, ...]], edges: Sequence[int]) -> Iterator[list[int]]:
    """Between each two edges: node_us, cpu_us and `COUNTS`, out of changes in slots' order."""
    place = nodes = cpus = node_us = cpu_us = 0
    counts = [0] * len(COUNTS)
    at = before = None
    for edge in edges:
        while place < len(rows) and rows[place][0] * SLOT_US < edge:
            slot, d_nodes, d_node_us, d_cpus, d_cpu_us, *more = rows[place]
            end = (slot + 1) * SLOT_US
            if at is not None:
                node_us += nodes * (end - at)
                cpu_us += cpus * (end - at)
            at = end
            nodes, cpus = nodes + d_nodes, cpus + d_cpus
            node_us, cpu_us = node_us + d_node_us, cpu_us + d_cpu_us
            counts = [old + new for old, new in zip(counts, more, strict=True)]
            place += 1
        left = edge - (edge if at is None else at)
        now = [node_us + nodes * left, cpu_us + cpus * left, *counts]
        if before is not None:
            yield [new - old for new, old in zip(now, before, strict=True)]
        before = now


def _used(period: int, group: dict[str, str], kinds: dict[str, list[int]]) -> Used:
    node_us, cpu_us, *_ = kinds.get(USED, [0, 0])
    attempts, jobs, measured_us = (sum(sums[i] for sums in kinds.values()) for i in (2, 3, 4))
    return Used(
        period,
        group.get("user", ""),
        group.get("account", ""),
        group.get("pool", ""),
        node_us,
        cpu_us,
        attempts,
        jobs,
        measured_us,
        {kind: kinds[kind][0] for kind in WASTE if kind in kinds and kinds[kind][0]},
    )


PROJECTION = Projection("usage", version=1, tables=(FLOW,), queries=(usage, span))
