"""Notices: who is to be told of an outage, once; and what became of the telling.

Whoever an outage has hit gets one notice about it, some time after it has last grown, and one more
when its cause is found later. Planned downtime is announced to those who have jobs in its pools,
and told of again when it is over. A support desk is told once of an outage in which a pool or the
service fails. Nothing here sends anything: a notice that is due waits until somebody records that
it was sent, or that it can't be.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ledger.commands import RecordFailed, RecordSent, SetContact, Tell
from ledger.domain.permissions import demand
from ledger.domain.state import SERVICE, Ask, Cluster, Notice, Outage, Outcome, Recipient
from ledger.events import (
    ContactSet,
    Event,
    NoticeDue,
    NoticeFailed,
    NoticeSent,
    OutageTold,
    Recorded,
    Why,
)

PATIENCE = 5
"""An outage that goes on growing is told of after so many times the usual delay."""

STALE_US = 86_400 * 1_000_000
"""What is over for longer is no news for a support desk."""

FIRST_AGAIN_US = 30 * 1_000_000
MOST_AGAIN_US = 1_800 * 1_000_000
"""A failed notice is tried again after so long, then after twice that, up to this."""

GIVEN_UP_US = 3 * 86_400 * 1_000_000
"""What could not be sent for so long is given up."""

# ── what is due ──────────────────────────────────────────────────────────────────────────────────


class Telling(NamedTuple):
    """An outage of which somebody is to be told now. For `hit`, whom it has hit is to be asked of
    whoever has taken in the log up to `at_least`; for `pool`, that is what fails."""

    outage: int
    why: Why
    at_least: int = 0
    pool: str = ""


def to_tell(c: Cluster, now: int) -> list[Telling]:
    """What people are to be told now, the oldest outage first; nothing if the policy says so."""
    if not c.policy.notify:
        return []
    found = []
    failing = _Failing(c)
    for o in reversed((*c.past_outages.values(), *c.outages.values())):  # the last straw first
        found += [Telling(o.n, why, o.touched) for why in _users_due(c, o, now)]
        if (pool := failing.now(o, now)) == SERVICE:
            found.append(Telling(o.n, "service"))
        elif pool:
            found.append(Telling(o.n, "pool", pool=pool))
    return sorted(found)


def due(c: Cluster, now: int) -> list[Notice]:
    """The notices that are to be sent now, those that wait longest first."""
    found = [notice for notice in c.notices.values() if notice.next_at <= now]
    return sorted(found, key=lambda notice: (notice.next_at, notice.n))


def again_at(tries: int, now: int, due_at: int) -> int:
    """When a notice is tried again whose `tries`-th try has failed now, µs; 0: it is given up."""
    again = now + min(FIRST_AGAIN_US << min(tries - 1, 20), MOST_AGAIN_US)
    return again if again <= due_at + GIVEN_UP_US else 0


def stale(c: Cluster, at: int) -> list[Event]:
    """What a restored log leaves untold: what was due, or happened, days before, of which people
    were told by the log that was lost, or know by now."""
    failed: list[Event] = [
        NoticeFailed(
            notice=notice.n,
            to=notice.to,
            desk=notice.desk,
            error="the log was restored from a copy long after this was due",
            tries=notice.tries,
            next_at=0,
        )
        for notice in c.notices.values()
        if at - notice.due_at > GIVEN_UP_US
    ]
    told: list[Event] = [
        OutageTold(outage=o.n, why="hit", as_of=c.position, notices=0)
        for o in (*c.past_outages.values(), *c.outages.values())
        if c.policy.notify and o.touched > o.told_as_of and at - o.touched_at > GIVEN_UP_US
    ]
    return failed + told


def _users_due(c: Cluster, o: Outage, now: int) -> Iterator[Why]:
    delay_us = c.policy.notice_delay_s * 1_000_000
    gathered_at = min(o.touched_at + delay_us, o.untold_at + PATIENCE * delay_us)
    if o.touched > o.told_as_of and now >= gathered_at:
        yield "hit"
    late = o.cause_at and "cause" not in o.done and now >= o.cause_at + delay_us
    if late and any(map(_knows_no_cause, o.told.values())):
        yield "cause"
    if o.kind != "planned":
        return
    if o.closed_at:
        if o.told and "over" not in o.done and now >= o.closed_at + delay_us:
            yield "over"
    elif "announced" not in o.done and min(o.opened_at + delay_us, o.since) <= now < o.until:
        yield "announced"


class _Failing:
    """Which outages take a pool or the service down: more than half of its nodes. Each is told of
    once, and a pool whose failing is told of not again while that outage is open."""

    def __init__(self, c: Cluster) -> None:
        self._c = c
        self._told = {pool for o in c.outages.values() for pool in o.failed}
        self._desks = _desks(c)
        self._down: Counter[str] | None = None

    def now(self, o: Outage, now: int) -> str:
        """The pool that fails because of an outage that has stopped growing, or `SERVICE`; empty if
        none does, or nobody is to be told."""
        delay_us = self._c.policy.notice_delay_s * 1_000_000
        quiet = now >= max(o.opened_at, o.lost_at) + delay_us
        if not self._desks or o.failed or not quiet:
            return ""
        if o.kind == "master":
            return SERVICE if now - o.closed_at <= STALE_US else ""
        if o.closed_at or o.kind == "planned" or SERVICE in self._told:
            return ""
        failed = SERVICE if o.kind == "operator" and not o.nodes else self._by_nodes(o)
        self._told.add(failed)
        return failed

    def _by_nodes(self, o: Outage) -> str:
        c = self._c
        if not o.away:
            return ""
        if self._down is None:
            self._down = Counter(n.pool for n in c.nodes.values() if n.health == "down")
        if 2 * self._down.total() > len(c.nodes):
            return SERVICE
        pools = {c.nodes[name].pool for name in o.away if name in c.nodes} - self._told
        failed = [pool for pool in pools if 2 * self._down[pool] > len(c.pools.get(pool, ()))]
        return min(failed, default="")


def _desks(c: Cluster) -> set[str]:
    return {recipient.owner for recipient in c.recipients.values() if recipient.desk}


# ── decide ───────────────────────────────────────────────────────────────────────────────────────


def decide_tell(c: Cluster, ask: Ask, cmd: Tell) -> Outcome:
    """A notice for everyone who is to have one and has none yet."""
    o = c.outage(cmd.outage)
    if o is None or not c.policy.notify or cmd.why in o.done:
        return Outcome([])
    users, desks = _whom(c, o, cmd)
    whom = [(user, False) for user in sorted(users)] + [(desk, True) for desk in sorted(desks)]
    events: list[Event] = [
        NoticeDue(
            notice=c.next_notice + i, to=to, desk=desk, outage=o.n, why=cmd.why, pool=cmd.pool
        )
        for i, (to, desk) in enumerate(whom)
    ]
    if cmd.why not in ("pool", "service") and not cmd.more:
        as_of = min(cmd.as_of or c.position, c.position)
        told = OutageTold(outage=o.n, why=cmd.why, as_of=as_of, notices=len(events))
        events.append(told)
    return Outcome(events)


def _whom(c: Cluster, o: Outage, cmd: Tell) -> tuple[set[str], set[str]]:
    """Users and desks that are to have a notice now."""
    match cmd.why:
        case "hit":
            return {user for user in cmd.users if "hit" not in o.told.get(user, ())}, set()
        case "cause":  # what waits to be sent will say it anyway
            waiting = {notice.to for notice in c.notices.values() if notice.outage == o.n}
            return {u for u, w in o.told.items() if _knows_no_cause(w) and u not in waiting}, set()
        case "announced":
            return _with_jobs(c, o), _desks(c)
        case "over":
            return set(o.told), _desks(c)
    return set(), set() if o.failed else _desks(c)


def _knows_no_cause(told: set[Why]) -> bool:
    return "hit" in told and "cause" not in told


def _with_jobs(c: Cluster, o: Outage) -> set[str]:
    """The users who have a live job in a pool of these nodes."""
    pools = {c.nodes[name].pool for name in o.nodes if name in c.nodes} if o.nodes else set(c.pools)
    return {job.user for job in c.jobs.values() if job.spec.pool in pools}


def decide_recipient(c: Cluster, ask: Ask, cmd: SetContact) -> Outcome:
    """Say how somebody is told: users for themselves, operators for anybody and for desks."""
    demand(ask.subject, "contact.set", "" if cmd.desk else cmd.owner)
    known = c.recipients.get((cmd.owner, cmd.desk))
    digest = cmd.addresses.sha256 if cmd.addresses else ""
    if (known.channels, known.addresses) == (cmd.channels, digest) if known else not cmd.channels:
        return Outcome([])
    event = ContactSet(
        owner=cmd.owner, desk=cmd.desk, channels=cmd.channels, addresses=cmd.addresses
    )
    return Outcome([event])


def decide_sent(c: Cluster, ask: Ask, cmd: RecordSent) -> Outcome:
    """It was sent; of a notice that waits no more, nothing is recorded."""
    notice = c.notices.get(cmd.notice)
    if notice is None:
        return Outcome([])
    sent = NoticeSent(
        notice=notice.n,
        to=notice.to,
        desk=notice.desk,
        channels=cmd.channels,
        tries=cmd.tries,
    )
    return Outcome([sent])


def decide_failed(c: Cluster, ask: Ask, cmd: RecordFailed) -> Outcome:
    """It could not be sent; of a notice that waits no more, nothing is recorded."""
    notice = c.notices.get(cmd.notice)
    if notice is None:
        return Outcome([])
    failed = NoticeFailed(
        notice=notice.n,
        to=notice.to,
        desk=notice.desk,
        error=cmd.error,
        tries=cmd.tries,
        next_at=cmd.next_at,
    )
    return Outcome([failed])


# ── evolve ───────────────────────────────────────────────────────────────────────────────────────


def evolve_due(c: Cluster, r: Recorded, e: NoticeDue) -> None:
    """It waits to be sent. What is known of the cause by then will stand in it."""
    c.notices[e.notice] = Notice(e.notice, e.to, e.desk, e.outage, e.why, r.at, r.at)
    c.next_notice = max(c.next_notice, e.notice + 1)
    if (o := c.outage(e.outage)) is None:
        return
    if e.desk:
        if e.why in ("pool", "service"):
            o.failed.add(e.pool or SERVICE)
        return
    whys = o.told.setdefault(e.to, set())
    whys.add(e.why)
    if o.cause:
        whys.add("cause")


def evolve_told(c: Cluster, r: Recorded, e: OutageTold) -> None:
    """Whoever was to be told has his notice."""
    if (o := c.outage(e.outage)) is None:
        return
    if e.why != "hit":
        o.done.add(e.why)
        return
    o.told_as_of = max(o.told_as_of, e.as_of)
    o.untold_at = r.at if o.touched > o.told_as_of else 0


def evolve_sent(c: Cluster, r: Recorded, e: NoticeSent) -> None:
    """It waits no more."""
    c.notices.pop(e.notice, None)


def evolve_failed(c: Cluster, r: Recorded, e: NoticeFailed) -> None:
    """It waits for the next try, or was given up."""
    if not e.next_at:
        c.notices.pop(e.notice, None)
    elif (notice := c.notices.get(e.notice)) is not None:
        notice.next_at, notice.tries = e.next_at, e.tries


def evolve_recipient(c: Cluster, r: Recorded, e: ContactSet) -> None:
    """This is how he is told, if at all."""
    if not e.channels:
        c.recipients.pop((e.owner, e.desk), None)
        return
    digest = e.addresses.sha256 if e.addresses else ""
    c.recipients[e.owner, e.desk] = Recipient(e.owner, e.desk, e.channels, digest)


def hush(c: Cluster, r: Recorded) -> None:
    """People are told again, from now on: not of what was while they were to be left alone."""
    for o in (*c.past_outages.values(), *c.outages.values()):
        o.told_as_of, o.untold_at = r.position, 0
        o.failed.add("")
        if o.cause_at:
            o.done.add("cause")
        if o.closed_at:
            o.done.add("over")
