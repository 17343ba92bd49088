"""What happened on this node, when and why, what did it have installed, and what ran there?

And which of it failed there, and later succeeded elsewhere?
"""

from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa
from msgspec.structs import asdict

from ledger.projection import Projection
from ledger_projections.node_history.rows import (
    CHANGES,
    FACTS,
    STAYS,
    STILL_THERE,
    TRIES,
    ChangeRow,
    FactRow,
    StayRow,
)

MAX_LIMIT = 10_000
SERVING: tuple[str, ...] = ("idle", "allocated")
DRAIN: tuple[str, ...] = ("draining", "drained")
SAYS_DRAIN = ("operator", "drained", "declared_dead")
"""Causes by which an operator says that a node is to take no jobs."""


class Cause(msgspec.Struct, frozen=True):
    """Why a node is in a state: when this was known (µs), the cause, the words of whoever decided
    it, and who that was; the outage that it belongs to, 0 for none."""

    at: int
    cause: str
    reason: str
    by: str
    outage: int


class Period(msgspec.Struct, frozen=True):
    """A time (µs) that a node was in one state; `until` is None while it still is.

    `state` is a `NodeState` or `retired`, but `serving` while it was idle or allocated: jobs tell
    which. `causes` has at least one; the first is why it came to it, what was said later follows.
    `drain` is all that was said so far of why it is to take no jobs, also before it went down: the
    first of it first. `position` is that of the event that began it.
    """

    state: str
    since: int
    until: int | None
    causes: list[Cause]
    drain: list[Cause]
    silent_since: int | None
    position: int


class Machine(msgspec.Struct, frozen=True):
    """What a node was, and what it had installed, for a time (µs); `until` None: it still is so."""

    since: int
    until: int | None
    pool: str = ""
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    image: str = ""
    kernel: str = ""
    packages_sha256: str = ""
    build: str = ""
    boot_id: str = ""


class Elsewhere(msgspec.Struct, frozen=True):
    """The same work was completed later on other nodes: by which job, in which attempt, when."""

    job: int
    attempt: int
    at: int


class Stay(msgspec.Struct, frozen=True):
    """An attempt on the node; `left_at` None: it is there. `elsewhere`: it failed, and that was
    the first time after it that the same work was completed without this node."""

    row: StayRow
    left_at: int | None
    elsewhere: Elsewhere | None


class Suspect(msgspec.Struct, frozen=True):
    """What came of the attempts that ended on a node: how many `ended` in all, how many `failed`
    there, and of how many of these, and how many users, the same work was completed `elsewhere`
    later."""

    node: str
    ended: int
    failed: int
    elsewhere: int
    users: int


# ── states ───────────────────────────────────────────────────────────────────────────────────────


def periods(
    connection: sa.Connection,
    node: str,
    *,
    since: int | None = None,
    until: int | None = None,
    limit: int = 100,
    before: int | None = None,
) -> list[Period]:
    """The states of a node, the latest first: those it was in from `since` on and before `until`
    (µs); of those that began before a position, if it is given."""
    query = CHANGES.select().where(CHANGES.c.node == node).order_by(CHANGES.c.position)
    found = [
        period
        for period in _periods(CHANGES.rows(connection, query))
        if (period.until is None or since is None or period.until > since)
        and (until is None or period.since < until)
        and (before is None or period.position < before)
    ]
    return found[::-1][: max(1, min(limit, MAX_LIMIT))]


def _periods(rows: Iterable[ChangeRow]) -> list[Period]:
    found: list[Period] = []
    drain: list[Cause] = []
    for row in rows:
        state = "serving" if row.to in SERVING else row.to
        cause = Cause(row.at, row.cause, row.reason, row.by, row.outage)
        if found and found[-1].state == state:
            found[-1].causes.append(cause)
        else:
            if found:
                found[-1] = msgspec.structs.replace(found[-1], until=row.at)
            found.append(Period(state, row.at, None, [cause], [], row.silent_since, row.position))
        if state in ("serving", "retired") or row.cause in ("resumed", "enrolled"):
            drain = []
        elif row.cause in SAYS_DRAIN or (state in DRAIN and not drain):
            drain = [*drain, cause]
        if drain:
            found[-1] = msgspec.structs.replace(found[-1], drain=drain)
    return found


def state_at(connection: sa.Connection, node: str, moment: int) -> str | None:
    """The state of a node at a moment (µs), as a master had shown it then, or `retired`; None: it
    had not joined yet."""
    query = CHANGES.select().where(CHANGES.c.node == node, CHANGES.c.at <= moment)
    rows = CHANGES.rows(connection, query.order_by(CHANGES.c.position.desc()).limit(1))
    if not rows:
        return None
    state = rows[0].to
    if state not in (*SERVING, *DRAIN):
        return state
    c = STAYS.c
    there = sa.select(c.job).where(c.node == node, c.left_at > moment, c.placed_at <= moment)
    taken = connection.execute(there.limit(1)).first() is not None
    return (SERVING if state in SERVING else DRAIN[::-1])[taken]


# ── machines ─────────────────────────────────────────────────────────────────────────────────────


def machines(
    connection: sa.Connection,
    node: str,
    *,
    since: int | None = None,
    until: int | None = None,
    limit: int = 100,
) -> list[Machine]:
    """What a node was and had installed, the latest first, from `since` on and before `until`
    (µs). Where nothing but the agent's process is new, it stays the same."""
    query = FACTS.select().where(FACTS.c.node == node).order_by(FACTS.c.position)
    found: list[Machine] = []
    for row in FACTS.rows(connection, query):
        now = _with(found[-1] if found else Machine(row.at, None), row)
        if found and now == found[-1]:
            continue
        if found:
            found[-1] = msgspec.structs.replace(found[-1], until=row.at)
        found.append(msgspec.structs.replace(now, since=row.at))
    kept = [
        machine
        for machine in found
        if (machine.until is None or since is None or machine.until > since)
        and (until is None or machine.since < until)
        and machine.until != machine.since
    ]
    return kept[::-1][: max(1, min(limit, MAX_LIMIT))]


