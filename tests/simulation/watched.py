"""A simulated cluster that is looked at: what must hold at every moment, and once faults stop."""

from collections.abc import Iterator
from typing import Any

from ledger.commands import Cancel, Release, Requeue, Resume, Submit
from ledger.domain.cluster import evolve, fold
from ledger.domain.errors import KeyReused
from ledger.domain.snapshot import to_bytes
from ledger.domain.state import Cluster, Job
from ledger.events import (
    AbuseFound,
    AttemptEnded,
    JobCancelRequested,
    JobChanged,
    JobEnded,
    JobRequeued,
    JobsSubmitted,
    Recorded,
)
from ledger.store.log import LogFailure
from ledger.testing.memory_log import MemoryLog
from ledger.testing.simulation import OPERATOR, Simulation
from ledger.testing.simulation.client import Asked
from ledger.testing.simulation.master import Acknowledged
from ledger.testing.simulation.witness import Violation, demand
from oracles.abuse import judged, said
from oracles.law import KEY_LIFETIME_US, Law

from .reasons import check_reasons

SETTLES_IN_S = 60
NOTICED_IN_S = 4
EFFECTS: dict[type, tuple[type, ...]] = {
    Cancel: (JobCancelRequested, JobEnded),
    Requeue: (JobRequeued,),
}
"""What the log must hold once a request about a job was granted (others may change nothing)."""


