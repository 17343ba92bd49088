"""Who was live when a log ends: the fold of what is proven, then of what could be read behind.

Behind a break the rules' own fold can't go on: it relies on every event being there. So what comes
then is taken by its own words, which each event has: whose job it is about, and what became of it.
"""

from typing import Literal

import msgspec

from ledger.domain.cluster import evolve
from ledger.domain.state import Cluster
from ledger.domain.state import Job as LiveJob
from ledger.events import (
    AttemptEnded,
    AttemptEvent,
    AttemptPlaced,
    AttemptStarted,
    JobCancelRequested,
    JobChanged,
    JobEnded,
    JobEvent,
    JobRequeued,
    JobsSubmitted,
    LogRestored,
    MasterStarted,
    NodeStateChanged,
    Recorded,
)

MAX_JOBS = 10_000
"""Of one event; a damaged one may say anything."""

KnownFrom = Literal["log", "unproven", "spool"]


class Job(msgspec.Struct):
    """A job that lives as far as is known. Times are µs, 0: not known, or not yet.

    `attempt` is the number of its last one, 0: none; `placed` the position that placed it, if it is
    `running`. `restartable` None: not known. `silent`: a node under it was lost already.
    """

    job: int
    user: str
    account: str
    known_from: KnownFrom
    submitted_at: int = 0
    restartable: bool | None = None
    attempt: int = 0
    nodes: tuple[str, ...] = ()
    placed_at: int = 0
    started_at: int = 0
    placed: int = 0
    running: bool = False
    silent: bool = False


class Live:
    """Takes the events of a log; `finish` says who is live then.

    `lost` are attempts that ended their job by the loss of a node, at `since` or later. `spools`
    says which node's each spool is. `restored_at` is when the log was last restored, 0: never.
    """

    def __init__(self, since: int | None = None) -> None:
        self.cluster = Cluster()
        self.lost: list[AttemptEnded] = []
        self.incarnations: set[str] = set()
        self.restored_at = 0
        self._since = since
        self._placed: dict[int, int] = {}
        self._jobs: dict[int, Job] | None = None
        self._gone: set[int] = set()

    def proven(self, recorded: Recorded) -> None:
        """An event that the chain proves."""
        self._note(recorded)
        evolve(self.cluster, recorded)

    def unproven(self, recorded: Recorded) -> None:
        """An event behind a break."""
        self._note(recorded)
        self._take(self.finish(), recorded)

    def finish(self) -> dict[int, Job]:
        """The live jobs by number."""
        if self._jobs is None:
            self._jobs = {job.id: self._known(job) for job in self.cluster.jobs.values()}
        return self._jobs

    def ended(self, job: int) -> bool:
        """Is it on record that this job has ended?"""
        return job in self._gone or self.cluster.outcome(job) is not None

    def spools(self) -> dict[str, str]:
        """The node of every spool that the log was told of, by the spool's id."""
        found = {}
        for name, node in self.cluster.nodes.items():
            found.update(dict.fromkeys((*node.former, node.spool), name))
        return found

    def _note(self, r: Recorded) -> None:
        e = r.event
        if isinstance(e, AttemptPlaced):
            self._placed[e.job] = r.position
        elif isinstance(e, AttemptEnded):
            self._placed.pop(e.job, None)
            late = self._since is not None and r.at >= self._since
            if late and e.outcome == "node_fail" and e.next == "final":
                self.lost.append(e)
        elif isinstance(e, MasterStarted | LogRestored):
            self.incarnations.add(e.incarnation)
            if isinstance(e, LogRestored):
                self.incarnations.add(e.origin_incarnation)
                self.restored_at = r.at

    def _known(self, job: LiveJob) -> Job:
        attempt, nodes = job.attempt, self.cluster.nodes
        known = Job(
            job.id,
            job.user,
            job.spec.account,
            "log",
            submitted_at=job.submitted_at,
            restartable=job.restartable,
            attempt=job.attempts,
        )
        if attempt is not None:
            known.running, known.nodes = True, attempt.nodes
            known.placed_at, known.started_at = attempt.placed_at, attempt.started_at
            known.placed = self._placed.get(job.id, 0)
            known.silent = any(n in nodes and nodes[n].health == "down" for n in attempt.nodes)
        return known

    # behind a break

    def _take(self, jobs: dict[int, Job], r: Recorded) -> None:
        match r.event:
            case JobsSubmitted() as e:
                self._submitted(jobs, e, r)
            case JobEnded() as e:
                self._end(jobs, e.job)
            case AttemptEnded() as e if e.next == "final":
                self._end(jobs, e.job)
            case AttemptEnded() as e:
                job = self._of(jobs, e)
                job.running, job.silent, job.attempt = False, False, e.attempt
            case AttemptEvent() as e:
                self._attempt(self._of(jobs, e), e, r)
            case NodeStateChanged() as e:
                self._node(jobs, e)
            case JobEvent() as e:
                job = self._of(jobs, e)
                if isinstance(e, JobCancelRequested | JobRequeued):
                    job.running, job.attempt = True, e.attempt
                if isinstance(e, JobChanged) and e.restartable is not None:
                    job.restartable = e.restartable

    def _submitted(self, jobs: dict[int, Job], e: JobsSubmitted, r: Recorded) -> None:
        if e.count > MAX_JOBS or not e.specs:
            return
        for place in range(e.count):
            number, spec = e.first_job + place, e.specs[place if place < len(e.specs) else 0]
            if number not in jobs and not self.ended(number):
                jobs[number] = Job(
                    number,
                    e.user,
                    spec.account,
                    "unproven",
                    submitted_at=r.at,
                    restartable=spec.restartable,
                )

    def _of(self, jobs: dict[int, Job], e: JobEvent) -> Job:
        """The job that an event is about; its submission may be lost."""
        if e.job not in jobs:
            jobs[e.job] = Job(e.job, e.user, e.account, "unproven")
        return jobs[e.job]

    def _attempt(self, job: Job, e: AttemptEvent, r: Recorded) -> None:
        job.running, job.attempt, job.nodes = True, e.attempt, e.nodes
        job.placed_at = e.placed_at
        if isinstance(e, AttemptPlaced):
            job.restartable, job.placed, job.started_at = e.restartable, r.position, 0
        elif isinstance(e, AttemptStarted):
            job.started_at = e.started_at

    def _node(self, jobs: dict[int, Job], e: NodeStateChanged) -> None:
        for struck in e.struck:
            job = jobs.setdefault(
                struck.job, Job(struck.job, struck.user, struck.account, "unproven")
            )
            if not job.running or job.attempt < struck.attempt:
                job.nodes = (e.node,)
            job.running, job.attempt = True, max(job.attempt, struck.attempt)
            job.placed_at = job.placed_at or struck.placed_at
        if (e.to == "down") != (e.was == "down"):
            for job in jobs.values():
                if job.running and e.node in job.nodes:
                    job.silent = e.to == "down"

    def _end(self, jobs: dict[int, Job], number: int) -> None:
        jobs.pop(number, None)
        self._gone.add(number)