def _with(machine: Machine, row: FactRow) -> Machine:
    new = {name: value for name, value in asdict(row).items() if value is not None}
    for name in ("node", "position", "at"):
        del new[name]
    return msgspec.structs.replace(machine, **new)


# ── what ran there ───────────────────────────────────────────────────────────────────────────────


def stays(
    connection: sa.Connection,
    node: str,
    *,
    since: int | None = None,
    until: int | None = None,
    failed: bool = False,
    limit: int = 100,
    cursor: str = "",
) -> tuple[list[Stay], str | None]:
    """A page of the attempts that were on a node from `since` on and before `until` (µs), those
    first that are there or left last, and the cursor of the next page.

    `failed`: only those that failed there. Raises ValueError for a cursor that is none.
    """
    c = STAYS.c
    query = STAYS.select().where(c.node == node)
    query = query.where(c.failed.is_(True)) if failed else query
    query = query.where(c.left_at > since) if since is not None else query
    query = query.where(c.placed_at < until) if until is not None else query
    order = (c.left_at, c.job, c.attempt)
    if cursor:
        left_at, job, attempt = map(int, cursor.split("."))
        if max(left_at, job, attempt) > STILL_THERE:
            raise ValueError(f"{cursor} is no cursor")
        query = query.where(sa.tuple_(*order) < sa.tuple_(left_at, job, attempt))
    limit = max(1, min(limit, MAX_LIMIT))
    query = query.order_by(*(column.desc() for column in order)).limit(limit + 1)
    found = STAYS.rows(connection, query)
    last = found[limit - 1] if len(found) > limit else None
    succeeded = _elsewhere(connection, node, [row for row in found[:limit] if row.failed])
    page = [Stay(row, _left(row), succeeded.get((row.job, row.attempt))) for row in found[:limit]]
    return page, f"{last.left_at}.{last.job}.{last.attempt}" if last else None


def _left(row: StayRow) -> int | None:
    return None if row.left_at == STILL_THERE else row.left_at


def _completed_later() -> sa.Select[tuple[int]]:
    """The job that first completed the work of a row of STAYS after it, without its node."""
    mine, other = TRIES.sql.alias("mine"), TRIES.sql.alias("other")
    there = STAYS.sql.alias("there")
    also_there = (
        sa.exists()
        .where(
            there.c.node == STAYS.c.node,
            there.c.job == other.c.job,
            there.c.attempt == other.c.completed_in,
        )
        .correlate(STAYS.sql, other)
    )
    return (
        sa.select(other.c.job)
        .select_from(mine.join(other, other.c.work == mine.c.work))
        .where(mine.c.job == STAYS.c.job, other.c.completed_at > STAYS.c.left_at, ~also_there)
        .order_by(other.c.completed_at, other.c.job)
        .limit(1)
        .correlate(STAYS.sql)
    )


def _elsewhere(
    connection: sa.Connection, node: str, rows: Sequence[StayRow]
) -> dict[tuple[int, int], Elsewhere]:
    if not rows:
        return {}
    c = STAYS.c
    query = sa.select(c.job, c.attempt, _completed_later().scalar_subquery()).where(
        c.node == node, c.job.in_({row.job for row in rows})
    )
    known = {(row.job, row.attempt) for row in rows}
    found = {(job, attempt): other for job, attempt, other in connection.execute(query)}
    by = {key: other for key, other in found.items() if other and key in known}
    done = TRIES.select().where(TRIES.c.job.in_(set(by.values())))
    ends = {t.job: t for t in TRIES.rows(connection, done)}
    return {
        key: Elsewhere(job, ends[job].completed_in, ends[job].completed_at or 0)
        for key, job in by.items()
    }


def failures(
    connection: sa.Connection,
    *,
    since: int | None = None,
    until: int | None = None,
    pool: str = "",
    limit: int = 20,
) -> list[Suspect]:
    """The nodes on which attempts failed whose work was completed elsewhere later, the one with
    most of these first, then the one with most failures; of what ended from `since` on and before
    `until` (µs), and of jobs in one pool."""
    c = STAYS.c
    window = [c.left_at < (STILL_THERE if until is None else until)]
    window += [c.left_at >= since] if since is not None else []
    window += [c.pool == pool] if pool else []
    later = sa.case((sa.exists(_completed_later()), c.user))
    failed = sa.select(c.node, c.user, later.label("later")).where(c.failed.is_(True), *window)
    one = failed.cte("one").prefix_with("MATERIALIZED")  # each is looked up once
    counts = sa.select(
        one.c.node,
        sa.func.count(),
        sa.func.count(one.c.later).label("elsewhere"),
        sa.func.count(sa.distinct(one.c.later)),
    ).group_by(one.c.node)
    query = counts.order_by(
        sa.func.count(one.c.later).desc(), sa.func.count().desc(), one.c.node
    ).limit(max(1, min(limit, MAX_LIMIT)))
    rows = connection.execute(query).all()
    counted = (
        sa.select(c.node, sa.func.count())
        .where(c.node.in_([row[0] for row in rows]), *window)
        .group_by(c.node)
    )
    ended: dict[str, int] = {row[0]: row[1] for row in connection.execute(counted)}
    return [Suspect(node, ended[node], n, elsewhere, users) for node, n, elsewhere, users in rows]


PROJECTION = Projection(
    "node_history",
    version=1,
    tables=(CHANGES, FACTS, STAYS, TRIES),
    queries=(periods, state_at, machines, stays, failures),
)
