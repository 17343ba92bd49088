"""Which outage takes a node that is lost: one cause, one outage, however many nodes it takes.

A node is lost when it falls silent, when it is declared dead, or when it loses an attempt
without either; one that is down is not lost once more. A lost node stays in the open outage that
took it last; an outage that was opened by hand, or planned, and is on, takes the nodes it names; an
open outage of nodes takes it if the latest loss lies no longer than the window back and all of its
nodes share with it their rack, their switch or their power feed (of several the oldest takes it);
where none of the three is known of a node, its pool stands for them; else it begins an outage of
its own. An outage of nodes is over when all of them are back and the
window is over. Whoever looks first closes it: the clock, or the next loss. Time in which no master
reigned does not count: nobody could have noticed a loss.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.commands import ReportEnded
from ledger.domain.state import Attempt, Cluster, Node, Outage
from ledger.events import (
    AttemptEnded,
    Event,
    NodeStateChanged,
    OutageClosed,
    OutageGrew,
    OutageOpened,
    Recorded,
)

NO_MASTER = ("lease_expired", "hold_dropped")
"""Causes by which an agent ends an attempt because no master answers it."""

# ── decide ───────────────────────────────────────────────────────────────────────────────────────


class Loss(NamedTuple):
    """A node that is lost, and since when it was, µs."""

    node: Node
    cause: str
    since: int


class Taken(NamedTuple):
    """What losses come to: events to be recorded before theirs, and the outage of each node."""

    events: list[Event]
    of: dict[str, int]


@dataclass
class _Growing:
    """An outage of nodes that takes losses in this decision."""

    n: int
    rack: str
    switch: str
    power: str
    pool: str
    first: Loss | None = None
    new: list[Node] = field(default_factory=list)

    def takes(self, node: Node) -> bool:
        """Does what all of its nodes have in common hold for this one?"""
        return (
            (self.rack != "" and self.rack == node.rack)
            or (self.switch != "" and self.switch == node.switch)
            or (self.power != "" and self.power == node.power)
            or (self.pool != "" and self.pool == _instead(node))
        )

    def take(self, node: Node) -> None:
        """This one, too."""
        self.new.append(node)
        self.rack = self.rack if self.rack == node.rack else ""
        self.switch = self.switch if self.switch == node.switch else ""
        self.power = self.power if self.power == node.power else ""

    def event(self, at: int) -> Event:
        """That it was opened, or grew."""
        nodes = tuple(node.name for node in self.new)
        pools = tuple(sorted({node.pool for node in self.new}))
        if self.first is None:
            return OutageGrew(
                outage=self.n,
                nodes=nodes,
                rack=self.rack,
                switch=self.switch,
                power=self.power,
                pools=pools,
            )
        return OutageOpened(
            outage=self.n,
            kind="nodes",
            nodes=nodes,
            since=min(self.first.since, at),
            rack=self.rack,
            switch=self.switch,
            power=self.power,
            pools=pools,
            cause=self.first.cause,
        )


def take(c: Cluster, at: int, losses: Iterable[Loss]) -> Taken:
    """Which outages take these nodes, none of which is down yet."""
    over = {o.n: o for o in ended(c, at)}
    window_us = c.policy.outage_window_s * 1_000_000
    there = [
        _Growing(o.n, o.rack, o.switch, o.power, o.pool)
        for o in c.outages.values()
        if o.kind == "nodes" and o.n not in over and quiet_us(c, o, at) <= window_us
    ]
    of: dict[str, int] = {}
    number = c.next_outage
    for loss in losses:
        node = loss.node
        if node.name in of:
            continue
        if stays := _named(c, node, at, over):
            of[node.name] = stays
            continue
        growing = next((g for g in there if g.takes(node)), None)
        if growing is None:
            growing = _Growing(number, node.rack, node.switch, node.power, _instead(node), loss)
            there.append(growing)
            number += 1
        growing.take(node)
        of[node.name] = growing.n
    closed: list[Event] = [closing(o) for o in over.values()] if of else []
    return Taken(closed + [g.event(at) for g in there if g.new], of)


def _instead(node: Node) -> str:
    """The pool that stands for a node's rack, switch and power feed; empty if one is known."""
    return "" if node.rack or node.switch or node.power else node.pool


def _named(c: Cluster, node: Node, at: int, over: Iterable[int]) -> int:
    """The open outage that has this node already, 0 if none has."""
    last = c.outages.get(node.outage)
    if last is not None and last.n not in over and node.name in last.nodes:
        return last.n
    named = (
        o.n
        for o in c.outages.values()
        if o.kind in ("operator", "planned")
        and o.n not in over
        and o.since <= at
        and node.name in o.nodes
    )
    return min(named, default=0)


