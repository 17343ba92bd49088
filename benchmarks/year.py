"""A year of a busy cluster as a log that is told and not written: a million jobs, and outages.

Every event is one that a master would have appended, in its order; only their bytes, and the chain
over them, are not made. So the projections of a million jobs are there in a minute or two.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import psycopg

from benchmarks.logs import PERSON, START
from benchmarks.places import Place
from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    AttemptStarted,
    Decision,
    Event,
    JobSpec,
    JobsSubmitted,
    NodeStateChanged,
    Output,
    Recorded,
    Struck,
)
from ledger.projection.discover import discover
from ledger.projection.follower import Follower
from ledger.projection.source import Batch
from ledger.projection.store import Store

YEAR_US = 365 * 86_400_000_000
USERS, ACCOUNTS, NODES, RACK = 1_000, 50, 1_000, 20
POOLS = ("batch", "batch", "batch", "gpu")
ARRAY = 10
"""Tasks of an array; every job is one."""

WAITS, RUNS, STRUCK = 100, 300, 250
"""A job is placed when so many more have been submitted, runs until so many more have been placed;
an outage hits those that were submitted so many before."""

AN_OUTAGE = 5_000
"""Submitted jobs between two outages, each of a whole rack."""

A_COMMIT, A_BATCH = 50, 20_000


class End(NamedTuple):
    """A commit's end."""

    position: int
    hash: str
    at: int


class Year:
    """So many jobs, evenly over a year from `START` on. What a follower asks of a log, and the log
    itself by `batches`, once."""

    incarnation = "year"

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._again: set[int] = set()
        self._last = End(0, "", 0)
        self._ends: dict[int, End] = {}

    def commit_at(self, position: int) -> End | None:
        """The end of a batch: nobody asks for others."""
        return self._ends.get(position)

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        """No projection is to skip anything."""
        return iter(())

    def batches(self) -> Iterator[Batch]:
        """The whole log, some commits at a time."""
        events: list[Recorded] = []
        for n, first in enumerate(range(1, self.jobs + 1, A_COMMIT), 1):
            upto, told = min(first + A_COMMIT, self.jobs + 1), len(events)
            at = self.time(upto)
            for position, event in enumerate(self._commit(first, upto), self._last.position + 2):
                stream = event.stream
                events.append(
                    Recorded(position, stream, position, n, at, 1, self.incarnation, event, PERSON)
                )
            self._last = End(self._last.position + 1 + len(events) - told, f"{n:x}", at)
            if len(events) >= A_BATCH or upto > self.jobs:
                self._ends[self._last.position] = self._last
                yield Batch(events, self._last)
                events = []

    def time(self, job: int) -> int:
        """When a job is submitted, µs."""
        return START + job * YEAR_US // self.jobs

    def _commit(self, first: int, upto: int) -> Iterator[Event]:
        for job in range(first, upto):
            if job % ARRAY == 1 or self.jobs < ARRAY:
                yield _submitted(job, min(ARRAY, self.jobs - job + 1))
            if job > WAITS:
                yield from self._placed(job - WAITS, 1)
            if job > WAITS + RUNS:
                yield self._ended(job - WAITS - RUNS)
            if job % AN_OUTAGE == 0:
                yield from self._outage(job)

    def _placed(self, job: int, attempt: int) -> Iterator[Event]:
        tried = self._tried(job, attempt)
        decision = Decision(view=job, now=START, rules=1, policy=0, rank=1, of=1, how="in_order")
        yield AttemptPlaced(**tried, time_limit_s=86_400, restartable=True, decision=decision)
        yield AttemptStarted(**tried, started_at=tried["placed_at"], boot_id="boot")

    def _ended(self, job: int) -> Event:
        failed = job % 20 == 0
        attempt = 2 if job in self._again else 1
        tried = self._tried(job, attempt)
        held = RUNS * YEAR_US // self.jobs
        return AttemptEnded(
            **tried,
            started_at=tried["placed_at"],
            ran_us=held,
            held_us=held,
            outcome="failed" if failed else "completed",
            cause="exit",
            next="final",
            state="failed" if failed else "completed",
            exit_code=int(failed),
            output=Output(),
        )

    def _outage(self, job: int) -> Iterator[Event]:
        """A rack falls silent, its jobs are lost and run elsewhere, and it comes back."""
        number, lost = job // AN_OUTAGE, range(job - STRUCK, job - STRUCK + RACK)
        at = self.time(job)
        about: dict[str, Any] = {
            "pool": "batch",
            "rack": f"r{number}",
            "cause": "silence",
            "outage": number,
        }
        for one in lost:
            tried = self._tried(one, 1)
            struck = Struck(
                job=one,
                attempt=1,
                restartable=True,
                **{k: tried[k] for k in ("user", "account", "pool", "placed_at")},
            )
            node = tried["nodes"][0]
            yield NodeStateChanged(
                node=node, was="allocated", to="down", silent_since=at, struck=(struck,), **about
            )
            yield AttemptEnded(
                **tried,
                started_at=tried["placed_at"],
                ran_us=0,
                held_us=at - tried["placed_at"],
                outcome="node_fail",
                cause="silence",
                next="requeued",
                state="pending",
                lost=(node,),
                outage=number,
            )
            yield NodeStateChanged(node=node, was="down", to="idle", **about)
            self._again.add(one)
            yield from self._placed(one, 2)

    def _tried(self, job: int, attempt: int) -> dict[str, Any]:
        node = (job + 500 * (attempt - 1)) % NODES
        return {
            "job": job,
            "attempt": attempt,
            "user": user(job),
            "account": f"a{job // ARRAY % ACCOUNTS}",
            "pool": POOLS[job // ARRAY % len(POOLS)],
            "nodes": (f"n{node}",),
            "placed_at": self.time(job + WAITS + (attempt - 1) * (STRUCK - WAITS)),
        }


def user(job: int) -> str:
    """Whose a job is."""
    return f"u{(job - 1) // ARRAY % USERS}"


def _submitted(job: int, count: int) -> Event:
    group = job // ARRAY
    spec = JobSpec(
        name=f"run {group % 5_000}",
        account=f"a{group % ACCOUNTS}",
        pool=POOLS[group % len(POOLS)],
        restartable=True,
    )
    array = f"0-{count - 1}"
    return JobsSubmitted(
        first_job=job, count=count, user=user(job), specs=(spec,), array=array, key=f"k{job}"
    )


def keep(place: Place, year: Year, names: tuple[str, ...]) -> None:
    """Make these projections of a year, as a rebuild does: beside the tables, then switched."""
    with ExitStack() as stack:
        kept = []
        for name in names:
            projection = discover().projections[name]
            twin = projection.twin()
            store = stack.enter_context(closing(Store(projection, place.data, place.url)))
            beside = stack.enter_context(closing(Store(twin, place.data, place.url)))
            store.open()
            follower = Follower(twin, beside, year)  # type: ignore[arg-type] # asks for no more
            kept.append((store, twin, follower))
        for batch in year.batches():
            for _, _, follower in kept:
                follower.step(lambda _, taken=batch: taken)  # type: ignore[misc]
        for store, twin, follower in kept:
            assert not follower.stopped, follower.checkpoint.error
            store.index(twin)
            store.take_over(twin, follower.checkpoint, lambda known: False)
    if place.url is not None:
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
