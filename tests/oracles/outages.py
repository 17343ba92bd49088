"""Which outages there must have been: found from what happened to nodes, by the rule alone.

People's words (outages opened by hand, planned, closed by hand) and the master's absences are taken
from the log as they are; which nodes' losses belong together, and when that was over, is found
here anew, and compared with what the log says of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ledger.events import (
    AttemptEnded,
    LogRestored,
    MasterStarted,
    NodeConfigured,
    NodeEnrolled,
    NodeRetired,
    NodeStateChanged,
    NoticeDue,
    NoticeFailed,
    NoticeSent,
    OutageClosed,
    OutageGrew,
    OutageOpened,
    PolicySet,
    Recorded,
)

Place = tuple[str, str, str, str]
"""Rack, switch, power feed, and the pool where none of these is known."""

AGENTS_FOUND_NO_MASTER = ("lease_expired", "hold_dropped")


@dataclass
class Group:
    """Nodes that were lost together, or of which a person spoke together."""

    n: int
    kind: str
    nodes: set[str]
    since: int = 0
    until: int = 0
    places: list[Place] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    lost: int = 0
    back_at: int = 0
    open: bool = True

    def shares(self, place: Place) -> bool:
        """Is there a rack, a switch, a feed or a pool in which all of them are, and this one?"""
        return any(
            place[i] != "" and all(other[i] == place[i] for other in self.places) for i in range(4)
        )


def place_of(e: NodeEnrolled | NodeConfigured) -> Place:
    """Where a node stands, as far as anybody said."""
    return e.rack, e.switch, e.power, "" if e.rack or e.switch or e.power else e.pool


class Outages:
    """Reads a log and finds its outages: `groups`, by number. Fails where the log differs."""

    def __init__(self, log: Iterable[Recorded]) -> None:
        self.groups: dict[int, Group] = {}
        self._open: dict[int, Group] = {}
        self.losses = 0
        self._window_us = 60_000_000
        self._places: dict[str, Place] = {}
        self._down: set[str] = set()
        self._last: dict[str, int] = {}
        self._said: dict[int, set[str]] = {}
        self._next = 1
        self._absent_us = last = 0
        for r in log:
            if isinstance(r.event, MasterStarted | LogRestored) and last:
                self._absent_us += r.at - last
            last = r.at
            self._take(r)
        for n, group in self.groups.items():
            if group.kind == "nodes":
                assert self._said[n] == group.nodes, f"outage {n}: {self._said[n]}, {group.nodes}"

    def _take(self, r: Recorded) -> None:
        match r.event:
            case PolicySet() as e:
                self._window_us = e.outage_window_s * 1_000_000
            case NodeEnrolled() as e:
                self._back(r.at, e.node)
                self._places[e.node] = place_of(e)
                self._last.pop(e.node, None)
            case NodeConfigured() as e:
                self._places[e.node] = place_of(e)
            case NodeRetired() as e:
                self._back(r.at, e.node)
                del self._places[e.node]
            case NodeStateChanged() as e:
                self._changed(r, e)
            case AttemptEnded() as e if e.outcome == "node_fail":
                self._interrupted(r, e)
            case OutageOpened() as e:
                self._opened(r, e)
            case OutageGrew() as e:
                self._said[e.outage] |= set(e.nodes)
            case OutageClosed() as e:
                self._closed(r, e)

    def _watched(self, r: Recorded) -> int:
        """The time by a clock that stands still while no master reigns."""
        return r.at - self._absent_us

    def _changed(self, r: Recorded, e: NodeStateChanged) -> None:
        if e.to != "down":
            self._back(r.at, e.node)
        elif e.node not in self._down:
            group = self._lose(r, e.node)
            assert group.n == e.outage, f"{e} belongs to outage {group.n}"
            group.away.add(e.node)
            self._down.add(e.node)

    def _interrupted(self, r: Recorded, e: AttemptEnded) -> None:
        by = self.groups.get(e.outage)
        unheard = by is not None and (
            by.kind == "master" or (by.kind == "planned" and not by.nodes)
        )
        if unheard and e.cause in AGENTS_FOUND_NO_MASTER:
            assert by is not None
            assert by.since < r.at, f"{e} of an absence that had not begun"
            return
        numbers = []
        for node in e.lost:
            if node not in self._places:
                continue
            if node in self._down:
                numbers.append(self._last.get(node, 0))
                continue
            group = self._lose(r, node)
            group.back_at = r.at
            numbers.append(group.n)
        assert e.outage == (numbers or [0])[0], f"{e} was ended by the outages {numbers}"

    def _lose(self, r: Recorded, node: str) -> Group:
        """The group of a node that is lost now."""
        self.losses += 1
        for group in self._open.values():
            if self._over(group, r):
                raise AssertionError(f"{group} was over when {r} came, and still open")
        group = self._group_of(r, node)
        group.nodes.add(node)
        group.lost = self._watched(r)
        self._last[node] = group.n
        return group

    def _group_of(self, r: Recorded, node: str) -> Group:
        there = [group for _, group in sorted(self._open.items())]
        for group in there:
            if group.n == self._last.get(node) and node in group.nodes:
                return group
        for group in there:
            named = group.kind in ("operator", "planned") and node in group.nodes
            if named and group.since <= r.at:
                return group
        place = self._places[node]
        for group in there:
            fresh = group.kind == "nodes" and self._watched(r) - group.lost <= self._window_us
            if fresh and group.places and group.shares(place):
                group.places.append(place)
                return group
        new = [group for group in there if group.kind == "nodes" and not group.places]
        assert new, f"{r}: a new outage was to be opened"
        new[0].places.append(place)
        return new[0]

    def _over(self, group: Group, r: Recorded) -> bool:
        ends = group.kind == "nodes" or (group.kind == "planned" and r.at > group.until)
        quiet = not group.away and self._watched(r) - group.lost > self._window_us
        return group.open and ends and quiet

    def _back(self, at: int, node: str) -> None:
        if node in self._down:
            self._down.discard(node)
            for group in self._open.values():
                if node in group.away:
                    group.away.discard(node)
                    group.back_at = at

    def _opened(self, r: Recorded, e: OutageOpened) -> None:
        assert e.outage >= self._next, f"{e}: the number was given before"
        self._next = e.outage + 1
        self._said[e.outage] = set(e.nodes)
        spoken = set(e.nodes) if e.kind != "nodes" else set()
        self.groups[e.outage] = Group(e.outage, e.kind, spoken, e.since, e.until)
        self._open[e.outage] = self.groups[e.outage]
        if e.kind == "nodes":
            self.groups[e.outage].lost = self._watched(r)
            self.groups[e.outage].back_at = r.at

    def _closed(self, r: Recorded, e: OutageClosed) -> None:
        group = self.groups[e.outage]
        assert group.open, f"{e}: it was closed before"
        if group.kind in ("nodes", "planned") and not e.reason:  # nobody's word, but the rule
            assert self._over(group, r), f"{e}: {group} is not over"
            until = group.back_at if group.kind == "nodes" else max(group.until, group.back_at)
            assert e.until == until, f"{e}: it was over at {until}"
        group.open = False
        del self._open[e.outage]


def told_once(log: Iterable[Recorded]) -> None:
    """Nobody has two notices of one outage for one reason; a desk has one of its failing. Whoever
    is told of the cause was told of the outage before. Each notice has one end."""
    whys: dict[tuple[int, str, bool], list[str]] = {}
    waiting: dict[int, NoticeDue] = {}
    seen: set[int] = set()
    for r in log:
        e = r.event
        if isinstance(e, NoticeDue):
            assert e.notice not in seen, f"{e}: the number was given before"
            seen.add(e.notice)
            waiting[e.notice] = e
            before = whys.setdefault((e.outage, e.to, e.desk), [])
            assert e.why not in before, f"{e}: he was told before"
            failing = {"pool", "service"}
            assert not (e.why in failing and failing & {*before}), f"{e}: it was told before"
            assert e.why != "cause" or "hit" in before, f"{e}: of what he has not heard of"
            before.append(e.why)
        elif isinstance(e, NoticeSent | NoticeFailed):
            due = waiting.get(e.notice)
            assert due is not None, f"{e}: nothing waited"
            assert (due.to, due.desk) == (e.to, e.desk), f"{e}: it was for {due.to}"
            if isinstance(e, NoticeSent) or not e.next_at:
                del waiting[e.notice]
