"""Who used how many nodes and processors, when, and how much of it came to nothing?

What is in use is kept as differences, not as levels (`ledger.projection.grid`): exact to the
microsecond, one row an event at most, nothing to write while nothing changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import sqlalchemy as sa

from ledger.events import AttemptEnded, AttemptPlaced, Recorded
from ledger.projection import Projection, Table, grid
from ledger.projection.grid import SLOT_US, left_of, slot_of

USED = "used"
"""The kind of all use. The other kinds are how attempts ended: `failed`, `node_fail` and so on,
each over the whole time of those that ended so."""

WASTE = ("failed", "timeout", "out_of_memory", "deadline", "node_fail", "cancelled", "preempted",
         "requeued")  # fmt: skip
By = Literal["day", "user", "account", "pool"]


class FlowRow(msgspec.Struct, frozen=True, gc=False):
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
        return ((slot_of(e.placed_at), *whose, USED),)
    slots = dict.fromkeys((slot_of(e.placed_at), slot_of(_end(e))))
    return [(slot_of(_end(e)), *whose, USED), *((slot, *whose, e.outcome) for slot in slots)]


def evolve_flow(key: Key, row: FlowRow | None, r: Recorded) -> FlowRow:
    """The slot's changes, and this one."""
    e = r.event
    assert isinstance(e, AttemptPlaced | AttemptEnded)
    slot, kind = key[0], key[4]
    row = row or FlowRow(*key)
    nodes = len(e.nodes) if e.node_count is None else e.node_count
    cpus = e.cpus or 0
    if isinstance(e, AttemptPlaced) or (kind != USED and slot == slot_of(e.placed_at)):
        row = _changed(row, e.placed_at, nodes, cpus)
    if isinstance(e, AttemptEnded) and slot == slot_of(_end(e)):
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
    left = left_of(row.slot, at)
    return msgspec.structs.replace(
        row,
        nodes=row.nodes + nodes,
        node_us=row.node_us + nodes * left,
        cpus=row.cpus + cpus,
        cpu_us=row.cpu_us + cpus * left,
    )


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
    wanted = ((FLOW.c.user, user), (FLOW.c.account, account), (FLOW.c.pool, pool))
    levels = [grid.Level(FLOW.c.nodes, FLOW.c.node_us), grid.Level(FLOW.c.cpus, FLOW.c.cpu_us)]
    rows = grid.read(
        connection,
        FLOW.c.slot,
        [*groups, FLOW.c.kind],
        levels,
        [FLOW.c[name] for name in COUNTS],
        edges,
        where=[column == value for column, value in wanted if value],
        together=grid.width(edges),
    )
    found: dict[tuple[int, tuple[str, ...]], dict[str, list[int]]] = {}
    for (*group, kind), changes in rows.items():
        for period, sums in enumerate(grid.between(changes, edges, len(levels), len(COUNTS))):
            if any(sums):
                found.setdefault((period, tuple(group)), {})[kind] = sums
    return [
        _used(period, dict(zip([g.name for g in groups], group, strict=True)), kinds)
        for (period, group), kinds in sorted(found.items())
    ]


COUNTS = ("attempts", "jobs", "measured_us")


def span(connection: sa.Connection) -> tuple[int, int] | None:
    """Where the first slot begins (µs) that anything is known of, and where the last one ends."""
    low, high = connection.execute(
        sa.select(sa.func.min(FLOW.c.slot), sa.func.max(FLOW.c.slot))
    ).one()
    return None if low is None else (low * SLOT_US, (high + 1) * SLOT_US)


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


PROJECTION = Projection(
    "usage", version=1, tables=(FLOW,), queries=(usage, span), asked_by="anyone"
)
