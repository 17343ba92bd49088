"""Which outages were there, on which nodes, from when to when, why, and who was told of them?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from ledger.events import (
    AttemptEnded,
    NodeStateChanged,
    NoticeDue,
    NoticeEvent,
    NoticeFailed,
    NoticeSent,
    OutageCauseFound,
    OutageClosed,
    OutageEvent,
    OutageGrew,
    OutageKind,
    OutageOpened,
    OutageTold,
    Recorded,
    Why,
)
from ledger.projection import Projection, Table


class OutageRow(msgspec.Struct, frozen=True):
    """An outage. Times are µs.

    `until` is its end, or the planned one while it is open; `count` how many nodes it has. `words`
    are what people said last of its cause, `result` what came of it. `told_at`: when everybody hit
    until then had a notice.
    """

    outage: int
    kind: OutageKind
    since: int
    opened_at: int
    opened_by: str
    until: int | None
    closed_at: int | None
    closed_by: str
    rack: str
    switch: str
    power: str
    pools: tuple[str, ...]
    count: int
    cause: str
    reason: str
    words: str
    result: str
    waiting: Mapping[str, int]
    told_at: int | None


class MemberRow(msgspec.Struct, frozen=True):
    """A node of an outage: when it was lost last, how often, and when it came back, if it did."""

    outage: int
    node: str
    lost_at: int | None
    losses: int
    back_at: int | None


class CauseRow(msgspec.Struct, frozen=True):
    """What somebody said of the cause of an outage."""

    outage: int
    position: int
    at: int
    by: str
    cause: str


class NoticeRow(msgspec.Struct, frozen=True):
    """A notice: `sent_at` when it went out, and over which channels; `next_at` when it is tried
    again, None once it was sent or given up; `error` why the last try failed."""

    notice: int
    outage: int
    to: str
    desk: bool
    why: Why
    pool: str
    due_at: int
    tries: int
    sent_at: int | None
    channels: tuple[str, ...]
    next_at: int | None
    error: str


# ── outages and their nodes ──────────────────────────────────────────────────────────────────────


def outage_keys(r: Recorded) -> Iterable[tuple[int]]:
    """The outage."""
    assert isinstance(r.event, OutageEvent)
    return ((r.event.outage,),)


def evolve_outage(key: tuple[int], row: OutageRow | None, r: Recorded) -> OutageRow | None:
    """It is opened once; everything else changes it."""
    e = r.event
    if isinstance(e, OutageOpened):
        return _opened(e, r)
    if row is None:
        return None
    if isinstance(e, OutageGrew):
        pools = tuple(sorted({*row.pools, *e.pools}))
        count = row.count + len(e.nodes)
        return replace(row, count=count, pools=pools, rack=e.rack, switch=e.switch, power=e.power)
    if isinstance(e, OutageCauseFound):
        return replace(row, words=e.cause)
    if isinstance(e, OutageTold):
        return replace(row, told_at=r.at) if e.why == "hit" else row
    assert isinstance(e, OutageClosed)
    by = r.envelope.by if e.reason else "system"
    return replace(row, until=e.until, closed_at=r.at, closed_by=by, result=e.reason)


def _opened(e: OutageOpened, r: Recorded) -> OutageRow:
    return OutageRow(
        outage=e.outage,
        kind=e.kind,
        since=e.since,
        opened_at=r.at,
        opened_by=r.envelope.by if e.kind in ("operator", "planned") else "system",
        until=e.until or None,
        closed_at=None,
        closed_by="",
        rack=e.rack,
        switch=e.switch,
        power=e.power,
        pools=e.pools,
        count=len(e.nodes),
        cause=e.cause,
        reason=e.reason,
        words="",
        result="",
        waiting=e.waiting,
        told_at=None,
    )


OUTAGES = Table(
    "outages",
    OutageRow,
    key=1,
    events=(OutageOpened, OutageGrew, OutageCauseFound, OutageTold, OutageClosed),
    keys=outage_keys,
    evolve=evolve_outage,
    indexes=[("closed_at",), ("since",)],
)


def member_keys(r: Recorded) -> Iterable[tuple[int, str]]:
    """The nodes that an event about an outage names, or the node that it is about."""
    e = r.event
    if isinstance(e, OutageOpened | OutageGrew):
        return ((e.outage, node) for node in dict.fromkeys(e.nodes))
    if isinstance(e, NodeStateChanged):
        return ((e.outage, e.node),) if e.outage else ()
    assert isinstance(e, AttemptEnded)
    return ((e.outage, node) for node in dict.fromkeys(e.lost)) if e.outage else ()


def evolve_member(key: tuple[int, str], row: MemberRow | None, r: Recorded) -> MemberRow | None:
    """A node joins once; then it is lost and comes back, perhaps again and again."""
    e = r.event
    if isinstance(e, OutageOpened | OutageGrew):
        return row or MemberRow(*key, lost_at=None, losses=0, back_at=None)
    if row is None:
        return None
    if isinstance(e, AttemptEnded):
        down = row.lost_at is not None and row.back_at is None
        return row if down else replace(row, lost_at=r.at, losses=row.losses + 1, back_at=r.at)
    assert isinstance(e, NodeStateChanged)
    if e.to != "down":
        return replace(row, back_at=r.at)
    if e.was == "down":
        return row
    return replace(row, lost_at=r.at, losses=row.losses + 1, back_at=None)


MEMBERS = Table(
    "members",
    MemberRow,
    key=2,
    events=(OutageOpened, OutageGrew, NodeStateChanged, AttemptEnded),
    keys=member_keys,
    evolve=evolve_member,
    indexes=[("node",)],
)


def cause_keys(r: Recorded) -> Iterable[tuple[int, int]]:
    """The outage, and where it was said."""
    assert isinstance(r.event, OutageCauseFound)
    return ((r.event.outage, r.position),)


def evolve_cause(key: tuple[int, int], row: CauseRow | None, r: Recorded) -> CauseRow:
    """What was said."""
    assert isinstance(r.event, OutageCauseFound)
    return CauseRow(*key, r.at, r.envelope.by, r.event.cause)


CAUSES = Table(
    "causes",
    CauseRow,
    key=2,
    events=(OutageCauseFound,),
    keys=cause_keys,
    evolve=evolve_cause,
)

# ── notices ──────────────────────────────────────────────────────────────────────────────────────


def notice_keys(r: Recorded) -> Iterable[tuple[int]]:
    """The notice."""
    assert isinstance(r.event, NoticeEvent)
    return ((r.event.notice,),)


def evolve_notice(key: tuple[int], row: NoticeRow | None, r: Recorded) -> NoticeRow | None:
    """It is due, and is sent, or tried again, or given up."""
    e = r.event
    if isinstance(e, NoticeDue):
        about = (e.notice, e.outage, e.to, e.desk, e.why, e.pool)
        return NoticeRow(*about, r.at, 0, None, (), r.at, "")
    if row is None:
        return None
    if isinstance(e, NoticeSent):
        return replace(
            row, tries=e.tries, sent_at=r.at, channels=e.channels, next_at=None, error=""
        )
    assert isinstance(e, NoticeFailed)
    return replace(row, tries=e.tries, next_at=e.next_at or None, error=e.error)


NOTICES = Table(
    "notices",
    NoticeRow,
    key=1,
    events=(NoticeDue, NoticeSent, NoticeFailed),
    keys=notice_keys,
    evolve=evolve_notice,
    indexes=[("outage",), ("to",)],
)

# ── queries ──────────────────────────────────────────────────────────────────────────────────────


class Shown(NamedTuple):
    """An outage with all that is known of it, each in its order."""

    row: OutageRow
    members: list[MemberRow]
    causes: list[CauseRow]
    notices: list[NoticeRow]


def list_outages(
    connection: sa.Connection,
    *,
    only_open: bool = False,
    since: int | None = None,
    kinds: Sequence[str] = (),
    limit: int = 200,
    before: int | None = None,
) -> list[OutageRow]:
    """The outages, the latest first: those that are open, or were not over at `since` (µs); of
    these kinds; with numbers below `before`."""
    c = OUTAGES.c
    query = OUTAGES.select().order_by(c.outage.desc()).limit(limit)
    query = query.where(c.closed_at.is_(None)) if only_open else query
    query = query.where(c.kind.in_(kinds)) if kinds else query
    if since is not None:
        query = query.where(sa.or_(c.closed_at.is_(None), c.until >= since))
    if before is not None:
        query = query.where(c.outage < before)
    return OUTAGES.rows(connection, query)


def show_outage(connection: sa.Connection, outage: int) -> Shown | None:
    """All that is known of one outage; None: there is no such."""
    rows = OUTAGES.rows(connection, OUTAGES.select().where(OUTAGES.c.outage == outage))
    if not rows:
        return None

    def of(table: Table, column: str) -> list:  # type: ignore[type-arg]
        query = table.select().where(table.c.outage == outage)
        return table.rows(connection, query.order_by(table.c[column]))

    return Shown(rows[0], of(MEMBERS, "node"), of(CAUSES, "position"), of(NOTICES, "notice"))


def notices(
    connection: sa.Connection, *, outages: Sequence[int] = (), user: str = ""
) -> list[NoticeRow]:
    """The notices of these outages (none: of all), those to one user, in order."""
    query = NOTICES.select().order_by(NOTICES.c.notice)
    query = query.where(NOTICES.c.outage.in_(outages)) if outages else query
    if user:
        query = query.where(NOTICES.c.to == user, NOTICES.c.desk.is_(False))
    return NOTICES.rows(connection, query)


def list_notices(
    connection: sa.Connection,
    *,
    user: str = "",
    desk: str = "",
    outage: int = 0,
    state: str = "",
    notice: int = 0,
    limit: int = 200,
    before: int | None = None,
) -> list[NoticeRow]:
    """Notices, the latest first: to one user or one desk, of one outage, that one alone; `waiting`,
    `sent` or `failed` (given up); with numbers below `before`."""
    c = NOTICES.c
    query = NOTICES.select().order_by(c.notice.desc()).limit(limit)
    states = {
        "": sa.true(),
        "sent": c.sent_at.is_not(None),
        "waiting": c.next_at.is_not(None),
        "failed": sa.and_(c.sent_at.is_(None), c.next_at.is_(None)),
    }
    if state not in states:
        raise ValueError("state is waiting, sent or failed")
    query = query.where(states[state])
    for wanted, column in ((outage, c.outage), (notice, c.notice), (user or desk, c.to)):
        query = query.where(column == wanted) if wanted else query
    if user or desk:
        query = query.where(c.desk.is_(not user))
    if before is not None:
        query = query.where(c.notice < before)
    return NOTICES.rows(connection, query)


PROJECTION = Projection(
    "outages",
    version=1,
    tables=(OUTAGES, MEMBERS, CAUSES, NOTICES),
    queries=(list_outages, show_outage, notices, list_notices),
)
