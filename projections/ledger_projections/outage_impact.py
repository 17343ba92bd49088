"""Whose jobs were interrupted by the loss of which nodes, in which window?

A job is on record from the first silence of a node that it runs on, long before anybody knows how
it ends: so a strike, what an attempt lost, and what became of the job are three kinds of rows.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    JobEnded,
    JobEvent,
    JobState,
    NodeStateChanged,
    Recorded,
)
from ledger.projection import Projection, Table

Effect = Literal["requeued", "lost", "out_of_contact", "continued", "held"]
NODES_AT_ONCE = 500


class ChangeRow(msgspec.Struct, frozen=True, gc=False):
    """A node's change of state, by the position of its event. `at` is µs."""

    node: str
    position: int
    at: int
    down: bool
    cause: str
    silent_since: int | None
    pool: str
    rack: str
    reason: str


class StrikeRow(msgspec.Struct, frozen=True, gc=False):
    """A node fell silent, or was declared dead, under an attempt at this position."""

    job: int
    attempt: int
    node: str
    position: int
    at: int
    outage: int


class LossRow(msgspec.Struct, frozen=True, gc=False):
    """What the trouble of a node did to an attempt on it.

    `struck_at`: the first silence, or the loss itself where no silence came before it (`silent` is
    false then). `effect` is empty while the attempt has not ended. `lost_us`: the node-time of the
    whole attempt, from its placement to its end times its nodes, if the node ended it. `outage` is
    the one that ended the attempt, or that the node was lost in first; 0: none is known.
    """

    job: int
    attempt: int
    node: str
    user: str
    account: str
    pool: str
    restartable: bool
    placed_at: int
    struck_at: int
    silent: bool
    silent_since: int | None = None
    ended_at: int | None = None
    cause: str = ""
    effect: Effect | Literal[""] = ""
    lost_us: int = 0
    outage: int = 0


class FateRow(msgspec.Struct, frozen=True, gc=False):
    """The present state of a job that was ever struck, and its last attempt."""

    job: int
    state: JobState
    attempt: int


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────


def change_keys(r: Recorded) -> Iterable[tuple[str, int]]:
    """The change itself, if the node goes down or comes back."""
    e = r.event
    assert isinstance(e, NodeStateChanged)
    return ((e.node, r.position),) if (e.to == "down") or (e.was == "down") else ()


def evolve_change(key: tuple[str, int], row: ChangeRow | None, r: Recorded) -> ChangeRow:
    """The change, as it was recorded."""
    e = r.event
    assert isinstance(e, NodeStateChanged)
    return ChangeRow(
        node=e.node,
        position=r.position,
        at=r.at,
        down=e.to == "down",
        cause=e.cause,
        silent_since=e.silent_since or None,
        pool=e.pool,
        rack=e.rack,
        reason=e.reason,
    )


CHANGES = Table(
    "changes", ChangeRow, key=2, events=(NodeStateChanged,), keys=change_keys, evolve=evolve_change
)

# ── attempts ─────────────────────────────────────────────────────────────────────────────────────


def strike_keys(r: Recorded) -> Iterable[tuple[int, int, str, int]]:
    """Every attempt that the trouble of a node touches."""
    e = r.event
    assert isinstance(e, NodeStateChanged)
    return ((s.job, s.attempt, e.node, r.position) for s in e.struck)


def evolve_strike(key: tuple[int, int, str, int], row: StrikeRow | None, r: Recorded) -> StrikeRow:
    """The strike, as it was recorded."""
    assert isinstance(r.event, NodeStateChanged)
    return StrikeRow(*key, r.at, r.event.outage)


STRIKES = Table(
    "strikes",
    StrikeRow,
    key=4,
    events=(NodeStateChanged,),
    keys=strike_keys,
    evolve=evolve_strike,
    indexes=[("node", "at"), ("at",), ("outage",)],
)


def loss_keys(r: Recorded) -> Iterable[tuple[int, int, str]]:
    """The attempts on a node in trouble; an attempt that ends, on each of its nodes."""
    e = r.event
    if isinstance(e, NodeStateChanged):
        return ((s.job, s.attempt, e.node) for s in e.struck)
    assert isinstance(e, AttemptEnded)
    return ((e.job, e.attempt, node) for node in dict.fromkeys((*e.nodes, *e.lost)))


