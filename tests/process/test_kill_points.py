"""`kill -9` of the master at points where somebody waits for an answer: nothing acknowledged is
lost, nothing is queued twice under its key, no attempt runs twice, and the log verifies.

One service lives through all the points of a database: its agents, its submitters and the witness
file that the jobs themselves write go on, and only the master dies and comes back.
"""

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from ledger.events import AttemptEnded, JobEnded, JobHeld, JobsSubmitted
from ledger.store.shelf import listed
from ledger.testing.evidence import Evidence

from .harness import Site
from .load import Book, Load, Told, large, mixed, submissions
from .points import FIRST_REPLY, Moment, Where, places
from .processes import Process, until
from .strace import Hit, Point, TooSoon, Tracer, need_strace

KILLED = -9
REAL, PRETENDED = 3, 4
TRIES = 5
"""A background call may come to the point while strace is attaching: then it is tried again."""

COLD = 30


class Died(NamedTuple):
    """What became of one point."""

    where: Where
    outstanding: int
    between: bool
    to_agent: bool


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

    def kill(self, where: Where) -> Died:
        """Let the master die there, bring it back, and check what must hold."""
        with ExitStack() as stack:
            moments = {
                "among agents": self._among_agents,
                "recovering": self._recovering,
                "ending": self._ending,
            }
            hit = moments.get(where.moment, self._reigning)(where, stack)
        outstanding = self.book.unanswered
        self.again()
        web = self.site.web()
        untold = [key for key in outstanding if self.book.repeat(web, key)]
        self.check()
        # PostgreSQL keeps nothing of a master that died before it had sent COMMIT.
        durable = hit.reply or hit.synced or self.site.database_url is not None
        between = where.moment != "recovering" and bool(untold) and durable
        return Died(where, len(outstanding), between, "HTTP/1.1 200" in hit.line)

    def go_on(
        self,
        died: list[Died],
        moment: Moment,
        ordinals: Iterable[int],
        enough: Callable[[list[Died]], bool],
    ) -> None:
        """Let it die at more of the loop's writes, until there is enough."""
        for ordinal in ordinals:
            if enough(died):
                return
            died.append(self.kill(Where(moment, Point("write", ordinal, loop=True))))

    def again(self, *, cold: bool = False, held: bool = False) -> Process:
        """Start the next master, and wait until it is ready unless it is held."""
        self.site.age_leadership()
        if not held:
            return self.site.start(cold=cold)
        self.site.master = self.site.run("master", name="master", held=True, cold=cold)
        return self.site.master

    def _traced(self, where: Where) -> tuple[Process, Tracer]:
        """The master, with what will kill it."""
        trace = self.site.folder / "strace.log"
        if where.cold:
            self._master().end(signal.SIGKILL)
            self.again(cold=True)
        for _ in range(TRIES):
            master = self._master()
            trace.unlink(missing_ok=True)
            try:
                return master, Tracer(master.pid, where.point, "SIGKILL", trace)
            except TooSoon:
                assert master.ends(20, str(where)) == KILLED
                self.again(cold=where.cold)
        raise AssertionError(f"{where} was reached too soon, {TRIES} times")

    def _master(self) -> Process:
        assert self.site.master is not None
        return self.site.master

    def _reigning(self, where: Where, stack: ExitStack) -> Hit:
        """While it is asked for much, by those who wait for an answer; perhaps beside a backup."""
        if where.moment == "beside a backup":
            stack.callback(self._backed_up, self.site.run("backup", "create", name="backup"))
        master, tracer = self._traced(where)
        load = Load(self.site, self.book, large if where.point.path else mixed(self.site))
        try:
            assert master.ends(20, str(where)) == KILLED
        finally:
            load.end()
            tracer.close()
        assert load.refused == [], where
        assert self.book.unanswered, f"{where}: nobody waited for an answer"
        return tracer.killed()

    def _among_agents(self, where: Where, stack: ExitStack) -> Hit:
        """While only agents ask for something: idle ones are answered late."""
        master, tracer = self._traced(where)
        stack.callback(tracer.close)
        assert master.ends(120, str(where)) == KILLED
        return tracer.killed()

    def _backed_up(self, backup: Process) -> None:
        assert backup.ends(60) == 0, backup.words()
        assert all(found.verified for found in listed(self.site.data / "backups"))

    def _recovering(self, where: Where, stack: ExitStack) -> Hit:
        """Before it has come back from another death."""
        load = Load(self.site, self.book, mixed(self.site))
        told = len(self.book.told)
        until(lambda: len(self.book.told) > told + 4, 20, "answers")
        self._master().end(signal.SIGKILL)
        load.end()
        master = self.again(cold=where.cold, held=True)
        trace = self.site.folder / "strace.log"
        trace.unlink(missing_ok=True)
        tracer = Tracer(master.pid, where.point, "SIGKILL", trace)
        stack.callback(tracer.close)
        master.tell(signal.SIGCONT)
        # Traced from its first step, a cold start may take long on a busy machine.
        assert master.ends(120, str(where)) == KILLED
        return tracer.killed()

    def _ending(self, where: Where, stack: ExitStack) -> Hit:
        """After it was told to end; those who ask meanwhile may be refused."""
        master, tracer = self._traced(where)
        stack.callback(tracer.close)
        told = len(self.book.told)
        # What is counted on the journal is the master's last event, not the requests before it.
        if not where.point.path.endswith("-wal"):
            load = Load(self.site, self.book, mixed(self.site))
            stack.callback(load.end)
            until(lambda: len(self.book.told) > told + 4, 20, "answers")
        master.tell(signal.SIGTERM)
        assert master.ends(20, str(where)) == KILLED
        return tracer.killed()

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


