"""`kill -9` of the master at points where somebody waits for an answer: nothing acknowledged is
lost, nothing is queued twice under its key, no attempt runs twice, and the log verifies.

One service lives through all the points of a database: its agents, its submitters and the witness
file that the jobs themselves write go on, and only the master dies and comes back.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ledger.events import AttemptEnded, JobEnded, JobHeld, JobsSubmitted
from ledger.testing.evidence import Evidence

from .harness import Site, until
from .load import Book, Load, Told, large, mixed, submissions
from .strace import Point, TooSoon, Tracer, need_strace

KILLED = -9
REAL, PRETENDED = 3, 4
TRIES = 5
"""A background call may come to the point while strace is attaching: then it is tried again."""


class Died(NamedTuple):
    """What became of one point."""

    point: Point
    outstanding: int
    between: bool


def points(database: str, log: str, *, full: bool) -> list[Point]:
    """The points of a database: what the master calls to store, to hear and to answer.

    No two have the same call and ordinal: of `write`, the loop has those from 21 on; on `log.db`,
    to which SQLite writes back its journal, are those that the journal itself leaves.
    """
    wanted: dict[str, tuple[range, tuple[int, ...]]]
    if database == "sqlite":
        wanted = {
            "write": (range(1, 13), (1, 2, 5)),
            "pwrite64": (range(1, 17), (2, 7)),
            "fsync": (range(2, 14), (2, 4)),
            "read": (range(1, 7), (3,)),
        }
        back = [Point("pwrite64", k, log) for k in range(17, 23)] + [Point("fsync", 1, log)]
        few_back = back[:1]
    else:
        wanted = {
            "sendto": (range(1, 13), (2, 4)),
            "recvfrom": (range(1, 19), (3, 8)),
            "poll": (range(1, 19), (4, 8)),
        }
        back = few_back = []
    chosen = [
        Point(call, k) for call, (all_of, few) in wanted.items() for k in (all_of if full else few)
    ]
    chosen += [Point("epoll_pwait", k, loop=True) for k in (range(1, 7) if full else (3,))]
    replies = range(21, 121 - len(chosen) - len(back)) if full else range(21, 33, 2)
    return [
        *chosen,
        *(back if full else few_back),
        *(Point("write", k, loop=True) for k in replies),
    ]


class Victim:
    """A service whose master dies at one point after another."""

    def __init__(self, site: Site) -> None:
        self.site, self.book = site, Book()
        self.kept: dict[str, Told] = {}
        self._read = 0
        site.start()
        for number in range(REAL):
            site.agent(f"w{number}")
        site.simulated(PRETENDED, "sim")
        site.nodes_ready(REAL + PRETENDED)

    def kill(self, point: Point) -> Died:
        """Let the master die at the point, bring it back, and check what must hold."""
        trace = self.site.folder / "strace.log"
        for _ in range(TRIES):
            master = self.site.master
            assert master is not None
            trace.unlink(missing_ok=True)
            try:
                tracer = Tracer(master.pid, point, "SIGKILL", trace)
                break
            except TooSoon:
                assert master.ends(20, str(point)) == KILLED
                self.site.age_leadership()
                self.site.start()
        else:
            raise AssertionError(f"{point} was reached too soon, {TRIES} times")
        load = Load(self.site, self.book, large if point.path else mixed(self.site))
        try:
            assert master.ends(20, str(point)) == KILLED
        finally:
            load.end()
            tracer.close()
        assert load.refused == [], point
        hit = tracer.killed()
        outstanding = self.book.unanswered
        assert outstanding, f"{point}: nobody waited for an answer"
        self.site.age_leadership()
        self.site.start()
        web = self.site.web()
        untold = [key for key in outstanding if self.book.repeat(web, key)]
        self.check()
        # PostgreSQL keeps nothing of a master that died before it had sent COMMIT.
        durable = hit.reply or hit.synced or self.site.database_url is not None
        return Died(point, len(outstanding), bool(untold) and durable)

    def check(self) -> None:
        """What holds after every death."""
        recorded = self.site.events(self._read)
        self._read = recorded[-1].position if recorded else self._read
        submissions(recorded, self.kept)
        self.book.check(self.kept)
        self.site.verified()
        runs = Counter((job, attempt) for job, attempt, *_ in self.site.witnessed())
        assert [run for run, times in runs.items() if times > 1] == []

    def all_end(self) -> int:
        """Wait until every job that can run has ended; how many of them wrote their witness."""
        until(lambda: len(self.live()) == 0, 120, "the end of all jobs")
        self.check()
        ends = [r.event for r in self.site.events() if isinstance(r.event, AttemptEnded)]
        assert max(Counter(e.job for e in ends).values()) == 1
        assert {(e.attempt, e.outcome) for e in ends} == {(1, "completed")}
        real = {str(e.job) for e in ends if e.pool == "default"}
        assert {job for job, *_ in self.site.witnessed()} == real
        return len(real)

    def live(self) -> set[int]:
        """The jobs that were queued, are not held, and have not ended."""
        jobs: set[int] = set()
        for event in (r.event for r in self.site.events()):
            if isinstance(event, JobsSubmitted) and not event.specs[0].held:
                jobs.update(range(event.first_job, event.first_job + event.count))
            elif isinstance(event, AttemptEnded | JobEnded):
                jobs.discard(event.job)
            assert not isinstance(event, JobHeld)
        return jobs


def table(died: list[Died]) -> Iterator[tuple[str, str]]:
    """The figures: one row for each call, and one for all."""
    kinds: dict[str, list[Died]] = defaultdict(list)
    for one in died:
        kinds[one.point.kind].append(one)
    for kind, found in [*sorted(kinds.items()), ("all", died)]:
        between = sum(one.between for one in found)
        yield kind, f"{len(found)} tried and fired, {between} between append and reply"


@pytest.mark.fault("A1", "A2")
def test_no_kill_loses_or_doubles_anything(
    any_site: Site, database: str, full: bool, evidence: Evidence
) -> None:
    need_strace()
    began = time.monotonic()
    victim = Victim(any_site)
    chosen = points(database, str(any_site.data / "log.db"), full=full)
    died = [victim.kill(point) for point in chosen]
    # Whether a reply was still to come depends on how busy the machine is: go on until a third of
    # the deaths lay there, within reason.
    for spare in range(121, 121 + len(chosen)):
        if 3 * sum(one.between for one in died) >= len(died):
            break
        chosen.append(Point("sendto", spare, loop=True))
        died.append(victim.kill(chosen[-1]))
    assert len({(point.call, point.ordinal) for point in chosen}) == len(chosen)
    witnesses = victim.all_end()
    for kind, figures in table(died):
        evidence(f"kill -9 of the master, {database}, {kind}", figures)
    acknowledged = len(victim.book.told)
    evidence(
        f"kill -9 of the master, {database}, violations",
        f"0 in {acknowledged} acknowledged requests, {witnesses} jobs with a witness; "
        f"{time.monotonic() - began:.0f} s",
    )
    assert victim.book.unanswered == []
    assert 3 * sum(one.between for one in died) >= len(died)