def evolve_loss(key: tuple[int, int, str], row: LossRow | None, r: Recorded) -> LossRow | None:
    """The first strike begins a row, the end of the attempt completes it."""
    e = r.event
    if isinstance(e, NodeStateChanged):
        return row or _struck(key, e, r)
    assert isinstance(e, AttemptEnded)
    interrupted = e.outcome == "node_fail"
    if row is None:
        if not interrupted or key[2] not in e.lost:
            return None
        row = LossRow(
            *key,
            user=e.user,
            account=e.account,
            pool=e.pool,
            restartable=e.next != "final",
            placed_at=e.placed_at,
            struck_at=r.at,
            silent=False,
        )
    return replace(
        row,
        ended_at=r.at,
        cause=e.cause,
        effect=_effect(e),
        lost_us=e.held_us * len(e.nodes) if interrupted else 0,
        outage=e.outage or row.outage,
    )


def _struck(key: tuple[int, int, str], e: NodeStateChanged, r: Recorded) -> LossRow:
    struck = next(s for s in e.struck if (s.job, s.attempt) == key[:2])
    return LossRow(
        *key,
        user=struck.user,
        account=struck.account,
        pool=struck.pool,
        restartable=struck.restartable,
        placed_at=struck.placed_at,
        struck_at=r.at,
        silent=True,
        silent_since=e.silent_since or None,
        outage=e.outage,
    )


def _effect(e: AttemptEnded) -> Effect:
    if e.outcome != "node_fail":
        return "continued"
    if e.next == "final":
        return "lost"
    return "held" if e.next == "held" else "requeued"


ATTEMPT_LOSSES = Table(
    "losses",
    LossRow,
    key=3,
    events=(NodeStateChanged, AttemptEnded),
    keys=loss_keys,
    evolve=evolve_loss,
    indexes=[("node", "struck_at"), ("struck_at",), ("outage",)],
)


def fate_keys(r: Recorded) -> Iterable[tuple[int]]:
    """The jobs that a node's trouble touches; the job that an event is about."""
    e = r.event
    if isinstance(e, NodeStateChanged):
        return ((job,) for job in dict.fromkeys(s.job for s in e.struck))
    assert isinstance(e, JobEvent)
    return ((e.job,),)


def evolve_fate(key: tuple[int], row: FateRow | None, r: Recorded) -> FateRow | None:
    """A job is followed from its first strike on."""
    e = r.event
    if isinstance(e, NodeStateChanged):
        attempt = next(s.attempt for s in e.struck if s.job == key[0])
        return row or FateRow(key[0], "running", attempt)
    if isinstance(e, AttemptEnded):
        struck = row is not None or (e.outcome == "node_fail" and e.lost)
        return FateRow(key[0], e.state, e.attempt) if struck else None
    if row is None:
        return None
    if isinstance(e, AttemptPlaced):
        return FateRow(key[0], "running", e.attempt)
    assert isinstance(e, JobEnded)
    return FateRow(key[0], e.state, row.attempt)


FATES = Table(
    "fates",
    FateRow,
    key=1,
    events=(NodeStateChanged, AttemptPlaced, AttemptEnded, JobEnded),
    keys=fate_keys,
    evolve=evolve_fate,
)

# ── queries ──────────────────────────────────────────────────────────────────────────────────────


class ImpactJob(msgspec.Struct, frozen=True):
    """A job that the trouble of a node touched: one for each attempt and node. `lost_us` is the
    node-time of the whole attempt, `state` the job's present one, `last` its latest attempt."""

    job: int
    attempt: int
    node: str
    struck_at: int
    restartable: bool
    lost_us: int
    effect: Effect
    state: JobState
    last: int
    outage: int


class ImpactUser(msgspec.Struct, frozen=True):
    """A user and account that were hit: `lost_us` counts every attempt once. `requeued` and
    `needs_owner` count jobs: those that wait again by themselves, and those whose last struck
    attempt was lost, is held, or is out of contact, which its owner has to look after."""

    user: str
    account: str
    jobs: list[ImpactJob]
    lost_us: int
    requeued: int
    needs_owner: int


