"""A log in memory that does what the test says: holds an append back, fails it, counts it."""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from ledger.commands import Enrol, IssueToken, Subject, Submit
from ledger.domain.cluster import fold
from ledger.domain.state import Cluster, Outcome
from ledger.domain.submit import Submitted
from ledger.events import JobSpec, Recorded
from ledger.master.loop import Master
from ledger.store.chain import Head
from ledger.store.log import Draft
from ledger.testing.memory_log import Disk, MemoryLog

NODES = Subject("olga", "operator")


class GatedLog(MemoryLog):
    """While it is `held`, an append waits for `let_go`. `drafts` is all that became durable."""

    def __init__(self) -> None:
        super().__init__(Disk("memory"))
        self.drafts: list[Draft] = []
        self.fails: list[Exception] = []
        self.entered = threading.Semaphore(0)
        self.held = False
        self._permits = threading.Semaphore(0)

    def let_go(self, *, hold: bool = False) -> None:
        """Let one append go on, and with `hold` none after it."""
        self.held = hold
        self._permits.release()

    def append(self, drafts: Sequence[Draft]) -> Head:
        """Keep one commit, once the gate is open, unless a failure is due."""
        self.entered.release()
        if self.held:
            assert self._permits.acquire(timeout=10), "the test never let go"
        if self.fails:
            raise self.fails.pop(0)
        head = super().append(drafts)
        self.drafts += drafts
        return head

    def recorded(self) -> list[Recorded]:
        """Everything that is durable, as readers get it."""
        return list(self.read())

    def fold(self) -> Cluster:
        """The state that the durable events make."""
        return fold(self.read())


class Bench:
    """A master over a memory log, its clock, and why it had to end."""

    def __init__(self, log: GatedLog | None = None) -> None:
        self.log = log or GatedLog()
        self.time = 1_000_000
        self.fatal: list[str] = []
        self.heard: list[Sequence[Recorded]] = []
        self.master = Master(
            self.log,
            self.log.fold(),
            lambda: self.time,
            self.log.fold,
            self.fatal.append,
        )
        self.master.listen(self.heard.append)

    def well(self) -> None:
        """Let the log be tried again at once."""
        assert self.master.trouble is not None
        self.master.trouble.again_at = 0.0


def user(name: str) -> Subject:
    """A user."""
    return Subject(name, "user")


def names(log: GatedLog) -> list[list[str]]:
    """The names of the events, commit by commit."""
    return [[type(fact.event).__name__ for fact in draft.facts] for draft in log.drafts]


def first_job(outcome: Outcome) -> int:
    """The first job of a submission that was accepted."""
    assert isinstance(outcome.reply, Submitted)
    return outcome.reply.first_job


async def turns(n: int = 1) -> None:
    """Let everything else that is ready go on, n times."""
    for _ in range(n):
        await asyncio.sleep(0)


def token(sha256: str, note: str = "") -> IssueToken:
    """A token to be recorded."""
    return IssueToken(
        token=sha256[:1], sha256=sha256, owner="x", role="user", expires_at=0, note=note
    )


T = TypeVar("T")
ALICE = user("alice")
ENROL = Enrol(node="n1", pool="default", token="t1", sha256="1" * 64)  # noqa: S106 - its id


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run an asynchronous test to its end."""

    async def limited() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(limited())


async def begun(bench: Bench) -> "asyncio.Task[None]":
    """The master's loop, with a node that jobs can ask for."""
    task = asyncio.ensure_future(bench.master.run())
    await bench.master.ask_one(NODES, ENROL)
    return task


async def ended(bench: Bench, task: "asyncio.Task[None]") -> None:
    """Let the loop come to its end."""
    bench.master.close()
    await task


async def entered(bench: Bench) -> None:
    """Wait until an append has begun."""
    assert await asyncio.to_thread(bench.log.entered.acquire, timeout=10)


async def outcome_of(asked: Awaitable[T]) -> T | BaseException:
    """The answer, or what was raised."""
    return (await asyncio.gather(asked, return_exceptions=True))[0]


def one() -> Submit:
    """A submission of one job."""
    return Submit(specs=(JobSpec(nodes=1),))
