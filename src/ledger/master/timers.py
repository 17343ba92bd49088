"""What asks by itself: the clock and the planner. What is due is derived from the state each time,
so that a takeover neither forgets a timer nor fires them all at once.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import structlog

from ledger import events as ev
from ledger.commands import (
    SYSTEM,
    Command,
    GiveUp,
    NoteAbsence,
    NoteAbuse,
    RecordRefused,
    Silence,
    TendOutages,
)
from ledger.domain.errors import LogBehind, NotNow, NotRecorded, Refusal, StaleProposal, TooBusy
from ledger.domain.losses import ended
from ledger.domain.orders import due
from ledger.domain.outage import short_us
from ledger.domain.schedule import Plan, plan, view
from ledger.master.contacts import Contacts
from ledger.master.loop import Master

logger = structlog.get_logger("timers")

TICK_S = 0.2
PLAN_INTERVAL_S = 0.01
"""The least time between the beginnings of two planning passes."""

REFUSED_A_MINUTE = 200
"""Records of refused demand in a minute; more are folded into one of no user."""

COULD_START = (
    ev.JobsSubmitted,
    ev.JobHeld,
    ev.JobReleased,
    ev.JobChanged,
    ev.JobEnded,
    ev.AttemptEnded,
    ev.NodeStateChanged,
    ev.NodeConfigured,
    ev.NodeRetired,
    ev.NodeEnrolled,
)
"""Events after which a job may start that could not before: a held one lets others by, too."""


class Pass(NamedTuple):
    """A planning pass: when (µs on the log's clock), at which view, how long the plan took to make,
    how many jobs it looked at and proposed, and how many of these were dropped, by the refusal."""

    at: int
    view: int
    micros: int
    looked_at: int
    proposals: int
    dropped: Mapping[str, int]


class Planner:
    """Makes plans in a thread, one at a time, and proposes them to the master.

    `latest` is its last pass, `trouble` why the one after that could not be carried out.
    """

    def __init__(self, master: Master) -> None:
        self._master = master
        self._wanted = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plan")
        self.last: Plan | None = None
        self.latest: Pass | None = None
        self.trouble = ""
        self.passes = 0
        self.proposals = 0
        self.dropped: Counter[str] = Counter()
        master.listen(self._heard)

    def _heard(self, recorded: Sequence[ev.Recorded]) -> None:
        if any(isinstance(r.event, COULD_START) for r in recorded):
            self._wanted.set()

    @property
    def wanted(self) -> bool:
        """Is a pass due because something has changed since the last one began?"""
        return self._wanted.is_set()

    def nudge_if_due(self, now: int) -> None:
        """Plan again if a job that waited for a time may begin."""
        if self.last is not None and 0 < self.last.wake_at <= now:
            self._wanted.set()

    async def run(self) -> None:
        """Plan whenever something that could start a job has changed, until cancelled."""
        loop = asyncio.get_running_loop()
        self._wanted.set()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            began = loop.time()
            try:
                await self._pass()
                self.trouble = ""
            except (LogBehind, NotNow, TooBusy) as refusal:
                self.trouble = str(refusal)
                logger.warning("a plan could not be carried out", error=str(refusal))
                await asyncio.sleep(1.0)
                self._wanted.set()
            await asyncio.sleep(max(0.0, PLAN_INTERVAL_S - (loop.time() - began)))

    async def _pass(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        cluster = await self._master.settled()
        if self._master.halted:
            return
        seen = view(cluster, self._master.now())
        made = self.last = await loop.run_in_executor(self._thread, plan, seen)
        micros = round((loop.time() - began) * 1e6)
        self.passes += 1
        dropped: Counter[str] = Counter()
        if made.places:
            answers = await self._master.ask(SYSTEM, made.places)
            for answer in answers:
                if isinstance(answer, NotRecorded):
                    raise answer
            dropped.update(answer.code for answer in answers if isinstance(answer, Refusal))
            if dropped[StaleProposal.code]:
                self._wanted.set()  # its nodes are free, and nothing else may ask again
        self.latest = Pass(made.now, made.view, micros, made.looked_at, len(made.places), dropped)
        self.proposals += len(made.places)
        self.dropped.update(dropped)


class Demand(NamedTuple):
    """Whose refused demand, by which code."""

    user: str
    account: str
    pool: str
    code: str


class RefusedDemand:
    """Folds refused submissions by minute, so that a storm of them is a few events."""

    def __init__(self) -> None:
        self._minute = 0
        self._sums: dict[Demand, list[int]] = {}

    def add(self, what: Demand, jobs: int, node_seconds: int) -> None:
        """Count one refused request."""
        if what not in self._sums and len(self._sums) >= REFUSED_A_MINUTE - 1:
            what = Demand("", "", "", "several")
        sums = self._sums.setdefault(what, [0, 0, 0])
        for i, amount in enumerate((1, jobs, node_seconds)):
            sums[i] = min(sums[i] + amount, 2**62)

    @property
    def waiting(self) -> int:
        """How many records the present minute will make."""
        return len(self._sums)

    def due(self, now: int) -> list[Command]:
        """The records of the minute that has passed, once it has."""
        minute = now // 60_000_000
        if minute == self._minute:
            return []
        if not self._minute:  # the first look: what was refused until now was so in this minute
            self._minute = minute
            return []
        last, self._minute = self._minute, minute
        sums, self._sums = self._sums, {}
        return [
            RecordRefused(
                minute=last,
                user=what.user,
                account=what.account,
                pool=what.pool,
                code=what.code,
                requests=requests,
                jobs=jobs,
                node_seconds=node_seconds,
            )
            for what, (requests, jobs, node_seconds) in sorted(sums.items())
        ]


class Ticker:
    """Looks at the clock a few times a second: who is silent, what may be given up, what is over,
    whom to note because he broke the rules of use; and whether it could look at all: in a process
    that was stopped nobody was heard."""

    def __init__(
        self, master: Master, contacts: Contacts, planner: Planner, refused: RefusedDemand
    ) -> None:
        self._master = master
        self._contacts = contacts
        self._planner = planner
        self._refused = refused
        self._looked_at: float | None = None

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            try:
                await self._tick()
            except Refusal as refusal:
                logger.warning("a tick could not be carried out", error=str(refusal))
            await asyncio.sleep(TICK_S)

    async def _tick(self) -> None:
        cluster = await self._master.settled()
        if self._master.halted:
            return
        now = self._master.now()
        self._planner.nudge_if_due(now)
        lease_us = cluster.policy.job_lease_s * 1_000_000
        commands: list[Command] = []
        if (blind_us := self._blind_us()) > short_us(cluster.policy):
            self._contacts.listen_again()
            commands.append(NoteAbsence(since=now - blind_us))
        commands += [
            Silence(node=node.name, since=last)
            for node in cluster.nodes.values()
            if not (node.health == "down" and node.silent_since)
            and now - (last := self._contacts.last(node.name)) >= lease_us
        ]
        commands += [
            GiveUp(job=job.id, attempt=job.attempt.n)
            for when, job in due(cluster)
            if when <= now and job.attempt is not None
        ]
        if any(True for _ in ended(cluster, now)):
            commands.append(TendOutages())
        commands += self._refused.due(now)
        commands += [NoteAbuse(user=user, rule=rule) for user, rule in sorted(cluster.watch.due)]
        if commands:
            await self._master.ask(SYSTEM, commands)

    def _blind_us(self) -> int:
        """How long ago the clock was last looked at, by one that nobody sets."""
        before, self._looked_at = self._looked_at, asyncio.get_running_loop().time()
        return 0 if before is None else round((self._looked_at - before) * 1_000_000)
