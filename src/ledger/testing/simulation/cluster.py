"""The whole of it: two machines for masters, some nodes, clients, a network, a database's disk, and
projections. Everything that is drawn is drawn from one seed."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import structlog

from ledger.commands import Command, Enrol, SetPolicy, Subject
from ledger.projection.follower import Follower
from ledger.projection.model import Projection
from ledger.projection.source import Batch, batch
from ledger.projection.store import Store
from ledger.testing.memory_log import Disk, MemoryLog
from ledger.testing.simulation.client import Asked, Desk
from ledger.testing.simulation.loop import SimulatedLoop
from ledger.testing.simulation.master import MasterMachine, Row
from ledger.testing.simulation.network import Network
from ledger.testing.simulation.node import FACTS, NodeMachine
from ledger.testing.simulation.witness import Violation, Witness
from ledger.wire import Order

OPERATOR = Subject("olga", "operator")
LEASE_S, MARGIN_S, LOST_AFTER_S = 6, 2, 40
RULES_OF_USE = {
    "abuse_submissions_per_min": 3,
    "abuse_fail_percent": 20,
    "abuse_fail_jobs": 4,
    "abuse_idle_node_s": 5,
    "abuse_idle_percent": 50,
}
"""A policy's rules of use, such as are broken now and then."""
WINDOW_S, ABSENCE_S = 2, 3
RACKS = {"n1": "r1", "n2": "r1"}
"""Where the first nodes stand; the others stand alone."""


class Projector:
    """A projection that follows the log into a database of its own, some events at a time."""

    def __init__(self, projection: Projection, folder: Path, log: MemoryLog) -> None:
        self.projection, self._folder, self._log = projection, folder, log
        self.follower = self._opened()

    def _opened(self) -> Follower:
        self._store = Store(self.projection, self._folder, None)
        return Follower(self.projection, self._store, self._log)

    def step(self, size: int) -> bool:
        """Take in so many events; whether there were any."""
        return self.follower.step(lambda after: self._batch(after, size))

    def _batch(self, after: int, size: int) -> Batch | None:
        return batch(self._log, after, size)

    def restart(self, log: MemoryLog | None = None) -> None:
        """Its process is killed and started again; the log may be another by then."""
        self._store.close()
        self._log = log or self._log
        self.follower = self._opened()

    def dump(self) -> bytes:
        """The canonical bytes of its tables."""
        return self._store.dump()[1]

    def query(self, function: Callable[..., Any], **asked: Any) -> Any:
        """What one of its queries answers."""
        with self._store._engine.begin() as connection:
            return function(connection, **asked)

    def close(self) -> None:
        """Let go of its database."""
        self._store.close()


