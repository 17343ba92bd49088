"""A node: the real agent with its real spool, on a machine whose commands are only moments."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from ledger.agent.daemon import Agent
from ledger.agent.lease import Lease
from ledger.agent.local import Identity
from ledger.agent.processes import Ending, Running, Sink
from ledger.agent.spool import Spool
from ledger.agent.transport import Unreachable, decode, refuse
from ledger.testing.simulation.loop import Process, SimulatedLoop
from ledger.testing.simulation.network import Network, Server
from ledger.testing.simulation.witness import Line, Witness
from ledger.wire import Facts, Order, SyncReply, SyncRequest

KILL_S = 0.8
"""The longest that a killed command may take to be gone: well within the lease's margin."""

FACTS = Facts(cpus=2, image="simulated", kernel="simulated")
_encode = msgspec.json.Encoder().encode


class SpoolDisk:
    """The file of a spool: what was not synced is lost with the power. `full`: no room.

    `reigns`: the incarnations and epochs that its agents have obeyed, in their order, with the last
    reply of each: by what the world saw, not by what the spool says.
    """

    name = "spool"

    def __init__(self) -> None:
        self._data = b""
        self._synced = 0
        self.full = False
        self.reigns: dict[tuple[str, int], bytes] = {}

    @property
    def size(self) -> int:
        """Bytes in it."""
        return len(self._data)

    def read(self) -> bytes:
        """All of it."""
        return self._data

    def append(self, data: bytes, sync: bool) -> None:
        """Add this at its end."""
        if self.full:
            raise OSError("no room for the spool")
        self._data += data
        if sync:
            self._synced = len(self._data)

    def replace(self, data: bytes) -> None:
        """Make this all of it."""
        if self.full:
            raise OSError("no room for the spool")
        self._data, self._synced = data, len(data)

    def keep(self) -> None:
        """Go on behind its last whole line."""
        if not self._data:
            raise OSError("no room for the spool")
        self._data = self._data[: self._data.rfind(b"\n") + 1]
        self._synced = min(self._synced, len(self._data))

    def has_room(self) -> bool:
        """Is there room?"""
        return not self.full

    def lose_power(self, rng: Random) -> None:
        """Of what was not synced, only a part is there afterwards, perhaps half a line."""
        self._data = self._data[: rng.randint(self._synced, len(self._data))]
        self._synced = len(self._data)

    def close(self) -> None:
        """Nothing to let go."""


class Command:
    """A command that runs, with its warden: both live on the machine, not in the agent."""

    def __init__(self, machine: "NodeMachine", order: Order, line: Line, until: float) -> None:
        self._machine, self._order, self.line = machine, order, line
        self._until = until
        self._began = machine.boottime()
        self._gone = asyncio.Event()
        self._ending: Ending | None = None
        if order.time_limit_s < 1_000:
            machine.loop.later(order.time_limit_s, self._over, "timeout", "time_limit", None)
        if order.restartable and machine.wardens:
            self._mind_the_lease()

    @property
    def alive(self) -> bool:
        """Is anything of it left?"""
        return self._ending is None

    def exit(self, code: int) -> None:
        """The command ends by itself."""
        self._over("failed" if code else "completed", "exit", code)

    def stop(self, grace_s: float) -> None:
        """It may obey, or wait to be killed."""
        rng = self._machine.rng
        self._kill_in(rng.uniform(0, 0.4) if rng.random() < 0.7 else grace_s + rng.uniform(0, 0.2))

    def kill(self) -> None:
        """SIGKILL, which takes a moment."""
        self._kill_in(self._machine.rng.uniform(0, KILL_S))

    def _kill_in(self, seconds: float) -> None:
        self._machine.loop.later(seconds, self._over, "stopped", "stopped", None)

    def extend(self, lease_until: float) -> None:
        """It may run until then."""
        self._until = lease_until

    def _mind_the_lease(self) -> None:
        """The warden kills it when the lease is over, whether or not the agent still runs."""
        left = self._until - self._machine.boottime()
        if left > 0:
            self._machine.loop.later(left + 0.01, self._mind_the_lease)
        elif self.alive:
            rng = self._machine.rng
            over = ("node_fail", "lease_expired", None)
            self._machine.loop.later(rng.uniform(0, KILL_S), self._over, *over)

    def _over(self, end: Any, cause: str, code: int | None) -> None:
        if self.alive:
            ran_us = int((self._machine.boottime() - self._began) * 1_000_000)
            used_us = (None, 0, ran_us, 10**15)[self.line.job % 4]
            self._ending = Ending(end, cause, code, ran_us=max(0, ran_us), cpu_us=used_us)
            self._machine.witness.ends(self.line, self._machine.loop.time())
            self._gone.set()

    async def wait(self) -> Ending:
        """When nothing of it is left."""
        await self._gone.wait()
        assert self._ending is not None
        return self._ending


