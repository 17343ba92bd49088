"""Faults that meet: what single steps would hardly ever bring about in the right order. Each counts
what it really did, by what the log, the witness and the clients show afterwards."""

from collections import Counter
from typing import Any

from ledger.commands import Change, Requeue, SetPolicy
from ledger.domain.state import Cluster
from ledger.events import AttemptEnded, AttemptPlaced, NodeStateChanged, StaleReported
from ledger.testing.simulation import OPERATOR, Simulation
from ledger.testing.simulation.cluster import LEASE_S, MARGIN_S
from ledger.testing.simulation.node import NodeMachine
from ledger.testing.simulation.witness import Line

from .steps import YEAR_S, Steps
from .watched import Watched

OUTAGE = "outage longer than the lease, then placed elsewhere"
OUTAGE_S = LEASE_S + MARGIN_S + 2


class Compounds(Steps):
    """The rules in which several things go wrong. `fired`: how often each did what it is for."""

    def __init__(self, sim: Simulation, watched: Watched, year_s: float = YEAR_S) -> None:
        super().__init__(sim, watched, year_s)
        self.fired: Counter[str] = Counter()

    @property
    def state(self) -> Cluster:
        """The fold of the log as it was last looked at."""
        return self.watched.state

    def wait(self, seconds: float, at_once: float = 0.5) -> None:
        """Time passes, and everything is looked at meanwhile."""
        for _ in range(round(seconds / at_once)):
            self.sim.advance(at_once)
            self.watched.look()

    def since(self, event: int) -> list[Any]:
        """The events that were recorded behind so many."""
        return [r.event for r in self.watched.events[event:]]

    def ready(self) -> bool:
        """Have the operator put things in order first, as far as the faults of now allow; does a
        master reign, and serve two nodes?"""
        for _ in range(8):
            self.watched.put_in_order(holds=False)
            self.wait(0.5)
            serving = [n for n in self.state.nodes.values() if n.serves]
            if self.sim.reigning() is not None and len(serving) > 1:
                return True
        return False

    def busy(self, a: int, restartable: bool) -> NodeMachine | None:
        """A node on which a command runs whose job may, or may not, begin again."""
        jobs = self.state.jobs
        found = [
            node
            for node in self.sim.nodes
            if (command := node.running())
            and command.line.job in jobs
            and jobs[command.line.job].restartable == restartable
        ]
        return found[a % len(found)] if found else None

    def work_is_over(self) -> None:
        """Every command ends."""
        for node in self.sim.nodes:
            if (command := node.running()) is not None:
                command.exit(0)

    def work(self, a: int, b: int, restartable: bool) -> NodeMachine | None:
        """The same, once some more work was asked for and room was made for it."""
        self.work_is_over()
        self.submit(a, b, restartable=restartable, name="", nodes=1, time_limit_s=3600, held=False)
        self.wait(1.0)
        return self.busy(a, restartable)

    def isolate(self, node: NodeMachine, seconds: float, *, hears: bool = False) -> None:
        """Nothing gets from a node to a master, nor back unless it `hears`."""
        for master in self.sim.masters:
            self.cut(node.name, master.name, seconds)
            if not hears:
                self.cut(master.name, node.name, seconds)

    def make_room(self, node: NodeMachine) -> None:
        """What runs on the other nodes ends."""
        for other in self.sim.nodes:
            if other is not node and (command := other.running()):
                command.exit(0)

    # ── an outage longer than the lease, then the job is placed elsewhere ──

    def outage_then_placed_elsewhere(self, a: int, b: int) -> None:
        """The node is cut off, or its agent stopped, or its machine off."""
        if not self.ready():
            return
        node = self.busy(a, restartable=True)
        if node is None:
            node = self.work(a, b, restartable=True)
        command = node.running() if node else None
        if node is None or command is None:
            return
        job, begun = command.line.job, len(self.watched.events)
        if b % 4 == 0:
            self.agent_is_stopped(self.sim.nodes.index(node), 3)
        self.isolate(node, OUTAGE_S + 2, hears=b % 4 == 1)
        for _ in range(OUTAGE_S):
            self.make_room(node)
            self.wait(1, 0.5)
        events = self.since(begun)
        lost = any(
            isinstance(e, AttemptEnded) and e.job == job and e.cause == "node_lost" for e in events
        )
        self.fired[OUTAGE] += lost and any(
            isinstance(e, AttemptPlaced) and e.job == job and node.name not in e.nodes
            for e in events
        )

    def clock_is_set_then_an_outage(self, a: int, b: int) -> None:
        """The wall clock of the master that reigns is a year off when it has to count a lease."""
        if self.ready() and (master := self.sim.reigning()) is not None:
            master.wall_shift_s += self.year_s * (1, -1)[b % 2]
            self.wait(0.5)
            before = self.fired[OUTAGE]
            self.outage_then_placed_elsewhere(a, b // 2)
            self.fired["clock set, then an outage"] += self.fired[OUTAGE] - before

    def leases_change_while_a_node_is_silent(self, a: int, b: int) -> None:
        """It holds a longer lease than the policy now gives; or its command, which it will not
        kill, may begin again by now, and it does not know."""
        if not self.ready():
            return
        node = self.work(a, b, restartable=b % 2 == 0)
        if b % 2 == 0:
            self.sim.ask(OPERATOR, SetPolicy(job_lease_s=2 * LEASE_S))
            self.wait(LEASE_S)
        command = node.running() if node else None
        if node is None or command is None:
            return
        self.isolate(node, OUTAGE_S + LEASE_S)
        self.sim.ask(OPERATOR, Change(job=command.line.job, restartable=True))
        self.sim.ask(OPERATOR, SetPolicy(job_lease_s=LEASE_S))
        for _ in range(OUTAGE_S):
            self.make_room(node)
            self.wait(1)
        self.fired["leases change while a node is silent"] += (
            self.state.policy.job_lease_s == LEASE_S
            and self.state.nodes[node.name].health == "down"
        )

    def power_fails_as_a_command_begins(self, a: int, b: int) -> None:
        """What is on no disk by then was never so."""
        if not self.ready():
            return
        self.work_is_over()
        self.wait(0.5)
        self.submit(a, b, name="", nodes=1, held=False)
        for _ in range(100):
            self.sim.advance(0.005)
            node = next((n for n in self.sim.nodes if n.running()), None)
            if node is not None:
                node.switch_off(in_order=False)
                self.sim.loop.later(0.5, self.switch_on, node)
                self.fired["power fails as a command begins"] += 1
                break
        self.wait(2)

    # ── the reply is lost, and the request repeated on the other master ──

    def reply_lost_then_asked_elsewhere(self, a: int, b: int) -> None:
        """It is durable, nobody is told, and the master dies."""
        if not self.ready():
            return
        master = self.sim.reigning()
        if master is None:
            return
        self.cut(master.name, "desk", 2.5)
        self.sim.desk.turn_to(master)
        begun = self.state.epoch
        asked = self.submit(a, b)
        self.wait(0.3, 0.1)
        durable = f"k{self.submissions}" in {key for _, key in self.state.keys}
        if b % 2:
            master.kill(8.0)
        else:
            self.master_is_stopped(4 + 4 * self.sim.masters.index(master), 3)
        for _ in range(12):
            if asked.settled:
                break
            self.wait(1, 1)
        answer = asked.answer
        self.fired["reply lost, then asked on the other master"] += (
            durable and answer is not None and answer.epoch > begun and answer.reply.repeated
        )

    # ── an end is in flight while the lease runs out ──

    def end_in_flight_while_the_lease_runs_out(self, a: int, b: int) -> None:
        """The command ends by itself, and nobody hears of it in time."""
        if not self.ready():
            return
        node = self.busy(a, restartable=b % 2 == 0) or self.work(a, b, restartable=b % 2 == 0)
        command = node.running() if node else None
        if node is None or command is None:
            return
        line, begun = command.line, len(self.watched.events)
        self.isolate(node, OUTAGE_S, hears=b % 4 == 1)
        self.wait(0.5)
        if command.alive:
            command.exit(b // 4 % 2)
        told = False
        for _ in range(OUTAGE_S + 8):
            self.wait(1, 1)
            if told := self.told_late(node.name, line, begun):
                break
        self.fired["end in flight while the lease runs out"] += told

    def told_late(self, node: str, line: Line, begun: int) -> bool:
        """Was the end recorded after the silence of its node?"""
        silent = False
        for e in self.since(begun):
            if isinstance(e, NodeStateChanged) and (e.node, e.cause) == (node, "silent"):
                silent = True
            elif isinstance(e, AttemptEnded | StaleReported) and silent and e.cause == "exit":
                mine = (e.job, e.attempt) == (line.job, line.attempt)
                if mine:
                    return True
        return False

    # ── an end is told again while the next attempt runs ──

    def end_told_again_while_the_next_attempt_runs(self, a: int, b: int) -> None:
        """The job is to wait again, on the same node perhaps; the answer to its end is lost."""
        if not self.ready():
            return
        node = self.busy(a, restartable=True) or self.work(a, b, restartable=True)
        command = node.running() if node else None
        if node is None or command is None:
            return
        begun, job = len(self.watched.events), command.line.job
        node.deaf = True
        self.sim.ask(OPERATOR, Requeue(job=job))
        self.wait(2)
        self.fired["end told again while the next attempt runs"] += not node.deaf and any(
            isinstance(e, AttemptPlaced) and e.job == job and e.nodes[0] == node.name
            for e in self.since(begun)
        )
        node.deaf = False

    # ── a master goes while a start is in flight ──

    def takeover_while_a_start_is_in_flight(self, a: int, b: int) -> None:
        """The placement is durable; the order, or the word that it was obeyed, is not delivered."""
        if not self.ready():
            return
        master = self.sim.reigning()
        if master is None:
            return
        events, begun = len(self.watched.events), self.state.epoch
        for node in self.sim.nodes:
            way = (node.name, master.name) if b % 2 else (master.name, node.name)
            if b % 2 == 0:
                self.cut(*way, 2.0)
        self.submit(a, b, name="", held=False)
        placed = None
        for _ in range(40):
            self.sim.advance(0.005)
            self.watched.look()
            placed = next((e for e in self.since(events) if isinstance(e, AttemptPlaced)), None)
            if placed is not None:
                break
        master.kill(6.0)
        for _ in range(9):
            self.wait(1, 1)
            if self.state.epoch > begun:
                break
        self.wait(3, 1)
        key = placed and (placed.job, placed.attempt)
        starts = {(x.job, x.attempt) for x in self.sim.witness.lines}
        self.fired["takeover while a start is in flight"] += (
            placed is not None and self.state.epoch > begun and key in starts
        )

    # ── a master that was taken over from acts on ──

    def a_zombie_acts(self, a: int, b: int) -> None:
        """It was stopped while another took over, and believes that it still leads."""
        old = self.sim.reigning()
        if old is None or self.sim.row.file or old.process is None:
            return
        self.sim.loop.stop_process(old.process)
        for _ in range(12):
            self.wait(1, 1)
            new = self.sim.reigning()
            if new is not None and new is not old:
                break
        else:
            self.sim.loop.continue_process(old.process)
            return
        self.wait(4, 1)
        if self.sim.reigning() is not new or old.core is None or new.core is None:
            self.sim.loop.continue_process(old.process)
            return
        epoch, incarnation = new.core.master.epoch, self.sim.row.disk.incarnation
        for node in self.sim.nodes:
            if (incarnation, epoch) not in node.disk.reigns:  # it would renew a lease wrongly
                self.cut(node.name, old.name, 5.0)
            else:
                node.turn_to(old)
        deaths, refused = len(old.deaths), old.refused["stale_sync"]
        old.deluded = True
        self.sim.loop.continue_process(old.process)
        self.wait(2.5)
        self.sim.desk.turn_to(old)
        self.submit(a, b)
        self.wait(1.0)
        fenced = any("Fenced" in death for death in old.deaths[deaths:])
        self.fired["a zombie acts"] += fenced or old.refused["stale_sync"] > refused
        old.kill()

    def an_old_reply_comes_again(self, a: int, b: int) -> None:
        """I8, I27: somewhere on the way a reply of an earlier reign was kept."""
        self.sim.advance(0.1)
        node = self.node(a)
        old = node.old_replies()
        if not old or node.agent is None:
            return
        before = node.refused
        node.replayed = old[b % len(old)]
        self.wait(4, 1)
        self.fired["an old reply comes again"] += node.refused - before

    # ── a projection is restarted while it is rebuilt ──

    def restart_during_a_rebuild(self, a: int, b: int) -> None:
        """Begun anew, killed halfway, once more while the log goes on."""
        for projector in self.sim.projectors:
            projector.follower.rebuild()
            projector.step(5 + a % 10)
            half = projector.follower.checkpoint.position
            projector.restart()
            self.sim.advance(0.1)
            there = projector.follower.checkpoint.position == half
            while projector.step(20 + b % 50):
                pass
            position = projector.follower.checkpoint.position
            self.fired["restart during a rebuild"] += there and 0 < half < position
