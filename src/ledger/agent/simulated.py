"""Nodes that run nothing: the real agent and the real protocol, with a clock in place of processes.

A job's length is what its command says, `["sleep", "<seconds>", "exit=<n>"]` (the third word may be
missing); anything else takes no time. The spool lies in memory, so a simulated node that is started
again has lost its memory, as a node with a new disk would have.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from ledger.agent.daemon import Agent
from ledger.agent.lease import boottime
from ledger.agent.local import Identity
from ledger.agent.processes import Ending, Running, Sink
from ledger.agent.spool import Memory
from ledger.agent.transport import Transport
from ledger.wire import Order, SyncReply

INSTANT_S = 0.002
"""Shorter runs are over as they begin: their start and their end are told in one sync."""


def simulated_run(argv: tuple[str, ...]) -> tuple[float, int]:
    """Length in seconds and exit code of a simulated command."""
    seconds, code = 0.0, 0
    with contextlib.suppress(ValueError):
        if len(argv) > 1 and argv[0] == "sleep":
            seconds = max(0.0, float(argv[1]))
        if len(argv) > 2 and argv[2].startswith("exit="):
            code = int(argv[2].removeprefix("exit=")) % 256
    return seconds, code


class SimulatedRun:
    """An attempt that is only a moment at which it will be over."""

    def __init__(self, order: Order, lease_until: float) -> None:
        seconds, self._code = simulated_run(order.argv)
        self.began = boottime()
        self._ends_at = self.began + seconds
        self._limit_at = self.began + order.time_limit_s if order.time_limit_s else None
        self._lease_until = lease_until
        self._stopped = asyncio.Event()

    @property
    def due_at(self) -> float:
        """When it will be over, if nobody interferes."""
        moments = [self._ends_at, self._limit_at, self._lease_until or None]
        return min(m for m in moments if m is not None)

    def stop(self, grace_s: float) -> None:
        """End it; it obeys at once."""
        self._stopped.set()

    def kill(self) -> None:
        """End it."""
        self._stopped.set()

    def extend(self, lease_until: float) -> None:
        """It may run until then."""
        self._lease_until = lease_until

    async def wait(self) -> Ending:
        """When it is over."""
        while (left_s := self.due_at - boottime()) > INSTANT_S and not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._stopped.wait()
        ran_us = int((min(boottime(), self.due_at) - self.began) * 1_000_000)
        if self._stopped.is_set():
            return Ending("stopped", "stopped", signal=15, ran_us=ran_us)
        if self._lease_until and self.due_at == self._lease_until:
            return Ending("node_fail", "lease_expired", signal=9, ran_us=ran_us)
        if self.due_at == self._limit_at:
            return Ending("timeout", "time_limit", signal=15, ran_us=ran_us)
        return Ending("failed" if self._code else "completed", "exit", self._code, ran_us=ran_us)


class SimulatedRunner:
    """A runner without processes."""

    def __init__(self) -> None:
        self.current: SimulatedRun | None = None

    async def start(self, order: Order, sink: Sink, lease_until: float) -> Running:
        """Begin; never refused."""
        self.current = SimulatedRun(order, lease_until)
        return self.current

    async def clear(self) -> int:
        """There is nothing to clear."""
        return 0


class SimulatedAgent(Agent):
    """An agent that knows when its job will be over, and asks for an answer by then.

    So it need never give up a call that is under way, which would cost a connection.
    """

    def __init__(self, identity: Identity, transport: Transport) -> None:
        self._runner = SimulatedRunner()
        super().__init__(identity, transport, Memory(), self._runner, None)

    async def unless_changed(self, call: Coroutine[Any, Any, SyncReply]) -> SyncReply | None:
        """The answer: it comes before there is anything to say."""
        return await call

    def wait_s(self) -> float:
        """Until the job is due, but no longer than any agent would wait."""
        longest_s, current = super().wait_s(), self._runner.current
        if not self.have or current is None:
            return longest_s
        if any(local.phase == "stopping" for local in self.have.values()):
            return 0.001  # it is over in a moment
        return max(0.001, min(longest_s, current.due_at - boottime()))