class NodeMachine:
    """A machine with a clock that counts from its last boot, a wall clock that may be wrong, a
    disk for the spool, and an agent that is started again whenever it ends.

    It is the agent's runner and its way to the masters, too. `lifetime` gives a command its length
    (seconds; None: until it is told) and its exit code. `wardens`: they mind the lease as well;
    without them, everything hangs on the agent. `deaf`: the next answer that acknowledges a report
    is lost. `replayed`: the next call is answered by this, which somebody on the way has kept.
    """

    def __init__(
        self,
        name: str,
        loop: SimulatedLoop,
        network: Network,
        servers: list[Server],
        witness: Witness,
        rng: Random,
        lifetime: Callable[[Order], tuple[float | None, int]],
    ) -> None:
        self.name, self.loop, self.rng = name, loop, rng
        self.witness = witness
        self._network, self._servers = network, servers
        self._lifetime = lifetime
        self.server = 0
        self.wall_shift_s = 0.0
        self.wardens = True
        self.boots = self._spools = self._starts = 0
        self._booted_at = 0.0
        self.on = False
        self.disk = SpoolDisk()
        self.process: Process | None = None
        self.agent: Agent | None = None
        self.commands: list[Command] = []
        self.failures: list[str] = []
        self.refused = 0
        self.deaf = False
        self.replayed: bytes | None = None

    # ── the machine ──

    def boottime(self) -> float:
        """Seconds since it was switched on."""
        return self.loop.time() - self._booted_at + 10.0

    def wall_us(self) -> int:
        """What its wall clock says."""
        return int((self.loop.time() + 1_700_000_000 + self.wall_shift_s) * 1_000_000)

    @property
    def boot_id(self) -> str:
        """The name of the time since it was switched on."""
        return f"{self.name}-boot-{self.boots}"

    def switch_on(self) -> None:
        """Boot, and start the agent."""
        self.on = True
        self.boots += 1
        self._booted_at = self.loop.time()
        self.start_agent()

    def switch_off(self, *, in_order: bool) -> None:
        """Everything on it is gone at once; if not `in_order`, what was not synced, too."""
        self.on = False
        self._end_agent()
        for command in self.commands:
            command._over("node_fail", "reboot", None)
        self.commands.clear()
        if not in_order:
            self.disk.lose_power(self.rng)

    def lose_spool(self) -> None:
        """Its disk is replaced by an empty one."""
        self.kill_agent()
        self.disk = SpoolDisk()

    # ── the agent ──

    def start_agent(self) -> None:
        """As its supervisor does, unless it runs."""
        if self.on and (self.process is None or not self.process.alive):
            self._starts += 1
            self.process = Process(f"agent of {self.name}, {self._starts}")
            self.loop.launch(self.process, self._run_agent(self.process))

    async def _run_agent(self, process: Process) -> None:
        try:
            if not self.disk.size:
                self._spools += 1
            spool = Spool(self.disk, self.wall_us, f"{self.name}-spool-{self._spools}")
            identity = Identity(self.name, self.boot_id, "simulated", FACTS)
            lease, rng = Lease(self.boottime), Random(self.rng.random())  # noqa: S311
            self.agent = Agent(identity, self, spool, self, None, lease, rng=rng)
            await self.agent.run()
        except OSError:
            pass  # no room for the spool: the supervisor tries again
        except Exception as error:
            self.failures.append(repr(error))
        self.loop.kill(process)
        self.loop.later(0.5, self.start_agent)

    def kill_agent(self) -> None:
        """SIGKILL; its commands die with it; the supervisor starts another."""
        if self._end_agent():
            for command in self.commands:
                command.kill()
            self.loop.later(self.rng.uniform(0.1, 1.0), self.start_agent)

    def _end_agent(self) -> bool:
        process, self.agent = self.process, None
        if process is None or not process.alive:
            return False
        self.loop.kill(process)
        return True

    def running(self) -> Command | None:
        """The command that runs here, if there is one."""
        return next((command for command in self.commands if command.alive), None)

    # ── the agent's runner ──

    async def start(self, order: Order, sink: Sink, lease_until: float) -> Running:
        """Begin a command."""
        await asyncio.sleep(self.rng.uniform(0.001, 0.05))
        line = self.witness.starts(
            order.job, order.attempt, self.name, self.boot_id, self.loop.time()
        )
        command = Command(self, order, line, lease_until)
        self.commands = [c for c in self.commands if c.alive] + [command]
        seconds, code = self._lifetime(order)
        if seconds is not None:
            self.loop.later(seconds, command.exit, code)
        await asyncio.sleep(self.rng.uniform(0.001, 0.02))  # it runs before its agent knows
        return command

    async def clear(self) -> int:
        """Wait until what an earlier agent left is dead."""
        left = [command for command in self.commands if command.alive]
        for command in left:
            command.kill()
            await command.wait()
        return len(left)

    # ── the agent's way to its master ──

    def turn_to(self, server: Server) -> None:
        """Have the agent call this one next."""
        self.server = self._servers.index(server)

    async def sync(self, request: SyncRequest) -> SyncReply:
        """One call, to the master that answered last, or else to the next one."""
        server, agent = self._servers[self.server], self.agent
        if self.replayed is not None:
            old, self.replayed = self.replayed, None
            return self._noted(agent, old)
        patient_until = self.loop.time() + request.wait_s + 1.0
        what = ("sync", self.name, _encode(request))
        status = 0
        try:
            status, body = await self._network.call(self.name, server, what)
        except asyncio.CancelledError:  # it had something new to say, or its patience is over
            status = 200 if self.loop.time() < patient_until else 0
            raise
        finally:
            if status != 200:
                self.server = (self.server + 1) % len(self._servers)
        if status != 200:
            refuse(status, body, "")
        reply = self._noted(agent, body)
        if self.deaf and reply.acked:
            self.deaf = False
            raise Unreachable("the answer is lost")
        return reply

    def _noted(self, agent: Agent | None, body: bytes) -> SyncReply:
        """I8, I27: what an older epoch says, or an incarnation that was left, changes nothing."""
        reply = decode(body, SyncReply)
        reigns = self.disk.reigns
        reign = (reply.seen.incarnation, reply.seen.epoch)
        if agent is not None:
            if reign in reigns and reign != list(reigns)[-1]:
                self.refused += 1
                self.loop.later(0.0001, self._check_unmoved, agent, agent.lease.until)
            else:
                self.loop.call_later(0.0001, reigns.__setitem__, reign, body)
        return reply

    def _check_unmoved(self, agent: Agent, until: float) -> None:
        same = self.agent is not agent or agent.lease.until == until
        self.witness.demand(same, f"I8: {self.name} obeyed a reign that was over")

    def old_replies(self) -> list[bytes]:
        """The last replies of the reigns that are over, as far as this disk was there then."""
        return list(self.disk.reigns.values())[:-1]

    async def close(self) -> None:
        """There is no connection to let go."""
