"""Outages: what people say of them, the master's own absence, and what is remembered.

Which nodes one takes is decided in `losses`.
"""

from ledger.commands import CloseOutage, FindCause, NoteAbsence, OpenOutage, TendOutages
from ledger.domain.errors import Malformed, OutageIsOver, UnknownNode, UnknownOutage
from ledger.domain.losses import closing, ended, join, lose, touch
from ledger.domain.permissions import demand
from ledger.domain.state import OUTAGE_LIFETIME_US, Ask, Cluster, Outage, Outcome, Policy
from ledger.events import (
    Event,
    OutageCauseFound,
    OutageClosed,
    OutageGrew,
    OutageOpened,
    Recorded,
)

AHEAD_US = 60_000_000
"""How far the clock of whoever says when something began may be ahead of ours."""

# ── decide ───────────────────────────────────────────────────────────────────────────────────────


def decide_open(c: Cluster, ask: Ask, cmd: OpenOutage) -> Outcome:
    """Open an outage by hand, or announce one; the answer is its number. Asked again for one that
    is open, it is that one."""
    demand(ask.subject, "outage.manage")
    if unknown := [name for name in cmd.nodes if name not in c.nodes]:
        raise UnknownNode(f"There is no node {unknown[0]}.")
    if not cmd.reason.strip():
        raise Malformed("Say why: a reason is needed.")
    since = cmd.since
    if cmd.planned:
        if cmd.until <= max(since, ask.at):
            raise Malformed("Planned downtime ends after it begins, and later than now.")
    else:
        if since > ask.at + AHEAD_US:
            raise Malformed("An outage can't begin later than now; planned downtime can.")
        since = min(since, ask.at)
        if cmd.until and not since < cmd.until <= ask.at:
            raise Malformed("An outage ends after it has begun, and not later than now.")
    opened = OutageOpened(
        outage=c.next_outage,
        kind="planned" if cmd.planned else "operator",
        nodes=cmd.nodes,
        since=since,
        until=cmd.until,
        pools=tuple(sorted({c.nodes[name].pool for name in cmd.nodes})),
        cause="planned" if cmd.planned else "operator",
        reason=cmd.reason,
    )
    for o in (*c.outages.values(), *c.past_outages.values()):
        same = (o.kind, o.since, o.until) == (opened.kind, since, cmd.until)
        if same and o.nodes == set(cmd.nodes) and o.reason == cmd.reason:
            return Outcome([], o.n)
    events: list[Event] = [opened]
    if cmd.until and not cmd.planned:
        events.append(OutageClosed(outage=opened.outage, until=cmd.until))
    return Outcome(events, opened.outage)


def decide_cause(c: Cluster, ask: Ask, cmd: FindCause) -> Outcome:
    """Say why it was, also of one that is over, however long ago."""
    demand(ask.subject, "outage.manage")
    if not 0 < cmd.outage < c.next_outage:
        raise UnknownOutage(f"There is no outage {cmd.outage}.")
    if not cmd.cause.strip():
        raise Malformed("Say what the cause is.")
    known = c.outage(cmd.outage)
    if known is not None and known.cause == cmd.cause:
        return Outcome([])
    return Outcome([OutageCauseFound(outage=cmd.outage, cause=cmd.cause)])


def decide_close(c: Cluster, ask: Ask, cmd: CloseOutage) -> Outcome:
    """Say that it is over, whatever its nodes say. A planned one that has not begun is called off:
    it ends where it was to begin."""
    demand(ask.subject, "outage.manage")
    o = c.outages.get(cmd.outage)
    if o is None:
        if 0 < cmd.outage < c.next_outage:
            raise OutageIsOver(f"Outage {cmd.outage} is closed.")
        raise UnknownOutage(f"There is no outage {cmd.outage}.")
    if not cmd.reason.strip():
        raise Malformed("Say what came of it: a reason is needed.")
    if o.since > ask.at:
        return Outcome([OutageClosed(outage=o.n, until=o.since, reason=cmd.reason)])
    quiet = o.kind == "nodes" and not o.away
    until = cmd.until or (o.back_at if quiet else ask.at)
    if not o.since <= until <= ask.at:
        raise Malformed("An outage ends after it has begun, and not later than now.")
    return Outcome([OutageClosed(outage=o.n, until=until, reason=cmd.reason)])


