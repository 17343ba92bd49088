"""Random histories of a small cluster: jobs, agents with memory, lost and late messages, masters.

After each step the invariants of DESIGN.md must hold, and once the faults stop everything ends.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.commands import (
    Cancel,
    Change,
    Command,
    Down,
    Drain,
    Hold,
    Release,
    Requeue,
    Resume,
    SetPolicy,
    Subject,
    Submit,
)
from ledger.domain.cluster import fold
from ledger.domain.errors import KeyReused, Refusal
from ledger.domain.explain import REASONS, Heads, why
from ledger.domain.snapshot import from_bytes, to_bytes
from ledger.events import (
    JobSpec,
)
from ledger.testing.evidence import FULL
from ledger.testing.stories import OPERATOR
from world import LEASE_S, MARGIN_S, NODES, USERS, Agent, Sync, World, is_true


class Machine(World, RuleBasedStateMachine):
    """The rules are what users, operators, agents, the network and the clock may do."""

    def __init__(self) -> None:
        World.__init__(self)
        RuleBasedStateMachine.__init__(self)
        self.in_flight: list[Sync] = []
        self.keys: dict[tuple[str, str], tuple[str, int]] = {}

    @initialize()
    def begin(self) -> None:
        self.story.ask(OPERATOR, SetPolicy(job_lease_s=LEASE_S, lease_margin_s=MARGIN_S))
        for name in NODES:
            self.join(name)

    # ── rules: users and operators ───────────────────────────────────────────────────────────────

    @rule(
        user=st.sampled_from(USERS),
        nodes=st.sampled_from((1, 1, 2)),
        restartable=st.booleans(),
        count=st.sampled_from((1, 2)),
        exclude=st.sampled_from(((), ("n1",))),
    )
    def submit(
        self, user: str, nodes: int, restartable: bool, count: int, exclude: tuple[str, ...]
    ) -> None:
        first = self.story.submit(
            user, nodes=nodes, restartable=restartable, count=count, exclude=exclude
        )
        if not restartable:
            self.once |= set(range(first, first + count))

    @rule(user=st.sampled_from(USERS), key=st.sampled_from("kl"), body=st.sampled_from("xy"))
    def submit_under_a_key(self, user: str, key: str, body: str) -> None:
        """I2: one answer for one key, whoever lost the first one."""
        command = Submit(specs=(JobSpec(name=body),), key=key, body_sha256=body)
        known = self.keys.get((user, key))
        if known is not None and known[0] != body:
            with pytest.raises(KeyReused):
                self.story.ask(user, command)
            return
        outcome = self.story.ask(user, command)
        first = outcome.reply.first_job
        if known is None:
            self.keys[user, key] = (body, first)
            self.once.add(first)
        else:
            assert (first, outcome.events) == (known[1], [])

    @precondition(lambda self: self.story.cluster.jobs)
    @rule(data=st.data(), what=st.sampled_from((Cancel, Hold, Release, Requeue)))
    def ask_about_a_job(self, data: st.DataObject, what: Any) -> None:
        job = data.draw(st.sampled_from(sorted(self.story.cluster.jobs)))
        self.try_to(what(job=job))

    @precondition(lambda self: self.story.cluster.jobs)
    @rule(data=st.data(), restartable=st.booleans())
    def change_a_job(self, data: st.DataObject, restartable: bool) -> None:
        job = data.draw(st.sampled_from(sorted(self.story.cluster.jobs)))
        self.change(job, restartable=restartable)

    def change(self, job: int, *, restartable: bool) -> None:
        if restartable:
            self.once.discard(job)
        self.try_to(Change(job=job, restartable=restartable))

    @rule(node=st.sampled_from(NODES), what=st.sampled_from((Drain, Resume, Resume, Down)))
    def operate(self, node: str, what: Any) -> None:
        self.try_to(what(node=node))

    @rule(lease_s=st.sampled_from((LEASE_S, 5 * LEASE_S)))
    def set_the_lease(self, lease_s: int) -> None:
        self.story.ask(OPERATOR, SetPolicy(job_lease_s=lease_s))

    def try_to(self, command: Command) -> None:
        before = to_bytes(self.story.cluster)
        try:
            self.story.ask(OPERATOR, command)
        except Refusal:
            assert to_bytes(self.story.cluster) == before

    # ── rules: agents and the network ────────────────────────────────────────────────────────────

    @rule(node=st.sampled_from(NODES), answered=st.sampled_from((True, True, True, False)))
    def sync(self, node: str, answered: bool) -> None:
        self.arrive(self.send(self.agents[node]), answered)

    @rule(rounds=st.sampled_from((1, 2)))
    def everybody_syncs(self, rounds: int) -> None:
        for _ in range(rounds):
            for node in NODES:
                self.arrive(self.send(self.agents[node]), answered=True)

    @precondition(lambda self: len(self.in_flight) < 3)
    @rule(node=st.sampled_from(NODES))
    def a_call_is_delayed(self, node: str) -> None:
        """It was begun before what the agent does next, and its connection breaks."""
        self.in_flight.append(self.send(self.agents[node]))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), again=st.booleans())
    def a_late_report_arrives(self, data: st.DataObject, again: bool) -> None:
        """Reports are facts whenever they come. (That a late `has` is dropped is the master's.)"""
        sync = data.draw(st.sampled_from(self.in_flight))
        if not again:
            self.in_flight.remove(sync)
        for report in sync.reports:
            self.report(Subject(sync.node, "node"), report)
        if sync.spool != f"{sync.node}-{self.agents[sync.node].spool}":
            self.arrive(replace(sync, reports=()), answered=False)

    @rule(
        node=st.sampled_from(NODES),
        end=st.sampled_from((("completed", "exit"), ("failed", "exit"), ("timeout", "time_limit"))),
    )
    def a_command_ends(self, node: str, end: tuple[str, str]) -> None:
        if self.agents[node].running is not None:
            self.finish(self.agents[node], *end)

    @rule(node=st.sampled_from(NODES), memory=st.booleans())
    def an_agent_starts_anew(self, node: str, memory: bool) -> None:
        """It takes its job with it; what its spool remembers is reported, else it is new."""
        agent = self.agents[node]
        if memory:
            agent.holds = set()
            if agent.running is not None:
                self.finish(agent, "node_fail", "agent_restarted")
            agent.lease_until = 0
        else:
            self.agents[node] = Agent(node, agent.spool + 1, heard_at=agent.heard_at)

    # ── rules: the clock, the planner, masters ───────────────────────────────────────────────────

    @rule(seconds=st.sampled_from((0.5, 3, LEASE_S, LEASE_S + MARGIN_S, 6 * LEASE_S)))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)
        self.clock_looks()

    @rule()
    def plan(self) -> None:
        self.story.plan()

    @rule(checkpoint=st.booleans())
    def the_master_is_replaced(self, checkpoint: bool) -> None:
        """I13: what a new master reads from the log is what the old one knew."""
        old = to_bytes(self.story.cluster)
        if checkpoint:
            self.story.cluster = from_bytes(old)
        else:
            self.story.cluster = fold(self.story.events)
        assert to_bytes(self.story.cluster) == old
        self.members_lost.clear()
        self.story.restart()

    # ── rules: what hurts, made likely ───────────────────────────────────────────────────────────

    @rule(nodes=st.sampled_from((1, 2)), restartable=st.booleans())
    def work_begins(self, nodes: int, restartable: bool) -> None:
        self.submit("ann", nodes, restartable, 1, ())
        self.story.plan()
        self.everybody_syncs(2)

    @precondition(lambda self: any(agent.running for agent in self.agents.values()))
    @rule(node=st.sampled_from(NODES))
    def an_end_is_repeated_when_the_next_attempt_runs(self, node: str) -> None:
        """A person requeues the job; the answer to its end is lost."""
        agent = self.agents[node]
        if agent.running is None:
            return
        job = agent.running.job
        self.change(job, restartable=True)
        self.try_to(Requeue(job=job))
        self.arrive(self.send(agent), answered=True)
        late = self.send(agent)
        self.arrive(late, answered=True)
        self.story.plan()
        self.everybody_syncs(2)
        for report in late.reports:
            self.report(Subject(node, "node"), report)
            self.what_always_holds()

    @rule(
        node=st.sampled_from(NODES),
        allowed=st.booleans(),
        lease_s=st.sampled_from((0, LEASE_S)),
        speaks=st.booleans(),
    )
    def silence_then_placed_elsewhere(
        self, node: str, allowed: bool, lease_s: int, speaks: bool
    ) -> None:
        """An outage longer than lease and margin, while everybody else goes on.

        Meanwhile the owner allows that the job be restarted, or an operator shortens the lease. At
        last the node may speak again, and the clock looks before it speaks once more.
        """
        agent = self.agents[node]
        wait_s = self.story.cluster.policy.job_lease_s + MARGIN_S
        if lease_s:
            self.set_the_lease(lease_s)
        if allowed and agent.running is not None:
            self.change(agent.running.job, restartable=True)
        for _ in range(wait_s + 1):
            self.pass_time(1)
            self.everybody_else_goes_on(node)
        if speaks:
            self.arrive(self.send(agent), answered=True)
            self.everybody_else_goes_on(node)

    def everybody_else_goes_on(self, node: str) -> None:
        """They speak, the clock looks, and what can be placed is placed and started at once."""
        self.everybody_else_syncs(node)
        self.clock_looks()
        self.story.plan()
        self.everybody_else_syncs(node)
        self.what_always_holds()

    @rule(node=st.sampled_from(NODES))
    def a_hold_is_left_behind(self, node: str) -> None:
        """A wide job ends; a node that held a place for it gets the next one before it hears that,
        and falls silent until the next one might be given up."""
        leader, agent = self.agents[NODES[NODES.index(node) - 1]], self.agents[node]
        if leader.running is None or not agent.holds:
            return
        self.finish(leader, "completed", "exit")
        self.arrive(self.send(leader), answered=True)
        self.submit("bob", 1, True, 3, ())
        self.story.plan()
        self.silence_then_placed_elsewhere(node, allowed=False, lease_s=0, speaks=True)

    def everybody_else_syncs(self, node: str) -> None:
        for other in NODES:
            if other != node:
                self.arrive(self.send(self.agents[other]), answered=True)

    @rule(node=st.sampled_from(NODES))
    def the_answer_is_lost_and_the_call_repeated(self, node: str) -> None:
        sync = self.send(self.agents[node])
        self.arrive(sync, answered=False)
        self.arrive(replace(sync, sent_at=self.story.now), answered=True)

    @rule(node=st.sampled_from(NODES))
    def an_end_is_in_flight_while_the_lease_runs_out(self, node: str) -> None:
        agent = self.agents[node]
        if agent.running is not None:
            self.finish(agent, "completed", "exit")
        sync = self.send(agent)
        for _ in range(2):
            self.pass_time(self.story.cluster.policy.job_lease_s)
            self.everybody_else_syncs(node)
            self.clock_looks()
        self.story.plan()
        for report in sync.reports:
            self.report(Subject(node, "node"), report)

    @rule(node=st.sampled_from(NODES), obeyed=st.booleans())
    def a_master_goes_while_a_start_is_in_flight(self, node: str, obeyed: bool) -> None:
        self.story.plan()
        self.arrive(self.send(self.agents[node]), answered=obeyed)
        self.the_master_is_replaced(checkpoint=obeyed)
        self.arrive(self.send(self.agents[node]), answered=True)

    # ── invariants ───────────────────────────────────────────────────────────────────────────────

    @invariant()
    def what_always_holds(self) -> None:
        self.the_log_is_lawful()
        self.the_state_agrees()
        self.every_waiting_job_has_one_true_reason()

    def every_waiting_job_has_one_true_reason(self) -> None:
        c = self.story.cluster
        heads = Heads(c, self.story.now)
        for job in c.jobs.values():
            if job.attempt is None:
                token = why(c, job.id, self.story.now).reason
                assert token in REASONS
                assert heads.reason(job) == token
                assert is_true(c, job.id, token), (job.id, token)

    def teardown(self) -> None:
        """I25: when the faults stop, everything that may go on does; nothing is stuck."""
        if not self.agents:
            return
        for node in NODES:
            self.try_to(Resume(node=node))
        for _ in range(12):
            self.pass_time(1)
            for node in NODES:
                if (agent := self.agents[node]).running is not None:
                    self.finish(agent, "completed", "exit")
                self.arrive(self.send(agent), answered=True)
                self.try_to(Resume(node=node))
            for job in list(self.story.cluster.jobs.values()):
                if job.hold is not None:
                    self.story.release(job.id)
            self.clock_looks()
            self.story.plan()
        c = self.story.cluster
        assert {n.state for n in c.nodes.values()} <= {"idle", "allocated"}
        for _ in range(6 * len(c.jobs)):
            if not c.jobs:
                break
            self.pass_time(0.5)
            self.story.plan()
            for _ in range(3):
                for node in NODES:
                    self.arrive(self.send(self.agents[node]), answered=True)
            for agent in self.agents.values():
                if agent.running is not None:
                    self.finish(agent, "completed", "exit")
        self.the_log_is_lawful()
        assert sorted(c.jobs) == []


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=5_000 if FULL else 150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