class Watched:
    """`state` is the fold of the log as it was read from the disk, and nothing of a master's.

    `events`: the log so far; `void`: requests whose answers a restore has made worthless; `ages`:
    how often keys were forgotten, by a restore, or because the log's clock went on by a year;
    `began`: the jobs that have run; `again`: those that were ever allowed to run again.
    """

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.void: set[int] = set()
        self.ages = self._seen = 0
        self.lease_s, self.lease_since = 0, 0.0
        self.began: set[int] = set()
        self.again: set[int] = set()
        self.begin_again()

    def begin_again(self) -> None:
        """Read the log from its beginning: at first, and when it is another."""
        self.law, self.state = Law(), Cluster()
        self.events: list[Recorded] = []
        self._read = self._asked = 0
        self._waiting: list[Asked] = []
        self._keys: dict[tuple[str, str], tuple[str, int, int]] = {}

    # ── at every moment ──

    def look(self) -> None:
        """All that must hold now."""
        log = self.sim.log()
        head = log.head()
        new = self.sim.desk.asked[self._asked :]
        self._waiting += [asked for asked in new if id(asked) not in self.void]
        self._asked = len(self.sim.desk.asked)
        for r in self._news(log):
            if r.at - self.state.at > KEY_LIFETIME_US and self.events:
                self._forget_keys()
            self.law.take(r)
            evolve(self.state, r)
            self.events.append(r)
            self._compare_with_the_witness(r)
        if self._read != head.position:
            check_reasons(self.state)
        self._read = head.position
        for line in self.sim.witness.lines[self._seen :]:
            once = line.job not in self.began or line.job in self.again
            demand(once, f"I4: job {line.job} may not begin twice: {line}")
            self.began.add(line.job)
        self._seen = len(self.sim.witness.lines)
        for machine in self.sim.masters:
            core = machine.core
            if core is None or core.master.head != head or not machine.reigns:
                continue
            cluster = core.master.cluster
            if cluster.position == self.state.position and not core.master.failed:
                demand(to_bytes(cluster) == to_bytes(self.state), "I13: a master forgets")
        self._answers_hold()
        self._silence_is_noticed()

    def _news(self, log: MemoryLog) -> Iterator[Recorded]:
        try:
            yield from log.read(after=self._read)
        except (LogFailure, ValueError) as error:
            raise Violation(f"I8: two have written, or nobody can read it: {error}") from error

    def _compare_with_the_witness(self, r: Recorded) -> None:
        e, witness = r.event, self.sim.witness
        if isinstance(e, JobsSubmitted):
            specs = [e.specs[min(i, len(e.specs) - 1)] for i in range(e.count)]
            self.again |= {e.first_job + i for i, spec in enumerate(specs) if spec.restartable}
        elif isinstance(e, JobChanged) and e.restartable:
            self.again.add(e.job)
        elif isinstance(e, AttemptEnded) and not (e.cause == "node_lost" and e.next == "final"):
            here = [x for x in witness.running if (x.job, x.attempt) == (e.job, e.attempt)]
            demand(not here, f"I4: {e} and it runs: {here}")
            if e.cause in ("exit", "time_limit"):
                ran = any((x.job, x.attempt) == (e.job, e.attempt) for x in witness.lines)
                demand(ran, f"I6: {e} and it never ran")

    def _silence_is_noticed(self) -> None:
        """Whoever reigns counts the lease of every node, also of those that he never heard."""
        master = self.sim.reigning()
        if master is None or master.process is None:
            return
        if self.lease_s != (lease_s := self.state.policy.job_lease_s):
            self.lease_s, self.lease_since = lease_s, self.sim.loop.time()
        listens_since = max(master.reigns_since, master.process.runs_since)
        for node in self.state.nodes.values():
            silent_s = self.sim.loop.time() - max(master.heard.get(node.name, 0), listens_since)
            longer_s = min(silent_s - lease_s, self.sim.loop.time() - self.lease_since)
            late = longer_s > NOTICED_IN_S
            demand(not late or node.health == "down", f"I25: {node.name} is silent: {silent_s} s")

    def _forget_keys(self) -> None:
        """Whoever repeats one now may be given another answer."""
        self.ages += 1
        self.void |= {id(asked) for asked in self._waiting}
        self._waiting.clear()
        self._keys.clear()

    def _answers_hold(self) -> None:
        """Look at the answers that came since; nothing that is in a log ever leaves it."""
        waiting = []
        for asked in self._waiting:
            if asked.answer is not None:
                self._answer_holds(asked, asked.answer)
            elif asked.refusal is None:
                waiting.append(asked)
        self._waiting = waiting

    def _answer_holds(self, asked: Asked, answer: Acknowledged) -> None:
        """I1: what was acknowledged is in the log; I2: one answer for one key."""
        command = asked.command
        commit = self.sim.log().commit_at(answer.position)
        demand(
            commit is not None and commit.hash == answer.hash,
            f"I1: {command} was granted at {answer.position}, which the log has not",
        )
        if isinstance(command, Submit):
            first, count = answer.reply.first_job, answer.reply.count
            there = all(job in self.law.attempts for job in range(first, first + count))
            demand(there, f"I1: {answer} was given, and no job is there")
            name = (asked.subject.name, command.key)
            said = (command.body_sha256, first, count)
            known = self._keys.setdefault(name, said)
            demand(known == said, f"I2: {name} came to {known} and to {said}")

    def effects_hold(self) -> None:
        """I1 for requests about jobs, by the events that they come to; and I2 for refusals."""
        for asked in self.sim.desk.asked:
            if id(asked) in self.void:
                continue
            command = asked.command
            wanted = EFFECTS.get(type(command), ())
            if asked.answer is not None and wanted:
                job = command.job  # type: ignore[attr-defined]
                demand(
                    any(isinstance(r.event, wanted) and r.event.job == job for r in self.events),  # type: ignore[attr-defined]
                    f"I1: {command} was granted, and nothing came of it",
                )
            if isinstance(asked.refusal, KeyReused) and isinstance(command, Submit):
                known = self.law.keys.get((asked.subject.name, command.key))
                demand(
                    known is not None and known.event.body_sha256 != command.body_sha256,  # type: ignore[attr-defined]
                    f"I2: {command} was refused as another's",
                )

    # ── once faults stop ──

    def settle(self) -> None:
        """I25: within a minute nothing is left to do, and everybody agrees."""
        self.sim.heal()
        for _ in range(SETTLES_IN_S):
            self.put_in_order()
            self.sim.advance(1)
            self.look()
            if not (left := self.left()):
                break
        demand(not left, f"I25: after {SETTLES_IN_S} s: {left}")
        self.effects_hold()
        demand(to_bytes(fold(self.sim.log().read())) == to_bytes(self.state), "I13: replay")
        self.abuse_was_noticed()

    def abuse_was_noticed(self) -> None:
        """L4: who broke a rule of use is on record, once, whoever reigned meanwhile."""
        found = [r.event for r in self.events if isinstance(r.event, AbuseFound)]
        wanted = judged(self.events)
        demand(not wanted.due, f"L4: not noticed: {wanted.due}")
        right = [said(e) for e in found] == [breach[:-1] for breach in wanted.told]
        demand(right, f"L4: noticed {found} instead of {wanted.told}")
        numbers = [e.finding for e in found]
        demand(numbers == sorted(set(numbers)), f"L4: a number is given again: {numbers}")

    def put_in_order(self, *, holds: bool = True) -> None:
        """What an operator does after trouble: nodes serve again, jobs that wait for him go on."""
        for node in self.state.nodes.values():
            if node.drain:
                self.sim.ask(OPERATOR, Resume(node=node.name), tries=3)
        for job in self.state.jobs.values() if holds else ():
            if job.hold is not None:
                act = Cancel(job=job.id) if self.ran_beyond(job) else Release(job=job.id)
                self.sim.ask(OPERATOR, act, tries=3)
        for projector in self.sim.projectors:
            projector.step(1000)

    def ran_beyond(self, job: Job) -> bool:
        """Did it begin behind the end of the log that was restored? Whoever lets it begin again
        has not looked at the list of what was lost."""
        began = [x.attempt for x in self.sim.witness.lines if x.job == job.id]
        return max(began, default=0) > job.attempts

    def left(self) -> list[Any]:
        """What is not in order yet."""
        sim = self.sim
        if sim.reigning() is None:
            return ["no master"]
        found: list[Any] = list(self.state.jobs.values())
        found += [n for n in self.state.nodes.values() if n.state != "idle"]
        found += self.state.outages.values()
        found += sim.witness.running
        found += self.state.watch.due
        for node in sim.nodes:
            agent = node.agent
            if agent is None or agent.have or agent.spool.unacked():
                found.append((node.name, agent and agent.have, agent and agent.spool.unacked()))
        position = sim.log().head().position
        found += [
            p.projection.id for p in sim.projectors if p.follower.checkpoint.position < position
        ]
        return found

    # ── another log ──

    def replaced(self, remembered: bytes) -> None:
        """I27: the log is a copy of what it was earlier; its fold is what that was."""
        self.ages += 1
        end = self.sim.log().head().position
        for asked in self.sim.desk.asked:
            if asked.answer is None or asked.answer.position > end:
                self.void.add(id(asked))
        self.begin_again()
        self.look()
        demand(to_bytes(self.state) == remembered, "I27: the copy's fold is another")
