"""A node under test: the real agent between a fake master, fake processes and a clock to move."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ledger.agent.daemon import Agent
from ledger.agent.lease import Lease
from ledger.agent.local import Identity
from ledger.agent.output import Uploads
from ledger.agent.processes import Ending, Refused, Running, Sink
from ledger.agent.spool import Memory
from ledger.wire import Facts, Order, Report

from .agent_support import soon
from .fake_master import FakeMaster


class FakeRun:
    """A process that ends when the test says so; a stop or kill ends it too, unless it is deaf."""

    def __init__(self, what: Order, sink: Sink, lease_until: float) -> None:
        self.order, self.sink, self.lease_until = what, sink, lease_until
        self.graces: list[float] = []
        self.deaf = False
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def stop(self, grace_s: float) -> None:
        self.graces.append(grace_s)
        if not self.deaf:
            self.finish(Ending("stopped", "stopped", signal=15))

    def kill(self) -> None:
        self.stop(0)

    def extend(self, lease_until: float) -> None:
        self.lease_until = lease_until

    def finish(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    async def wait(self) -> Ending:
        return await self._ending


class FakeRunner:
    """Counts what was started."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []
        self.refusal: Refused | None = None
        self.cleared = 0

    async def start(self, what: Order, sink: Sink, lease_until: float) -> Running:
        if self.refusal is not None:
            raise self.refusal
        self.runs.append(FakeRun(what, sink, lease_until))
        return self.runs[-1]

    async def clear(self) -> int:
        self.cleared += 1
        return 0

    def started(self) -> list[tuple[int, int]]:
        return [(r.order.job, r.order.attempt) for r in self.runs]


@dataclass
class Clock:
    """A boot-time clock that the test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@dataclass
class Node:
    """A node under test: the real agent between a fake master and fake processes."""

    master: FakeMaster = field(default_factory=FakeMaster)
    runner: FakeRunner = field(default_factory=FakeRunner)
    spool: Memory = field(default_factory=Memory)
    clock: Clock = field(default_factory=Clock)
    uploads: Uploads | None = None

    def agent(self) -> Agent:
        identity = Identity("n1", "boot-1", "test", Facts(cpus=4))
        return Agent(
            identity,
            self.master,
            self.spool,
            self.runner,
            self.uploads,
            Lease(self.clock),
            wait_s=5.0,
            tick_s=0.01,
        )

    async def lease_looked_at(self) -> None:
        """Until the agent has read its clock often enough to have noticed anything."""
        seen = self.clock.now
        await soon(lambda: self.clock.now > seen + 20e-6)

    async def ended(self, job: int = 17) -> Report:
        report: Report = await soon(lambda: self.master.ended(job))
        return report


def with_agent(story: Callable[[Node], Awaitable[None]], **parts: Any) -> None:
    """Tell a story to a running agent."""

    async def main() -> None:
        node = Node(**parts)
        agent = asyncio.create_task(node.agent().run())
        try:
            telling = asyncio.ensure_future(story(node))
            await asyncio.wait({agent, telling}, return_when=asyncio.FIRST_COMPLETED)
            if agent.done():
                telling.cancel()
                agent.result()
            telling.result()
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)

    asyncio.run(main())


EXIT_0 = Ending("completed", "exit", 0, ran_us=5)
