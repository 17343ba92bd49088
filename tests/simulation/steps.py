"""What may happen in a history: people ask, commands end, machines fail, the network too. A step
is a rule's name and three numbers, by which it chooses; so a history is data, and any part of one
is a history as well."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

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
from ledger.domain.snapshot import to_bytes
from ledger.events import JobSpec
from ledger.testing.memory_log import Disk
from ledger.testing.simulation import DATABASE, OPERATOR, Simulation
from ledger.testing.simulation.client import Asked
from ledger.testing.simulation.cluster import LEASE_S
from ledger.testing.simulation.master import MasterMachine
from ledger.testing.simulation.node import NodeMachine

from .watched import Watched

YEAR_S = 365.0 * 86_400
PAUSES = (0, 0, 0.02, 0.1, 0.3, 1.0)
SPELLS = (0.3, 1.0, 3.0, LEASE_S + 3.0)
"""How long a fault lasts, in seconds."""


class Step(NamedTuple):
    """A rule, and the numbers by which it chooses."""

    rule: str
    a: int
    b: int
    c: int


class Backup(NamedTuple):
    """A copy of the log, and what its fold was then."""

    disk: Disk
    folded: bytes


class Steps:
    """The simple rules. `year_s`: what a wall clock is set forward or back by."""

    def __init__(self, sim: Simulation, watched: Watched, year_s: float = YEAR_S) -> None:
        self.sim, self.watched, self.year_s = sim, watched, year_s
        self.keys: dict[int, list[Asked]] = {0: []}
        self.backup: Backup | None = None
        self.restores = self.submissions = 0

    def take(self, step: Step) -> None:
        """One step, and some time."""
        getattr(self, step.rule)(step.a, step.b)
        self.sim.advance(PAUSES[step.c % len(PAUSES)])
        self.watched.look()

    # ── people ──

    def submit(self, a: int, b: int, **given: Any) -> Asked:
        """One or two jobs, under a key of their own."""
        fields: dict[str, Any] = {
            "name": ("", "", "0.3 0", "2.5 1")[a % 4],
            "nodes": (1, 1, 1, 2)[b % 4],
            "restartable": a // 4 % 3 > 0,
            "exclude": ("n1",) if b // 4 % 8 == 0 else (),
            "time_limit_s": 3 if b // 32 % 16 == 0 else 3600,
            "held": b // 512 % 16 == 0,
        } | given
        specs = (JobSpec(**fields),) * (1 + (a // 16 % 4 == 0))
        self.submissions += 1
        key = f"k{self.submissions}"
        command = Submit(specs=specs, key=key, body_sha256=f"{a} {b}")
        asked = self.sim.ask(Subject(("ann", "bob")[a // 64 % 2], "user"), command)
        self.keys.setdefault(self.watched.ages, []).append(asked)
        return asked

    def resubmit(self, a: int, b: int) -> None:
        """The same again, or another request under the same key."""
        if keys := self.keys.get(self.watched.ages):
            known = keys[a % len(keys)]
            command = known.command
            assert isinstance(command, Submit)
            if b % 3 == 0:
                other = command.body_sha256 + " other"
                command = Submit(specs=command.specs, key=command.key, body_sha256=other)
            self.sim.ask(known.subject, command)

    def ask_about_a_job(self, a: int, b: int) -> None:
        """Of one that lives, by its owner or by the operator."""
        jobs = sorted(self.watched.state.jobs)
        if jobs:
            job = jobs[a % len(jobs)]
            made: tuple[Callable[[], Command], ...] = (
                lambda: Cancel(job=job),
                lambda: Hold(job=job),
                lambda: Release(job=job),
                lambda: Requeue(job=job),
                lambda: Requeue(job=job),
                lambda: Change(job=job, restartable=b // 8 % 2 == 0),
            )
            owner = Subject(self.watched.state.jobs[job].user, "user")
            who = OPERATOR if b // 16 % 2 else owner
            asked = made[b % len(made)]()
            if isinstance(asked, Release) and self.watched.ran_beyond(self.watched.state.jobs[job]):
                asked = Cancel(job=job)
            self.sim.ask(who, asked, tries=1 + b // 32 % 3)

    def operate(self, a: int, b: int) -> None:
        """Drain a node, resume it, declare it dead."""
        name = self.node(a).name
        made = (Drain(node=name), Resume(node=name), Resume(node=name), Down(node=name))
        self.sim.ask(OPERATOR, made[b % len(made)], tries=2)

    def set_the_lease(self, a: int, b: int) -> None:
        """A longer one, or the usual."""
        self.sim.ask(OPERATOR, SetPolicy(job_lease_s=(LEASE_S, 2 * LEASE_S)[a % 2]), tries=2)

    # ── nodes ──

    def node(self, a: int) -> NodeMachine:
        """One of the nodes."""
        return self.sim.nodes[a % len(self.sim.nodes)]

    def command_exits(self, a: int, b: int) -> None:
        """One that runs ends by itself."""
        busy = [command for node in self.sim.nodes if (command := node.running())]
        if busy:
            busy[a % len(busy)].exit(b % 3 // 2)

    def agent_is_killed(self, a: int, b: int) -> None:
        """Its supervisor starts another."""
        self.node(a).kill_agent()

    def agent_is_stopped(self, a: int, b: int) -> None:
        """For a while."""
        node = self.node(a)
        spell = SPELLS[b % 4] if node.wardens else 0.3  # without them, nobody minds the lease
        if node.process is not None and node.process.runs:
            self.sim.loop.stop_process(node.process)
            self.sim.loop.later(spell, self.sim.loop.continue_process, node.process)

    def machine_is_off(self, a: int, b: int) -> None:
        """It is rebooted, or its power fails."""
        node = self.node(a)
        if node.on:
            node.switch_off(in_order=b % 2 == 0)
            self.sim.loop.later(SPELLS[b // 2 % 4], self.switch_on, node)

    def switch_on(self, node: NodeMachine) -> None:
        """Unless somebody has by now."""
        if not node.on:
            node.switch_on()

    def spool_is_lost(self, a: int, b: int) -> None:
        """A new disk, and with it a new memory."""
        self.node(a).lose_spool()

    def spool_is_full(self, a: int, b: int) -> None:
        """For a while."""
        disk = self.node(a).disk
        disk.full = True
        self.sim.loop.later(SPELLS[b % 4], setattr, disk, "full", False)

    # ── the network ──

    def cut(self, source: str, target: str, seconds: float) -> None:
        """Let nothing through in one direction, for a while."""
        way = (source, target)
        cut = self.sim.network.cut
        cut[way] = max(cut.get(way, 0), self.sim.loop.time() + seconds)

    def node_is_cut_off(self, a: int, b: int) -> None:
        """In one direction, or in both, from all masters."""
        node, seconds = self.node(a).name, SPELLS[b // 3 % 4]
        for master in self.sim.masters:
            if b % 3 != 1:
                self.cut(node, master.name, seconds)
            if b % 3 != 2:
                self.cut(master.name, node, seconds)

    def desk_is_cut_off(self, a: int, b: int) -> None:
        """Requests or replies are lost."""
        name = self.sim.masters[a % 2].name
        self.cut(*(("desk", name) if b % 2 else (name, "desk")), SPELLS[b // 2 % 3])

    def messages_are_late(self, a: int, b: int) -> None:
        """On one way, by more than a lease perhaps."""
        node, master = self.node(a).name, self.sim.masters[b % 2].name
        way = (node, master) if b // 2 % 2 else (master, node)
        self.sim.network.slow[way] = (0.5, 2.0, LEASE_S + 3.0)[b // 4 % 3]
        self.sim.loop.later(SPELLS[b // 16 % 4], self.sim.network.slow.pop, way, None)

    def messages_come_twice(self, a: int, b: int) -> None:
        """Each third of them."""
        self.sim.network.doubled = 0.3
        self.sim.loop.later(SPELLS[b % 4], setattr, self.sim.network, "doubled", 0.0)

    # ── masters, their disk, their clocks ──

    def master(self, a: int) -> MasterMachine:
        """The one that reigns, mostly."""
        reigning = self.sim.reigning()
        return reigning if reigning is not None and a % 4 else self.sim.masters[a // 4 % 2]

    def master_is_killed(self, a: int, b: int) -> None:
        """Its supervisor starts another."""
        self.master(a).kill((0.2, 0.5, 3.0)[b % 3])

    def master_goes_in_order(self, a: int, b: int) -> None:
        """SIGTERM."""
        self.master(a).stop()

    def master_is_stopped(self, a: int, b: int) -> None:
        """For a while, which may be longer than its lead lasts."""
        process = self.master(a).process
        if process is not None and process.runs:
            self.sim.loop.stop_process(process)
            self.sim.loop.later(SPELLS[b % 4], self.sim.loop.continue_process, process)

    def database_is_cut_off(self, a: int, b: int) -> None:
        """From one master."""
        self.cut(self.master(a).name, DATABASE, SPELLS[b % 4])

    def append_fails(self, a: int, b: int) -> None:
        """No room; or it fails, and nobody knows whether it was done."""
        faults = self.sim.row.disk.faults
        faults.append(("full", "full", "failed", "unknown")[a % 4])

    def disk_is_slow(self, a: int, b: int) -> None:
        """For a while."""
        self.sim.loop.slowest_s = (0.05, 0.5)[a % 2]
        self.sim.loop.later(SPELLS[b % 3], setattr, self.sim.loop, "slowest_s", 0.004)

    def checkpoint_is_kept(self, a: int, b: int) -> None:
        """By the master that reigns, if nothing is on its way."""
        master = self.sim.reigning()
        core = master and master.core
        if master and core and core.master.cluster.position == core.master.head.position:
            master.checkpoints.save(core.master.head, core.master.cluster)

    def checkpoint_is_lost(self, a: int, b: int) -> None:
        """One of them, or damaged."""
        for path in sorted((self.sim.folder / "checkpoints").glob("*.checkpoint"))[: 1 + a % 2]:
            if b % 2:
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:-9] + b"corrupted")

    def wall_clock_is_set(self, a: int, b: int) -> None:
        """A year forward or back."""
        machines: list[MasterMachine | NodeMachine] = [*self.sim.masters, *self.sim.nodes]
        machine = machines[a % len(machines)]
        machine.wall_shift_s += self.year_s * (1, -1)[b % 2]

    def backup_is_made(self, a: int, b: int) -> None:
        """As the log is now; of a copy that no master has reigned over there is one already."""
        self.watched.look()
        if self.watched.state.incarnation != self.sim.row.disk.incarnation:
            return
        self.restores += 1
        disk = self.sim.row.disk.copy(f"{self.restores:032x}")
        self.backup = Backup(disk, to_bytes(self.watched.state))

    def backup_is_restored(self, a: int, b: int) -> None:
        """The log is an older one; everybody else knows more."""
        if self.backup is None:
            return
        self.sim.advance(0.1)
        self.watched.look()
        for master in self.sim.masters:
            master.kill(0.5)
        disk, folded = self.backup
        self.backup = None
        self.sim.restore(disk)
        self.watched.replaced(folded)

    # ── projections ──

    def projections_go_on(self, a: int, b: int) -> None:
        """By a few events."""
        for projector in self.sim.projectors:
            projector.step(1 + a % 20)

    def projections_restart(self, a: int, b: int) -> None:
        """Their process is killed and started again; perhaps they begin anew."""
        for projector in self.sim.projectors:
            projector.restart()
            if a % 3 == 0:
                projector.follower.rebuild()


def chosen(rng: Random, weights: dict[str, int], count: int) -> tuple[Step, ...]:
    """So many steps, drawn."""
    names = rng.choices(list(weights), list(weights.values()), k=count)
    return tuple(Step(name, *(rng.randrange(1 << 16) for _ in range(3))) for name in names)