def impact(
    connection: sa.Connection,
    *,
    nodes: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
    outages: Sequence[int] = (),
    window: bool = True,
    user: str = "",
) -> list[ImpactUser]:
    """Whom the trouble of these nodes (None: of any) hit from `since` on and before `until` (µs),
    and whom these `outages` did; without `window` only these. `user`: of him alone.

    A job counts if a node under it fell silent, or was declared dead, in the window; or if the node
    lost it in the window without having been silent. Sorted by user, account, job, attempt, node.
    """
    lost, strike = ATTEMPT_LOSSES.c, STRIKES.c
    query = ATTEMPT_LOSSES.select().add_columns(FATES.c.state, FATES.c.attempt)
    query = query.join(FATES.sql, FATES.c.job == lost.job)
    query = query.where(lost.user == user) if user else query
    same = sa.and_(*(strike[name] == lost[name] for name in ("job", "attempt", "node")))
    struck = query.join(STRIKES.sql, same)
    wanted = []
    for some in _portions(nodes) if window else []:
        there = [sa.true()] if some is None else [strike.node.in_(some)]
        wanted.append(struck.where(*there, *_window(strike.at, since, until)))
        there = [sa.true()] if some is None else [lost.node.in_(some)]
        sudden = query.where(lost.silent.is_(False))
        wanted.append(sudden.where(*there, *_window(lost.struck_at, since, until)))
    if outages:
        wanted += [query.where(lost.outage.in_(outages)), struck.where(strike.outage.in_(outages))]
    rows = {row[:3]: row for some in wanted for row in connection.execute(some)}
    in_order = sorted(rows.values(), key=lambda row: (row.user, row.account, *row[:3]))
    found = [(LossRow(*row[:-2]), row[-2], row[-1]) for row in in_order]
    down = _down(connection, {row.node for row, _, _ in found if not row.effect})
    users: dict[tuple[str, str], list[ImpactJob]] = {}
    for row, state, last in found:
        effect = row.effect or ("out_of_contact" if row.node in down else "continued")
        about = (row.job, row.attempt, row.node, row.struck_at, row.restartable, row.lost_us)
        jobs = users.setdefault((row.user, row.account), [])
        jobs.append(ImpactJob(*about, effect, state, last, row.outage))
    return [_user(user, account, jobs) for (user, account), jobs in users.items()]


def losses(connection: sa.Connection, *, nodes: Sequence[str] | None = None) -> list[ChangeRow]:
    """When these nodes (None: all) went down and came back, in the order of the log."""
    query = CHANGES.select()
    found: list[ChangeRow] = []
    for some in _portions(nodes):
        wanted = query if some is None else query.where(CHANGES.c.node.in_(some))
        found += CHANGES.rows(connection, wanted)
    return sorted(found, key=lambda row: row.position)


def _portions(nodes: Sequence[str] | None) -> list[Sequence[str] | None]:
    if nodes is None:
        return [None]
    distinct = sorted(set(nodes))
    return [distinct[i : i + NODES_AT_ONCE] for i in range(0, len(distinct), NODES_AT_ONCE)]


def _window(
    at: sa.ColumnElement[int], since: int | None, until: int | None
) -> list[sa.ColumnElement[bool]]:
    bounds: list[sa.ColumnElement[bool]] = [sa.true()]
    if since is not None:
        bounds.append(at >= since)
    if until is not None:
        bounds.append(at < until)
    return bounds


def _down(connection: sa.Connection, nodes: set[str]) -> set[str]:
    """Those of these nodes that are down now: whose last change was to go down."""
    down: set[str] = set()
    for some in _portions(sorted(nodes)):
        among = CHANGES.c.node.in_(some or [])
        last = sa.select(sa.func.max(CHANGES.c.position)).where(among).group_by(CHANGES.c.node)
        query = CHANGES.select().where(
            among, CHANGES.c.position.in_(last), CHANGES.c.down.is_(True)
        )
        down |= {row.node for row in CHANGES.rows(connection, query)}
    return down


def _user(user: str, account: str, jobs: list[ImpactJob]) -> ImpactUser:
    lost = {(job.job, job.attempt): job.lost_us for job in jobs}
    last: dict[int, tuple[int, set[str]]] = {}
    for job in jobs:
        attempt, effects = last.get(job.job, (0, set()))
        last[job.job] = (job.attempt, {job.effect} | (effects if attempt == job.attempt else set()))
    return ImpactUser(
        user=user,
        account=account,
        jobs=jobs,
        lost_us=sum(lost.values()),
        requeued=sum("requeued" in effects for _, effects in last.values()),
        needs_owner=sum(
            bool(effects & {"lost", "held", "out_of_contact"}) for _, effects in last.values()
        ),
    )


PROJECTION = Projection(
    "outage_impact",
    version=2,
    tables=(CHANGES, STRIKES, ATTEMPT_LOSSES, FATES),
    queries=(impact, losses),
)
