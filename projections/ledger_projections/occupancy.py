"""Whose attempts were on these nodes in a window, and how did they end, whoever is to blame?

It is what a person needs who knows of a loss that the log does not: nobody watched these nodes, or
what happened to them was no silence. Where the log recorded the loss, `outage_impact` has it.
"""

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from ledger.events import (
    AttemptEnded,
    AttemptEvent,
    AttemptPlaced,
    JobEnded,
    JobEvent,
    JobState,
    Recorded,
)
from ledger.projection import Projection, Table

NODES_AT_ONCE = 500
STILL_THERE = 2**63 - 1
"""Where an attempt has not ended: it leaves later than any time there is."""


class StayRow(msgspec.Struct, frozen=True, gc=False):
    """An attempt on one of its nodes, from its placement to its end (µs).

    `node` is empty where the names of its nodes are not known. `width` is how many nodes it had.
    `lost`: it ended by the loss of this node, or of one of its nodes that the log does not name.
    `outcome` and `next` are empty until it has ended.
    """

    job: int
    attempt: int
    node: str
    user: str
    account: str
    pool: str
    restartable: bool
    width: int
    placed_at: int
    left_at: int = STILL_THERE
    outcome: str = ""
    next: str = ""
    lost: bool = False


class FateRow(msgspec.Struct, frozen=True, gc=False):
    """The present state of a job that was ever placed."""

    job: int
    state: JobState


def stay_keys(r: Recorded) -> Iterable[tuple[int, int, str]]:
    """Each node of an attempt that is placed or ends."""
    e = r.event
    assert isinstance(e, AttemptEvent)
    return ((e.job, e.attempt, node) for node in dict.fromkeys(e.nodes or ("",)))


def evolve_stay(key: tuple[int, int, str], row: StayRow | None, r: Recorded) -> StayRow | None:
    """From its placement on; its end completes it."""
    e = r.event
    if isinstance(e, AttemptPlaced):
        return StayRow(
            *key,
            user=e.user,
            account=e.account,
            pool=e.pool,
            restartable=e.restartable,
            width=len(e.nodes) if e.node_count is None else e.node_count,
            placed_at=e.placed_at,
        )
    assert isinstance(e, AttemptEnded)
    if row is None:
        return None
    lost = e.outcome == "node_fail" and (key[2] in e.lost or not e.lost)
    return replace(row, left_at=r.at, outcome=e.outcome, next=e.next, lost=lost)


STAYS = Table(
    "stays",
    StayRow,
    key=3,
    events=(AttemptPlaced, AttemptEnded),
    keys=stay_keys,
    evolve=evolve_stay,
    indexes=[("node", "left_at", "placed_at"), ("left_at", "placed_at")],
)


def fate_keys(r: Recorded) -> Iterable[tuple[int]]:
    """The job that an event is about."""
    assert isinstance(r.event, JobEvent)
    return ((r.event.job,),)


def evolve_fate(key: tuple[int], row: FateRow | None, r: Recorded) -> FateRow | None:
    """A job is followed from its first placement on."""
    e = r.event
    if isinstance(e, AttemptPlaced):
        return FateRow(key[0], "running")
    assert isinstance(e, AttemptEnded | JobEnded)
    return None if row is None else FateRow(key[0], e.state)


FATES = Table(
    "fates",
    FateRow,
    key=1,
    events=(AttemptPlaced, AttemptEnded, JobEnded),
    keys=fate_keys,
    evolve=evolve_fate,
)


class Stay(msgspec.Struct, frozen=True):
    """An attempt that was on a node in the window, and the present state of its job."""

    row: StayRow
    state: JobState


def stays(
    connection: sa.Connection,
    *,
    nodes: Sequence[str] | None = None,
    since: int,
    until: int | None = None,
) -> list[Stay]:
    """The attempts that were on these nodes (None: on any) from `since` on and before `until` (µs).

    One that left at `since` itself was there no more, unless the node's loss is on record as what
    ended it. Sorted by user, account, job, attempt and node.
    """
    there = STAYS.c
    query = STAYS.select().add_columns(FATES.c.state).join(FATES.sql, FATES.c.job == there.job)
    query = query.where(there.left_at >= since, sa.or_(there.left_at > since, there.lost.is_(True)))
    if until is not None:
        query = query.where(there.placed_at < until)
    found: list[Stay] = []
    for some in _portions(nodes):
        wanted = query if some is None else query.where(there.node.in_(some))
        found += [Stay(StayRow(*row[:-1]), row[-1]) for row in connection.execute(wanted)]
    return sorted(found, key=lambda stay: _order(stay.row))


def never_used(connection: sa.Connection, *, nodes: Sequence[str]) -> list[str]:
    """Those of these nodes on which no attempt was ever placed, in their order, each once."""
    used: set[str] = set()
    for some in _portions(nodes):
        query = sa.select(STAYS.c.node).where(STAYS.c.node.in_(some or [])).distinct()
        used |= set(connection.execute(query).scalars())
    return [node for node in dict.fromkeys(nodes) if node not in used]


def _portions(nodes: Sequence[str] | None) -> list[Sequence[str] | None]:
    if nodes is None:
        return [None]
    distinct = sorted(set(nodes))
    return [distinct[i : i + NODES_AT_ONCE] for i in range(0, len(distinct), NODES_AT_ONCE)]


def _order(row: StayRow) -> tuple[str, str, int, int, str]:
    return row.user, row.account, row.job, row.attempt, row.node


PROJECTION = Projection("occupancy", version=1, tables=(STAYS, FATES), queries=(stays, never_used))
