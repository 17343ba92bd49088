"""A world for the rules to rule: agents with memory, a network that loses and delays, real starts.

What the log can't know is modelled here: which command really runs where. Agents keep the rules of
`ledger.wire`: they obey the orders of an answered sync, kill restartable attempts when their lease
has run out, and resend reports until these are acknowledged. A call is decided when it arrives,
which may be late, twice, or never.
"""

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace as replace_struct

from ledger.commands import (
    SYSTEM,
    Command,
    Contact,
    GiveUp,
    ReportEnded,
    ReportStarted,
    Silence,
    Subject,
)
from ledger.domain.errors import StaleSync
from ledger.domain.orders import due, wanted
from ledger.domain.state import Cluster
from ledger.events import AttemptEnded, AttemptPlaced, JobCancelRequested, JobEnded, JobsSubmitted
from ledger.testing.stories import Story

NODES = ("n1", "n2", "n3")
USERS = ("ann", "bob")
LEASE_S, MARGIN_S, KILL_S = 10, 2, 1.5
Attempt = tuple[int, int]


@dataclass
class Process:
    """A command that runs: on the leader only. `restartable` is what its agent was told."""

    job: int
    attempt: int
    restartable: bool


@dataclass(frozen=True)
class Sync:
    """A call of an agent: what it said, when, and which of its reports it carried."""

    node: str
    spool: str
    sent_at: int
    has: frozenset[Attempt]
    reports: tuple[Command, ...]


@dataclass
class Agent:
    """A node's agent. `knows`: attempts of its spool that were begun or are over."""

    node: str
    spool: int = 1
    lease_until: int = 0
    running: Process | None = None
    holds: set[Attempt] = field(default_factory=set)
    reports: list[Command] = field(default_factory=list)
    knows: set[Attempt] = field(default_factory=set)
    heard_at: int = 0

    def has(self) -> frozenset[Attempt]:
        here = {(self.running.job, self.running.attempt)} if self.running else set()
        return frozenset(here | self.holds)