class Simulation:
    """A cluster under a seed. `file_lock`: the masters' lead goes with the process that holds it,
    instead of lasting some seconds. `shift_s`: all wall clocks are off by so much. `wardens`: who
    kills commands when the lease is over, the agent alone or their wardens as well.

    Use it as a context: what it leaves is unwound at the end.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 3,
        file_lock: bool = False,
        projections: tuple[Projection, ...] = (),
        shift_s: float = 0.0,
        wardens: bool = True,
    ) -> None:
        def rng(what: str) -> Random:
            return Random(f"{seed} {what}")  # noqa: S311 - to be drawn again

        self._exit = contextlib.ExitStack()
        memory = Path("/dev/shm")  # noqa: S108 - nothing here need outlive the process
        folder = memory if memory.is_dir() else None
        self.folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        self.loop = SimulatedLoop(rng("disk"))  # type: ignore[abstract]
        self.network = Network(self.loop, rng("network"))
        self.witness = Witness()
        self.row = Row(Disk(f"{seed:032x}"), file=file_lock)
        self.masters = [
            MasterMachine(name, self.loop, self.network, self.row, self.folder / "checkpoints")
            for name in ("m1", "m2")
        ]
        self.nodes = [
            NodeMachine(
                f"n{i}",
                self.loop,
                self.network,
                list(self.masters),
                self.witness,
                rng(f"n{i}"),
                self.lifetime,
            )
            for i in range(1, nodes + 1)
        ]
        for master in self.masters:
            master.wall_shift_s = shift_s
        for node in self.nodes:
            node.wall_shift_s, node.wardens = shift_s, wardens
        self.desk = Desk(self.loop, self.network, list(self.masters))
        self.calm = False
        self.projectors = [Projector(p, self.folder, self.log()) for p in projections]

    def __enter__(self) -> "Simulation":
        self._exit.enter_context(silence())
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.bury()
        for projector in self.projectors:
            projector.close()
        self._exit.close()

    def begin(self, rules_of_use: Mapping[str, int] = RULES_OF_USE) -> None:
        """The first master reigns, the nodes join, the agents report."""
        for master in self.masters:
            master.start()
        self.advance(0.5)
        policy = SetPolicy(
            job_lease_s=LEASE_S,
            lease_margin_s=MARGIN_S,
            lost_after_s=LOST_AFTER_S,
            kill_grace_s=1,
            **rules_of_use,
            outage_window_s=WINDOW_S,
            absence_s=ABSENCE_S,
            notice_delay_s=1,
        )
        self.ask(OPERATOR, policy)
        for node in self.nodes:
            name = node.name
            enrol = Enrol(
                node=name,
                pool="default",
                rack=RACKS.get(name, ""),
                cpus=FACTS.cpus,
                token=name,
                sha256=name * 32,
            )
            self.ask(OPERATOR, enrol)
        self.advance(0.2)
        for node in self.nodes:
            node.switch_on()
        self.advance(0.5)

    # ── what a test may do and see ──

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises `Violation` where the witness saw what may not be."""
        self.loop.advance(seconds)
        if self.witness.violations:
            raise Violation("; ".join(self.witness.violations))

    def ask(self, subject: Subject, command: Command, *, tries: int = 10) -> Asked:
        """Have a client ask for something, again and again until it is answered."""
        return self.desk.ask(subject, command, tries)

    def log(self) -> MemoryLog:
        """The log as a reader has it."""
        return MemoryLog(self.row.disk, write=False)

    def reigning(self) -> MasterMachine | None:
        """The machine whose master leads and runs."""
        for master in self.masters:
            if master.reigns and master.process is self.row.holder:
                return master
        return None

    def lifetime(self, order: Order) -> tuple[float | None, int]:
        """How long a command runs, and how it exits: its job's name says so (`2.5 1`)."""
        seconds, _, code = order.name.partition(" ")
        if self.calm:
            return min(float(seconds or 0.4), 0.4), int(code or 0)
        return (float(seconds) if seconds else None), int(code or 0)

    def restore(self, disk: Disk) -> None:
        """Put another disk in place of the database's: every master must be gone."""
        assert not any(m.process and m.process.alive for m in self.masters)
        self.row.disk, self.row.holder = disk, None
        for projector in self.projectors:
            projector.restart(self.log())

    def heal(self) -> None:
        """All faults stop, and every command that runs ends soon."""
        self.calm = True
        self.network.cut.clear()
        self.network.slow.clear()
        self.network.doubled = 0.0
        self.loop.slowest_s = 0.004
        self.row.disk.faults.clear()
        for master in self.masters:
            if master.deluded:
                master.kill()
            if master.process is not None:
                self.loop.continue_process(master.process)
            master.start()
        for node in self.nodes:
            node.disk.full = False
            if node.process is not None:
                self.loop.continue_process(node.process)
            if not node.on:
                node.switch_on()
            if (command := node.running()) is not None:
                self.loop.later(0.4, command.exit, 0)


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """What master and agents would log goes nowhere meanwhile."""
    before = structlog.get_config()
    loudest = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=loudest, processors=[_drop])
    try:
        yield
    finally:
        structlog.configure(**before)