def decide_tend(c: Cluster, ask: Ask, cmd: TendOutages) -> Outcome:
    """Close what is over."""
    return Outcome([closing(o) for o in ended(c, ask.at)])


def decide_absence(c: Cluster, ask: Ask, cmd: NoteAbsence) -> Outcome:
    """A master that was stopped, or hung, goes on."""
    since = max(cmd.since, c.started_at)
    if ask.at - since <= short_us(c.policy):
        return Outcome([])
    return Outcome(absence(c, since, ask.at, "frozen", c.next_outage))


def short_us(policy: Policy) -> int:
    """An absence of at most so long, µs, is no outage: agents have killed nothing because of it."""
    return min(policy.absence_s, policy.job_lease_s) * 1_000_000


def absence(c: Cluster, since: int, at: int, cause: str, number: int) -> list[Event]:
    """The outage that it is if nobody could hear agents and people; none if it lies within what
    was announced."""
    announced = any(
        o.kind == "planned" and not o.nodes and o.since <= at <= o.until for o in c.outages.values()
    )
    if announced:
        return []
    waiting: dict[str, int] = {}
    for pool in c.waiting.values():
        for job in pool.values():
            if job.begin_at < at:
                waiting[job.user] = waiting.get(job.user, 0) + 1
    opened = OutageOpened(
        outage=number,
        kind="master",
        since=since,
        until=at,
        cause=cause,
        waiting=dict(sorted(waiting.items())),
    )
    return [opened, OutageClosed(outage=opened.outage, until=at)]


# ── evolve ───────────────────────────────────────────────────────────────────────────────────────


def evolve_opened(c: Cluster, r: Recorded, e: OutageOpened) -> None:
    """It is on, or announced. What is long over is forgotten."""
    o = Outage(
        n=e.outage,
        kind=e.kind,
        since=e.since,
        opened_at=r.at,
        until=e.until,
        nodes=set(e.nodes),
        rack=e.rack,
        switch=e.switch,
        power=e.power,
        pool=min(e.pools, default="") if not (e.rack or e.switch or e.power) else "",
        reason=e.reason,
    )
    c.outages[o.n] = o
    c.next_outage = max(c.next_outage, o.n + 1)
    if e.kind == "nodes":
        lose(c, o, r.at)
        o.back_at = r.at
        join(c, o, e.nodes)
    elif e.kind == "operator":
        touch(r, o)
    while c.past_outages:
        oldest = next(iter(c.past_outages.values()))
        if r.at - oldest.closed_at <= OUTAGE_LIFETIME_US:
            break
        del c.past_outages[oldest.n]


def evolve_grew(c: Cluster, r: Recorded, e: OutageGrew) -> None:
    """It has more nodes."""
    if (o := c.outages.get(e.outage)) is None:
        return
    o.nodes.update(e.nodes)
    o.rack, o.switch, o.power = e.rack, e.switch, e.power
    lose(c, o, r.at)
    o.back_at = r.at
    join(c, o, e.nodes)


def evolve_cause(c: Cluster, r: Recorded, e: OutageCauseFound) -> None:
    """Its cause is known, or known better: whoever knows only the old one may be told again."""
    if (o := c.outage(e.outage)) is None:
        return
    o.cause, o.cause_at = e.cause, r.at
    if "cause" not in o.done:
        for whys in o.told.values():
            whys.discard("cause")


def evolve_closed(c: Cluster, r: Recorded, e: OutageClosed) -> None:
    """It is over."""
    if (o := c.outages.pop(e.outage, None)) is None:
        return
    o.closed_at, o.until = r.at, e.until
    c.past_outages.pop(o.n, None)
    c.past_outages[o.n] = o
    if o.kind in ("operator", "planned") and e.until > o.since:
        touch(r, o)