class World:
    """A story, and the agents that its nodes have."""

    def __init__(self) -> None:
        self.story = Story()
        self.agents: dict[str, Agent] = {}
        self.starts: dict[int, int] = {}
        self.once: set[int] = set()
        self.members_lost: set[tuple[str, Attempt]] = set()
        self.seen = 0
        self.attempts: dict[int, int] = {}
        self.open: dict[int, tuple[str, ...]] = {}
        self.over: dict[int, str] = {}

    def join(self, name: str) -> None:
        """A node with an idle agent."""
        self.story.node(name)
        self.agents[name] = Agent(name, heard_at=self.story.now)

    def pass_time(self, seconds: float) -> None:
        """Agents kill what they must when their lease runs out; it takes them `KILL_S`."""
        self.story.tick(seconds)
        for agent in self.agents.values():
            self.kill_what_has_expired(agent, KILL_S)

    def kill_what_has_expired(self, agent: Agent, grace_s: float = 0) -> None:
        p, until = agent.running, agent.lease_until + round(grace_s * 1_000_000)
        if p is not None and p.restartable and self.story.now >= until:
            self.finish(agent, "node_fail", "lease_expired")

    def finish(self, agent: Agent, end: Any, cause: str) -> None:
        p = agent.running
        assert p is not None
        agent.running = None
        report = ReportEnded(node=agent.node, job=p.job, attempt=p.attempt, end=end, cause=cause)
        agent.reports.append(report)

    def start(self, agent: Agent, attempt: Attempt, restartable: bool) -> None:
        """I4: the moment of truth. No other process of the job runs anywhere."""
        job, n = attempt
        others = [a.node for a in self.agents.values() if a.running and a.running.job == job]
        assert others == [], f"job {job} starts on {agent.node} and runs on {others}"
        assert agent.running is None
        self.starts[job] = self.starts.get(job, 0) + 1
        if job in self.once:
            assert self.starts[job] == 1, f"job {job} was never restartable and starts again"
        agent.running = Process(job, n, restartable)
        agent.knows.add(attempt)
        agent.reports.append(ReportStarted(node=agent.node, job=job, attempt=n, boot_id="b"))

    def send(self, agent: Agent) -> Sync:
        spool = f"{agent.node}-{agent.spool}"
        return Sync(agent.node, spool, self.story.now, agent.has(), tuple(agent.reports))

    def arrive(self, sync: Sync, answered: bool) -> None:
        """The master takes a call; unless its answer is lost, the agent obeys."""
        agent, who = self.agents[sync.node], Subject(sync.node, "node")
        agent.heard_at = max(agent.heard_at, self.story.now)
        acked = [r for r in sync.reports if self.report(who, r)]
        contact = Contact(
            node=sync.node,
            spool=sync.spool,
            boot_id=sync.spool,
            build="0",
            protocol=1,
            kernel="6.1",
            has=sync.has,
            reported=frozenset(
                (r.job, r.attempt) for r in sync.reports if isinstance(r, ReportEnded)
            ),
        )
        try:
            self.story.ask(who, contact)
        except StaleSync:
            return
        if answered and sync.spool == f"{agent.node}-{agent.spool}":
            agent.reports = [r for r in agent.reports if r not in acked]
            self.obey(agent, sync.sent_at)

    def report(self, who: Subject, report: Any) -> bool:
        """What `master.contacts` does with a report; is it dealt with?"""
        if isinstance(report, ReportEnded):
            here = (report.job, report.attempt)
            lost = tuple(sorted(node for node, attempt in self.members_lost if attempt == here))
            report = replace_struct(report, lost=lost)
        dealt_with = bool(self.story.ask(who, report).reply)
        if isinstance(report, ReportEnded):
            what = (who.name, (report.job, report.attempt))
            (self.members_lost.discard if dealt_with else self.members_lost.add)(what)
        return dealt_with

    def obey(self, agent: Agent, sent_at: int) -> None:
        self.kill_what_has_expired(agent)
        lease_s = self.story.cluster.policy.job_lease_s
        agent.lease_until = max(agent.lease_until, sent_at + lease_s * 1_000_000)
        if self.story.now >= agent.lease_until:
            return
        lost = frozenset(attempt for _, attempt in self.members_lost)
        orders = wanted(self.story.cluster, agent.node, lost)
        listed = {(w.job.id, w.attempt) for w in orders}
        agent.holds &= listed
        if agent.running and (agent.running.job, agent.running.attempt) not in listed:
            agent.running = None  # killed and forgotten
        for want in orders:
            here = (want.job.id, want.attempt)
            runs = agent.running is not None and here == (agent.running.job, agent.running.attempt)
            if want.stop:
                if runs:
                    self.finish(agent, "stopped", "stopped")
                elif here not in agent.knows:
                    self.let_go(agent, here)
            elif here in agent.knows or agent.running is not None:
                continue
            elif want.leads and self.all_hold(want.job.id, here):
                agent.holds.discard(here)
                self.start(agent, here, want.job.restartable)
            else:
                agent.holds.add(here)

    def let_go(self, agent: Agent, attempt: Attempt) -> None:
        """An attempt that never began here is to stop: it is over here."""
        agent.holds.discard(attempt)
        agent.knows.add(attempt)
        job, n = attempt
        report = ReportEnded(node=agent.node, job=job, attempt=n, end="stopped", cause="stopped")
        agent.reports.append(report)

    def all_hold(self, job: int, attempt: Attempt) -> bool:
        found = self.story.cluster.jobs[job].attempt
        assert found is not None
        return all(attempt in self.agents[name].holds for name in found.nodes[1:])

    def clock_looks(self) -> None:
        """What `master.timers` does a few times a second."""
        c, now = self.story.cluster, self.story.now
        for node in list(c.nodes.values()):
            last = max(self.agents[node.name].heard_at, c.started_at)
            if now - last >= c.policy.job_lease_s * 1_000_000:
                self.story.ask(SYSTEM, Silence(node=node.name, since=last))
        for when, job in due(c):
            if when <= now and job.attempt is not None:
                self.story.ask(SYSTEM, GiveUp(job=job.id, attempt=job.attempt.n))

    # ── what the log and the state must say ───────────

    def the_log_is_lawful(self) -> None:
        """I3, I6: attempts are contiguous, each ends once; a job ends once, and nothing follows."""
        for recorded in self.story.events[self.seen :]:
            e = recorded.event
            if isinstance(e, JobsSubmitted):
                for job in range(e.first_job, e.first_job + e.count):
                    assert job not in self.attempts
                    self.attempts[job] = 0
            elif isinstance(e, AttemptPlaced):
                assert e.job not in self.over
                assert e.job not in self.open
                assert e.attempt == self.attempts[e.job] + 1
                taken = {name for nodes in self.open.values() for name in nodes}
                assert taken.isdisjoint(e.nodes), "I5: one job a node"
                self.attempts[e.job], self.open[e.job] = e.attempt, e.nodes
            elif isinstance(e, AttemptEnded):
                assert self.open.pop(e.job) == e.nodes
                assert e.attempt == self.attempts[e.job]
                assert 0 <= e.ran_us <= e.held_us
                self.an_end_is_true(e)
                if e.next == "final":
                    self.over[e.job] = e.state
            elif isinstance(e, JobEnded):
                assert e.job not in self.open
                assert e.job not in self.over
                self.over[e.job] = e.state
            elif isinstance(e, JobCancelRequested):
                assert e.job in self.open
        self.seen = len(self.story.events)

    def an_end_is_true(self, e: AttemptEnded) -> None:
        """Nothing of an attempt is left when it has ended, unless nobody could know: then its job
        is over, too."""
        if e.cause != "node_lost" or e.next != "final":
            running = [a.running for a in self.agents.values() if a.running is not None]
            assert (e.job, e.attempt) not in [(p.job, p.attempt) for p in running]

    def the_state_agrees(self) -> None:
        c = self.story.cluster
        assert set(c.jobs) == set(self.attempts) - set(self.over)
        assert c.running == set(self.open)
        assert {job: c.outcome(job) for job in self.over} == self.over
        for job in self.open:
            assert not set(c.jobs[job].spec.exclude) & set(self.open[job]), "I17"
        for node in c.nodes.values():
            mine = {(j, self.attempts[j]) for j, nodes in self.open.items() if node.name in nodes}
            assert node.attempts == mine
        live = [job.user for job in c.jobs.values()]
        assert c.per_user == {user: live.count(user) for user in set(live)}


def is_true(c: Cluster, job_id: int, token: str) -> bool:
    """Is this why the job waits? Told from the state without the code that chose the word."""
    job = c.jobs[job_id]
    suited = [n for n in c.nodes.values() if n.name not in job.spec.exclude]
    others = [n for n in suited if n.name not in job.avoid]
    suited = others if len(others) >= job.spec.nodes else suited
    serving = [n for n in suited if n.health == "ok" and not n.drain]
    idle = [n for n in serving if not n.attempts]
    ahead = [
        other
        for other in c.jobs.values()
        if other.id < job_id and other.attempt is None and other.hold is None
    ]
    return {
        "JobHeldUser": job.hold == "user",
        "JobHeldAdmin": job.hold == "admin",
        "JobHeldSystem": job.hold == "system",
        "ReqNodeNotAvail": len(serving) < job.spec.nodes,
        "Resources": len(idle) < job.spec.nodes <= len(serving),
        "Priority": bool(ahead) and len(serving) >= job.spec.nodes,
        "None": len(idle) >= job.spec.nodes,
    }[token]
