"""A machine that runs a master whenever it can get the lead: the real parts, wired as in a real
process, over a log in memory."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ledger.commands import Command, Subject
from ledger.domain.errors import ClockSuspect, Refusal
from ledger.domain.state import Cluster
from ledger.events import Via
from ledger.master.clock import Clock
from ledger.master.core import Core
from ledger.master.reader import LogReader
from ledger.master.recovery import Checkpoints, recover
from ledger.testing.memory_log import Disk, MemoryLog
from ledger.testing.simulation.loop import Process, SimulatedLoop
from ledger.testing.simulation.network import Answer, Network
from ledger.wire import SyncRequest

DATABASE = "database"
LEAD_S = 4.0
"""How long the lead lasts that nobody renews."""

_encode = msgspec.json.Encoder().encode
_decode_sync = msgspec.json.Decoder(SyncRequest).decode


class Acknowledged(msgspec.Struct, frozen=True):
    """A 2xx answer: what was replied, and the head of the log that it was true of."""

    reply: Any
    incarnation: str
    epoch: int
    position: int
    hash: str


class Row:
    """Who leads: as the row `leader` in a database, or as the lock on a file that goes with the
    process that holds it. `kept` is the log's disk, which a restore puts another in place of.
    `marked` is when who leads was last seen."""

    def __init__(self, disk: Disk, *, file: bool) -> None:
        self.disk, self.file = disk, file
        self.holder: Process | None = None
        self.renewed = 0.0
        self.marked: float | None = None


class Lead:
    """One process's part in who leads. `file`: until it ends; else as long as it is renewed, by a
    clock that goes on while the process is stopped."""

    def __init__(
        self,
        row: Row,
        process: Process,
        loop: SimulatedLoop,
        reachable: Callable[[], bool],
    ) -> None:
        self._row, self._process, self._loop = row, process, loop
        self._reachable = reachable
        self._renewed = 0.0
        self._before: float | None = None

    async def acquire(self) -> None:
        """Wait until nobody leads, and take it."""
        while not self._try():  # noqa: ASYNC110 - as a real one looks at the row
            await asyncio.sleep(LEAD_S / 20)

    def _try(self) -> bool:
        row, now = self._row, self._loop.time()
        if not self._reachable():
            return False
        if row.file:
            free = row.holder is None or not row.holder.alive
        else:
            free = row.holder is None or now - row.renewed > LEAD_S
        if free:
            row.holder, row.renewed, self._renewed = self._process, now, now
            self._before = row.marked
        return free

    def away_us(self) -> int | None:
        """How long no master was seen before this one."""
        return None if self._before is None else round((self._loop.time() - self._before) * 1e6)

    async def renew(self) -> str:
        """Renew it until it is lost; why it is."""
        self._row.marked = self._loop.time()
        while True:
            await asyncio.sleep(LEAD_S / 4)
            now = self._loop.time()
            if self._row.file:
                self._row.marked = now
                continue
            if self._reachable() and now - self._renewed <= LEAD_S / 2:
                if self._row.holder is not self._process:
                    return "another master has taken over"
                self._row.renewed = self._row.marked = self._renewed = now
            elif now - self._renewed > LEAD_S / 2:
                return "the lead was not renewed"

    def fresh(self) -> bool:
        """May it still speak for the log?"""
        if self._row.file:
            return True
        return self._loop.time() - self._renewed <= LEAD_S / 2


class MasterMachine:
    """`checkpoints`: a folder. `deluded`: it believes for ever that it leads. `trusting`: it is
    always started with `--accept-clock`. `heard`: when each machine called it last."""

    def __init__(
        self, name: str, loop: SimulatedLoop, network: Network, row: Row, checkpoints: Path
    ) -> None:
        self.name, self.loop = name, loop
        self._network, self._row, self.checkpoints = network, row, Checkpoints(checkpoints)
        self.wall_shift_s = 0.0
        self.accept_clock = self.trusting = False
        self.process: Process | None = None
        self.core: Core | None = None
        self.deluded = False
        self._told_to_stop = asyncio.Event()
        self._starts = 0
        self.reigns_since = 0.0
        self.deaths: list[str] = []
        self.suspected = 0
        self.refused: Counter[str] = Counter()
        self.heard: dict[str, float] = {}

    @property
    def reigns(self) -> bool:
        """Does a process here lead, as far as it knows, and run?"""
        return self.core is not None and self.process is not None and self.process.runs

    def wall_ns(self) -> int:
        """What the machine's wall clock says."""
        return int((self.loop.time() + 1_700_000_000 + self.wall_shift_s) * 1e9)

    def steady_ns(self) -> int:
        """A clock that is never set."""
        return int(self.loop.time() * 1e9)

    def start(self) -> None:
        """As its supervisor does, unless it runs."""
        if self.process is None or not self.process.alive:
            self._starts += 1
            self.process = Process(f"master on {self.name}, {self._starts}")
            self._told_to_stop = asyncio.Event()
            self.loop.launch(self.process, self._run(self.process))

    def kill(self, again_in_s: float = 0.5) -> None:
        """SIGKILL; the supervisor starts another."""
        if self.process is not None and self.process.alive:
            self.loop.kill(self.process)
            self.core, self.deluded = None, False
        self.loop.later(again_in_s, self.start)

    def stop(self) -> None:
        """SIGTERM: it goes in order, and the supervisor starts another."""
        self._told_to_stop.set()

    async def _run(self, process: Process) -> None:
        try:
            await self._reign(process)
        except ClockSuspect:
            self.suspected += 1
            self.accept_clock = True  # the operator has looked at the clock
        except Exception as error:
            self.deaths.append(repr(error))
        if process.alive:
            self.loop.later(0, self.kill)

    async def _reign(self, process: Process) -> None:
        accept = self.accept_clock or self.trusting

        def reachable() -> bool:
            return self._network.connected(self.name, DATABASE)

        lead = Lead(self._row, process, self.loop, reachable)
        await lead.acquire()
        disk = self._row.disk
        log = MemoryLog(disk, reachable=reachable)
        now = Clock(
            log.head().at,
            accept=accept,
            wall_ns=self.wall_ns,
            steady_ns=self.steady_ns,
        ).now

        def refold() -> Cluster:
            return recover(MemoryLog(disk, write=False), self.checkpoints.folder).cluster

        def die(reason: str) -> None:
            self.deaths.append(reason)
            self.loop.later(0.3, self._kill_if, process)

        recovered = await self.loop.run_in_executor(
            None, recover, log, self.checkpoints.folder, None, self.steady_ns
        )
        reader = LogReader(lambda: MemoryLog(disk, write=False))
        core = Core(log, recovered, now, refold, die, reader, lambda: lead.fresh() or self.deluded)
        renewing = asyncio.ensure_future(lead.renew())
        workers = await core.begin(accept_clock=accept, away_us=lead.away_us())
        self.core, self.accept_clock = core, False
        self.reigns_since = self.loop.time()
        stopping = asyncio.ensure_future(self._told_to_stop.wait())
        await asyncio.wait([renewing, stopping, *workers], return_when=asyncio.FIRST_COMPLETED)
        if renewing.done():
            if not self.deluded:
                die(renewing.result())
            await asyncio.Event().wait()
        cluster = None if core.master.failed else await core.end(workers)
        if cluster is not None:
            self.checkpoints.save(core.master.head, cluster)
        if self._row.holder is process:
            self._row.holder = None

    def _kill_if(self, process: Process) -> None:
        if self.process is process:
            self.kill()

    # ── what the API does ──

    async def serve(self, source: str, what: Any) -> Answer:
        """A sync of an agent, or commands of a subject; the status tells how it went."""
        core = self.core
        self.heard[source] = self.loop.time()
        if core is None:
            return 503, b'{"code": "not_ready", "detail": "no master reigns here"}'
        try:
            if what[0] == "sync":
                return 200, await self._sync(core, what[1], what[2])
            return 200, await self._ask(core, *what[1:])
        except Refusal as refusal:
            self.refused[refusal.code] += 1
            if what[0] == "sync":
                problem = {"code": refusal.code, "detail": refusal.sentence}
                return refusal.status, _encode(problem)
            return refusal.status, refusal

    async def _sync(self, core: Core, node: str, body: bytes) -> bytes:
        who = Subject(node, "node")
        reply = await core.contacts.sync(who, node, _decode_sync(body), Via(), f"sync-{node}")
        return _encode(reply)

    async def _ask(
        self, core: Core, subject: Subject, command: Command, request: str
    ) -> Acknowledged:
        reply = (await core.master.ask_one(subject, command, request=request)).reply
        head = core.master.head
        incarnation = core.master.log.incarnation
        return Acknowledged(reply, incarnation, head.epoch, head.position, head.hash)