def lost(c: Cluster, at: int, node: Node, cause: str, since: int) -> tuple[list[Event], int]:
    """What the loss of a node comes to, and its outage. One that is down was lost before."""
    if node.health == "down":
        return [], node.outage
    taken = take(c, at, [Loss(node, cause, since or at)])
    return taken.events, taken.of[node.name]


def lost_with_attempt(
    c: Cluster,
    at: int,
    attempt: Attempt,
    cause: str,
    nodes: tuple[str, ...],
    report: ReportEnded | None,
) -> tuple[list[Event], int]:
    """What it comes to that an attempt has ended because `nodes` were lost, and by which outage."""
    if report is not None and cause in NO_MASTER and (n := _unheard(c, at, attempt, report)):
        return [], n
    known = [c.nodes[name] for name in nodes if name in c.nodes]
    taken = take(c, at, [Loss(node, cause, at) for node in known if node.health != "down"])
    numbers = [taken.of.get(node.name, node.outage) for node in known]
    return taken.events, numbers[0] if numbers else 0


def _unheard(c: Cluster, at: int, attempt: Attempt, report: ReportEnded) -> int:
    """The outage because of which an agent found no master when it ended an attempt; 0: none.

    A node that was silent while a master reigned was lost by itself. One that was not has called
    within a lease of the master's return.
    """
    node = c.nodes.get(report.node)
    if node is None or node.health == "down":
        return 0
    lease_us = c.policy.job_lease_s * 1_000_000
    for o in reversed([*c.past_outages.values(), *c.outages.values()]):
        away = o.kind == "master" or (o.kind == "planned" and not o.nodes)
        if away and attempt.placed_at <= o.until and o.since <= at <= o.until + lease_us:
            return o.n
    return 0


def ended(c: Cluster, at: int) -> Iterator[Outage]:
    """The open outages that are over at this time, by their numbers."""
    window_us = c.policy.outage_window_s * 1_000_000
    for o in c.outages.values():
        past = o.kind == "nodes" or (o.kind == "planned" and at > o.until)
        if past and not o.away and quiet_us(c, o, at) > window_us:
            yield o


def quiet_us(c: Cluster, o: Outage, at: int) -> int:
    """How long nothing was lost in it while a master reigned."""
    return at - o.lost_at - (c.absent_us - o.absent_us)


def closing(o: Outage) -> OutageClosed:
    """That it is over, since its last node came back, or since its planned end."""
    until = o.back_at if o.kind == "nodes" else max(o.until, o.back_at)
    return OutageClosed(outage=o.n, until=until)


# ── evolve ───────────────────────────────────────────────────────────────────────────────────────


def node_changed(c: Cluster, r: Recorded, node: Node, e: NodeStateChanged) -> None:
    """A node, still as it was before this event, is lost or comes back."""
    o = c.outage(e.outage)
    if e.to != "down":
        come_back(c, r.at, node)
    elif node.health != "down" and e.outage:
        node.outage = e.outage
        if o is not None and not o.closed_at:
            o.away.add(node.name)
            lose(c, o, r.at)
    if o is not None and e.struck:
        touch(r, o, *(struck.user for struck in e.struck))


def come_back(c: Cluster, at: int, node: Node) -> None:
    """A node is in contact again, or is no more, or is another."""
    o = c.outages.get(node.outage)
    if o is not None and node.name in o.away:
        o.away.discard(node.name)
        o.back_at = at


def attempt_ended(c: Cluster, r: Recorded, e: AttemptEnded) -> None:
    """An outage has ended an attempt; nodes that are up were lost with it, for a moment; but none
    is where it was for want of a master, in an outage without nodes."""
    if not e.outage or (o := c.outage(e.outage)) is None:  # most are of none
        return
    touch(r, o, e.user)
    for name in e.lost if o.nodes else ():
        node = c.nodes.get(name)
        if node is None or node.health == "down":
            continue
        if name in o.nodes and not o.closed_at:
            node.outage = o.n
        if (its := c.outages.get(node.outage)) is not None:
            lose(c, its, r.at)
            its.back_at = r.at


def touch(r: Recorded, o: Outage, *users: str) -> None:
    """It may have hit somebody who is to be told: these users, or whoever it may be."""
    if users and all("hit" in o.told.get(user, ()) for user in users):
        return
    o.touched, o.touched_at = r.position, r.at
    o.untold_at = o.untold_at or r.at


def lose(c: Cluster, o: Outage, at: int) -> None:
    """Something was lost in it now."""
    o.lost_at, o.absent_us = at, c.absent_us


def join(c: Cluster, o: Outage, names: Iterable[str]) -> None:
    """These nodes are lost in it."""
    for name in names:
        if (node := c.nodes.get(name)) is not None:
            node.outage = o.n
