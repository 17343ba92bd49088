"""How long were the queues, how many nodes were in use, and by how much did demand exceed them?"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import asdict

from ledger.projection import Projection, Table, grid
from ledger.projection.grid import SLOT_US, Group, Level, Row, left_of, slot_of
from ledger_projections.demand.rows import FLOW, JOBS, NODES

GROUPS = ("pool", "user", "account")
LEVELS = ("queued_jobs", "queued_nodes", "running_jobs", "used_nodes", "serving_nodes",
          "held_jobs", "held_nodes")  # fmt: skip
COUNTS = ("asked_jobs", "asked_node_s", "started_jobs", "started_node_s", "withdrawn_jobs",
          "refused_jobs", "refused_node_s", "withdrawn_node_s")  # fmt: skip
END_OF_TIME = 2**32 * SLOT_US


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """What waits and runs of those whom the grouping names: jobs and nodes.

    `held` is the part of `queued` that waits for a release. `serving_nodes` are in service: None
    where users or accounts are told apart, whose nodes are nobody's.
    """

    pool: str = ""
    user: str = ""
    account: str = ""
    queued_jobs: int
    queued_nodes: int
    held_jobs: int
    held_nodes: int
    running_jobs: int
    used_nodes: int
    serving_nodes: int | None


class Demand(Depth, frozen=True, kw_only=True):
    """The demand of a period (a place in `edges`); what `Depth` tells is as of the period's end.

    What ends in `_us` is the integral over the period. `asked`, `started` (for the first time),
    `withdrawn` (ended while they waited), `refused`: jobs, and the node-seconds they asked for.
    `unmet_us`: node-time that was wanted, quarter of an hour by quarter of an hour, beyond what was
    in service (or, where that was more, in use): of what was queued and not held. None as for
    `serving_nodes`.
    """

    period: int
    queued_jobs_us: int
    queued_nodes_us: int
    held_jobs_us: int
    held_nodes_us: int
    running_jobs_us: int
    used_nodes_us: int
    serving_nodes_us: int | None
    unmet_us: int | None
    asked_jobs: int
    asked_node_s: int
    started_jobs: int
    started_node_s: int
    withdrawn_jobs: int
    withdrawn_node_s: int
    refused_jobs: int
    refused_node_s: int


def demand(
    connection: sa.Connection,
    *,
    edges: Sequence[int],
    by: Sequence[str] = (),
    user: str = "",
    account: str = "",
    pool: str = "",
) -> list[Demand]:
    """Demand between each two of `edges` (µs, rising), by `pool`, `user`, `account`, or none.

    Exact between edges that are whole slots; the last may also be the present. Periods and groups
    in which nothing waited, ran or was asked for are left out. Sorted by period and group.
    """
    asked = _Asked(connection, by, user=user, account=account, pool=pool)
    found = []
    for group, (changes, unmet) in _by_group(asked, edges).items():
        sums = grid.between(changes, edges, len(LEVELS), len(COUNTS))
        ends = grid.levels_at(changes, edges, len(LEVELS))[1:]
        for period, (values, levels) in enumerate(zip(sums, ends, strict=True)):
            if any(values) or any(levels):
                told = asked.told(group, levels)
                told |= zip([*(f"{name}_us" for name in LEVELS), *COUNTS], values, strict=True)
                told["unmet_us"] = unmet[period]
                if not asked.whole:
                    told |= {"serving_nodes_us": None, "unmet_us": None}
                found.append(Demand(period=period, **told))
    return sorted(found, key=lambda one: (one.period, one.pool, one.user, one.account))


def depth(
    connection: sa.Connection,
    *,
    by: Sequence[str] = (),
    user: str = "",
    account: str = "",
    pool: str = "",
) -> list[Depth]:
    """What waits and runs now, by `pool`, `user`, `account`, or none. Empty groups are left out."""
    asked = _Asked(connection, by, user=user, account=account, pool=pool)
    edges = (END_OF_TIME, END_OF_TIME + SLOT_US)
    found = []
    for group, changes in _rows(asked, asked.names, edges, together=1).items():
        levels = grid.levels_at(changes, edges[:1], len(LEVELS))[0]
        if any(levels):
            found.append(Depth(**asked.told(group, levels)))
    return found


def span(connection: sa.Connection) -> tuple[int, int] | None:
    """Where the first slot begins (µs) that anything is known of, and where the last one ends."""
    low, high = connection.execute(
        sa.select(sa.func.min(FLOW.c.slot), sa.func.max(FLOW.c.slot))
    ).one()
    return None if low is None else (low * SLOT_US, (high + 1) * SLOT_US)


class _Asked:
    """A question: how it groups, and whose demand it is about. `whole`: everybody's of a pool, so
    that what is in service can be told beside it."""

    def __init__(self, connection: sa.Connection, by: Sequence[str], **whose: str) -> None:
        self.connection = connection
        self.names = [name for name in GROUPS if name in by]
        self.whose = {name: value for name, value in whose.items() if value}
        self.whole = {*self.names, *self.whose} <= {"pool"}

    def of(self, table: Table[Any]) -> list[sa.ColumnElement[bool]]:
        """Those rows of a table that it is about."""
        return [table.c[name] == value for name, value in self.whose.items()]

    def told(self, group: Group, levels: Sequence[int]) -> dict[str, Any]:
        """A group's name and levels."""
        found: dict[str, Any] = dict(zip(LEVELS, levels, strict=True))
        if not self.whole:
            found["serving_nodes"] = None
        return found | dict(zip(self.names, group, strict=True))


