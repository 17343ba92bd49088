"""When the nodes of a real grid (Grid'5000, Failure Trace Archive) were up and down for a year and
a half, told to our own rules, with a job of somebody on every node that is up."""

import lzma
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ledger.commands import SYSTEM, Place, Silence, Submit, Tell
from ledger.domain.notices import PATIENCE, to_tell
from ledger.domain.submit import Submitted
from ledger.events import AttemptEnded, Decision, JobSpec, NodeStateChanged
from ledger.testing.stories import Story
from oracles.windows import Change

FILE = "failures/g5k_2005-2006.event_trace.G1_site1.tab.xz"
SECOND = 1_000_000
USERS = 12


class Interval(NamedTuple):
    """A node was up, or was not, from `start` to `stop` (µs)."""

    node: str
    cluster: str
    start: int
    stop: int
    up: bool


class Step(NamedTuple):
    """What begins for a node."""

    at: int
    node: str
    cluster: str
    up: bool


def intervals(path: Path, wanted: Callable[[Interval], bool]) -> dict[str, list[Interval]]:
    """By node, in the order of time: those that are wanted."""
    found: dict[str, list[Interval]] = defaultdict(list)
    with lzma.open(path, "rt") as file:
        for line in file:
            if line.startswith("#"):
                continue
            _, _, _, _, name, kind, start, stop, _ = line.split()
            *_, cluster, node = name.split("/")
            node = f"{cluster}-{node}"
            one = Interval(node, cluster, int(start) * SECOND, int(stop) * SECOND, kind == "1")
            if wanted(one):
                found[node].append(one)
    for mine in found.values():
        mine.sort(key=lambda one: (one.start, one.stop))
    return found


def steps(trace: dict[str, list[Interval]]) -> Iterator[tuple[int, list[Step]]]:
    """All that happens, moment by moment; at one moment in the order of the nodes."""
    every = [
        Step(one.start, one.node, one.cluster, one.up) for mine in trace.values() for one in mine
    ]
    every.sort(key=lambda step: step.at)
    for at, some in groupby(every, key=lambda step: step.at):
        yield at, sorted(some, key=lambda step: step.node)


class Replay:
    """Tells the trace to a story, and people what they are to be told when they are.

    `changes`: who went and came when; `owners`: whose job was on a node that went, by its place
    among these.
    """

    def __init__(self, begin: int) -> None:
        self.story = Story(now=begin)
        self.owners: dict[int, str] = {}
        self._owner: dict[str, str] = {}
        self.changes: list[Change] = []
        self.submitted = 0
        self._hit: dict[int, set[str]] = defaultdict(set)
        self._untold: set[int] = set()
        self._read = 0

    def tell(self, at: int, some: list[Step]) -> None:
        """What happens at a moment."""
        self.tell_people(at)
        self.story.now = at
        nodes = self.story.cluster.nodes
        for step in some:
            if step.node not in nodes:
                self.story.node(step.node, pool=step.cluster, rack=step.cluster)
            if step.up:
                self._comes(step)
            else:
                self._goes(step)
                if owner := self._owner.pop(step.node, None):
                    self.owners[len(self.changes)] = owner
            self.changes.append(Change(at, step.node, step.cluster, not step.up))
        for r in self.story.events[self._read :]:
            e = r.event
            if isinstance(e, NodeStateChanged) and e.outage:
                self._note(e.outage, *(struck.user for struck in e.struck))
            elif isinstance(e, AttemptEnded) and e.outage:
                self._note(e.outage, e.user)
        self._read = len(self.story.events)

    def _goes(self, step: Step) -> None:
        lease_us = self.story.cluster.policy.job_lease_s * SECOND
        self.story.ask(SYSTEM, Silence(node=step.node, since=step.at - lease_us))

    def _comes(self, step: Step) -> None:
        self.story.contact(step.node, has=())
        self.submitted += 1
        user = f"user{self.submitted * 7 % USERS}"
        asked = Submit(specs=(JobSpec(pool=step.cluster),))
        reply = self.story.ask(user, asked).reply
        assert isinstance(reply, Submitted)
        job = reply.first_job
        decision = Decision(
            view=0, now=self.story.now, rules=1, policy=0, rank=1, of=1, how="in_order"
        )
        self.story.ask(SYSTEM, Place(job=job, nodes=(step.node,), decision=decision))
        self.story.start(job)
        self._owner[step.node] = user

    def _note(self, outage: int, *users: str) -> None:
        if users:
            self._hit[outage].update(users)
            self._untold.add(outage)

    def tell_people(self, until: int) -> None:
        """Tell whoever is to be told by then, each at his time."""
        c = self.story.cluster
        delay_us = c.policy.notice_delay_s * SECOND
        while self._untold:
            due = {}
            for n in self._untold:
                if (o := c.outage(n)) is not None and o.touched > o.told_as_of:
                    due[n] = min(o.touched_at + delay_us, o.untold_at + PATIENCE * delay_us)
            self._untold &= set(due)
            if not due or (first := min(due.values())) > until:
                return
            self.story.now = max(first, self.story.now)
            for telling in to_tell(c, self.story.now):
                if telling.why == "hit":
                    whom = tuple(sorted(self._hit[telling.outage]))
                    tell = Tell(outage=telling.outage, why="hit", users=whom, as_of=c.position)
                    self.story.ask(SYSTEM, tell)