def _a_third_between(died: list[Died]) -> bool:
    return 3 * sum(one.between for one in died) >= len(died)


def table(died: list[Died]) -> Iterator[tuple[str, str]]:
    """The figures: one row for each kind, and one for all."""
    kinds: dict[str, list[Died]] = defaultdict(list)
    for one in died:
        kinds[one.where.kind].append(one)
    cold = [one for one in died if one.where.cold]
    for kind, found in [*sorted(kinds.items()), ("by cold start", cold), ("all", died)]:
        between = sum(one.between for one in found)
        yield kind, f"{len(found)} tried and fired, {between} between append and reply"


@pytest.mark.fault("A1", "A2", "A6")
def test_no_kill_loses_or_doubles_anything(
    any_site: Site, database: str, full: bool, evidence: Evidence
) -> None:
    need_strace()
    began = time.monotonic()
    victim = Victim(any_site)
    chosen = places(database, any_site, full=full)
    died = [victim.kill(where) for where in chosen]
    # What a call was for depends on how busy the machine is: go on, within reason, until a third of
    # the deaths lay where a reply was still to come, and one at the answer to an agent.
    spare = range(FIRST_REPLY + len(chosen), FIRST_REPLY + 2 * len(chosen))
    victim.go_on(died, "reigning", spare, _a_third_between)
    victim.go_on(died, "among agents", range(5, 15), lambda died: any(d.to_agent for d in died))
    assert len({one.where.point for one in died}) == len(died)
    witnesses = victim.all_end()
    for kind, figures in table(died):
        evidence(f"kill -9 of the master, {database}, {kind}", figures)
    acknowledged = len(victim.book.told)
    evidence(
        f"kill -9 of the master, {database}, violations",
        f"0 in {acknowledged} acknowledged requests, {witnesses} jobs with a witness; "
        f"{sum(one.to_agent for one in died)} deaths at the answer to an agent; "
        f"{time.monotonic() - began:.0f} s",
    )
    assert victim.book.unanswered == []
    assert _a_third_between(died)
    assert sum(where.cold for where in chosen) >= (COLD if full else 1)
    assert any(one.to_agent for one in died)