def _by_group(asked: _Asked, edges: Sequence[int]) -> dict[Group, tuple[list[Row], list[int]]]:
    """Each group's changes, and what of its demand was unmet in each period, which is known of a
    whole pool only."""
    if not asked.whole:
        rows = _rows(asked, asked.names, edges, together=grid.width(edges))
        return {group: (changes, [0] * len(edges)) for group, changes in rows.items()}
    pools = _rows(asked, ["pool"], edges, together=1)
    unmet = {pool: _unmet(changes, edges) for pool, changes in pools.items()}
    if asked.names:
        return {pool: (changes, unmet[pool]) for pool, changes in pools.items()}
    everywhere: Group = ()
    together = grid.merged(*[{everywhere: changes} for changes in pools.values()])
    total = [sum(values) for values in zip(*unmet.values(), strict=True)]
    return {group: (changes, total) for group, changes in together.items()}


def _unmet(changes: Sequence[Row], edges: Sequence[int]) -> list[int]:
    found = [0] * (len(edges) - 1)
    for piece in grid.pieces(changes, edges, len(LEVELS)):
        us = dict(zip(LEVELS, piece.integrals, strict=True))
        wants = us["queued_nodes"] - us["held_nodes"]
        beyond = us["used_nodes"] + wants - us["serving_nodes"]
        found[piece.period] += max(0, min(wants, beyond))
    return found


# ── reading the tables ───────────────────────────────────────────────────────────────────────────

_NOTHING: sa.ColumnElement[int] = sa.literal_column("0", sa.BigInteger)


def _rows(
    asked: _Asked, names: Sequence[str], edges: Sequence[int], *, together: int
) -> dict[Group, list[Row]]:
    """All changes of `LEVELS` and `COUNTS` by these names: what `flow` tells, and what it can't."""
    connection = asked.connection
    flow = grid.read(
        connection,
        FLOW.c.slot,
        [FLOW.c[name] for name in names],
        [_level(name, asked) for name in LEVELS],
        [FLOW.c.get(name, _NOTHING) for name in COUNTS],
        edges,
        where=asked.of(FLOW),
        together=together,
    )
    left = left_of(JOBS.c.left_slot, JOBS.c.left_at)
    gone = {"queued_nodes": Level(-JOBS.c.nodes, -JOBS.c.nodes * left)}
    counted = {"withdrawn_node_s": JOBS.c.nodes * JOBS.c.time_limit_s}
    withdrawn = grid.read(
        connection,
        JOBS.c.left_slot,
        [JOBS.c[name] for name in names],
        [gone.get(name, Level(_NOTHING, _NOTHING)) for name in LEVELS],
        [counted.get(name, _NOTHING) for name in COUNTS],
        edges,
        where=[JOBS.c.left_slot.is_not(None), *asked.of(JOBS)],
        together=together,
    )
    return grid.merged(flow, withdrawn, _late(asked, names))


def _level(name: str, asked: _Asked) -> Level:
    if name not in FLOW.c or (name == "serving_nodes" and not asked.whole):
        return Level(_NOTHING, _NOTHING)
    return Level(FLOW.c[name], FLOW.c[f"{name}_us"])


def _late(asked: _Asked, names: Sequence[str]) -> dict[Group, list[Row]]:
    """What `flow` can't tell of jobs and nodes."""
    found: dict[Group, dict[int, Row]] = {}

    def add(group: Group, at: int, changes: Mapping[str, int]) -> None:
        slot = slot_of(at)
        left = left_of(slot, at)
        row = [slot]
        for name in LEVELS:
            row += [changes.get(name, 0), changes.get(name, 0) * left]
        row += [0] * len(COUNTS)
        slots = found.setdefault(group, {})
        slots[slot] = grid.added(slots[slot], row) if slot in slots else row

    query = JOBS.select().where(JOBS.c.corrected.is_(True), *asked.of(JOBS))
    for job in JOBS.rows(asked.connection, query):
        group = tuple(getattr(job, name) for name in names)
        for late in job.late:
            add(group, late.at, asdict(late))
    if asked.whole:
        for node in NODES.rows(asked.connection, NODES.select()):
            for moved in node.late:
                if asked.whose.get("pool", moved.pool) == moved.pool:
                    group = (moved.pool,) if names else ()
                    add(group, moved.at, {"serving_nodes": moved.nodes})
    return {group: [rows[slot] for slot in sorted(rows)] for group, rows in found.items()}


PROJECTION = Projection(
    "demand", version=1, tables=(FLOW, JOBS, NODES), queries=(demand, depth, span)
)
