"""Orders are brought about: what is begun, what never is, what is stopped, held and told."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ledger.agent.daemon import Agent
from ledger.agent.lease import Lease
from ledger.agent.local import Identity
from ledger.agent.output import Kept, Uploads
from ledger.agent.processes import Ending, Refused, Running, Sink
from ledger.agent.spool import Memory
from ledger.wire import Facts, Order, Report, Seen

from .agent_support import order, soon
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


def test_an_order_is_begun_told_and_ended() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x"))
        await soon(lambda: n.master.has() == {(17, 1): "running"})
        await soon(lambda: [r.kind for r in n.master.reports] == ["started"])
        n.runner.runs[0].finish(EXIT_0)
        report = await n.ended()
        assert (report.end, report.cause, report.exit_code) == ("completed", "exit", 0)
        assert (report.seq, report.ran_us) == (2, 5)
        await soon(lambda: n.master.has() == {})
        assert n.runner.started() == [(17, 1)]
        assert n.master.requests[-1].seen == n.master.seen
        sent = [r.sent_ns for r in n.master.requests]
        assert sent == sorted(set(sent))

    with_agent(story)


def test_a_repeated_order_is_never_begun_again() -> None:
    async def story(n: Node) -> None:
        n.master.acks = False
        n.master.give(order("x"))
        (await soon(lambda: n.runner.runs))[0].finish(EXIT_0)
        await n.ended()
        asked = len(n.master.requests)
        await soon(lambda: len(n.master.requests) > asked + 3)
        assert n.master.requests[-1].reports[-1].kind == "ended"
        n.master.acks = True
        await soon(lambda: not n.master.requests[-1].reports)
        n.master.give(order("x"))  # as after a restore: the master has lost the report
        asked = len(n.master.requests)
        await soon(
            lambda: any(r.kind == "ended" for q in n.master.requests[asked:] for r in q.reports)
        )
        assert n.runner.started() == [(17, 1)]

    with_agent(story)


def test_nothing_spins_on_an_order_that_asks_for_nothing() -> None:
    async def story(n: Node) -> None:
        n.master.acks = False
        n.master.give(order("x", nodes=("n2",)))  # not for us, and yet it is sent
        await soon(lambda: len(n.master.requests) > 3)
        asked, until = len(n.master.requests), asyncio.get_running_loop().time() + 1
        await soon(lambda: asyncio.get_running_loop().time() > until)
        assert len(n.master.requests) - asked < 15

    with_agent(story)


def test_the_attempt_is_in_the_spool_before_its_process_exists() -> None:
    class Watching(FakeRunner):
        async def start(self, what: Order, sink: Sink, lease_until: float) -> Running:
            assert spool.begun[17, 1].user == what.user
            assert spool.begun[17, 1].boot_id == "boot-1"
            return await super().start(what, sink, lease_until)

    spool = Memory()

    async def story(n: Node) -> None:
        n.master.give(order("x"))
        await soon(lambda: n.runner.runs)

    with_agent(story, runner=Watching(), spool=spool)


def test_a_refused_start_is_an_end() -> None:
    async def story(n: Node) -> None:
        n.runner.refusal = Refused("no_such_account", "this node has no account x")
        n.master.give(order("x"))
        report = await n.ended()
        assert (report.end, report.cause) == ("failed", "no_such_account")
        assert report.detail == "this node has no account x"
        assert [r.kind for r in n.master.reports] == ["ended"]

    with_agent(story)


def test_a_stop_gives_grace_and_is_told() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x"))
        deaf = (await soon(lambda: n.runner.runs))[0]
        deaf.deaf = True
        n.master.give(order("x", stop="cancelled", kill_grace_s=7))
        await soon(lambda: n.master.has() == {(17, 1): "stopping"})
        assert deaf.graces == [7]
        deaf.finish(Ending("stopped", "stopped", signal=9))
        assert (await n.ended()).cause == "stopped"

    with_agent(story)


def test_a_stop_of_what_was_never_begun_is_told_without_starting_it() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x", stop="cancelled"))
        report = await n.ended()
        assert (report.end, report.cause, n.runner.runs) == ("stopped", "stopped", [])
        n.master.give(order("x"))
        await soon(lambda: len(n.master.reports) == 1 and not n.master.orders)
        assert n.runner.runs == []

    with_agent(story)


def test_a_stop_of_a_hold_is_told() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x", go=False))
        await soon(lambda: n.master.has() == {(17, 1): "held"})
        n.master.give(order("x", go=False, stop="cancelled"))
        assert (await n.ended()).cause == "stopped"
        await soon(lambda: n.master.has() == {})

    with_agent(story)


def test_what_is_not_listed_is_killed_and_not_told() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x"))
        await soon(lambda: len(n.master.reports) == 1)
        n.master.give()
        await soon(lambda: n.master.has() == {})
        assert n.runner.runs[0].graces == [0]
        assert n.spool.forgot((17, 1))
        assert n.master.ended() is None
        n.master.give(order("x"))  # listed again: it is over, and that is all there is to say
        assert (await n.ended()).end == "node_fail"
        assert len(n.runner.runs) == 1

    with_agent(story)


def test_the_leader_waits_for_go_and_others_only_hold() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x", nodes=("n1", "n2"), go=False))
        await soon(lambda: n.master.has() == {(17, 1): "held"})
        assert n.runner.runs == []
        n.master.give(order("x", nodes=("n1", "n2")))
        (await soon(lambda: n.runner.runs))[0].finish(EXIT_0)
        await n.ended()
        n.master.give(order("x", job=18, nodes=("n2", "n1")))
        await soon(lambda: n.master.has() == {(18, 1): "held"})
        n.master.give()
        await soon(lambda: n.master.has() == {})
        assert n.runner.started() == [(17, 1)]
        assert not n.spool.knows((18, 1))

    with_agent(story)


def test_one_job_at_a_time() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x"))
        first = (await soon(lambda: n.runner.runs))[0]
        first.deaf = True
        n.master.give(order("x", stop="cancelled"), order("y", job=18))
        await soon(lambda: n.master.has() == {(17, 1): "stopping"})
        asked = len(n.master.requests)
        await soon(lambda: len(n.master.requests) > asked + 2)
        assert n.runner.started() == [(17, 1)]
        first.finish(Ending("stopped", "stopped", signal=9))
        await soon(lambda: n.runner.started() == [(17, 1), (18, 1)])

    with_agent(story)


def test_an_older_epoch_is_not_obeyed() -> None:
    async def story(n: Node) -> None:
        n.master.seen = Seen(incarnation="i1", epoch=5, position=50, hash="bb")
        n.master.give(order("x"))
        await soon(lambda: n.runner.runs)
        until = n.runner.runs[0].lease_until
        n.master.seen = Seen(incarnation="i1", epoch=4, position=90, hash="cc")
        n.clock.now += 50
        n.master.give(order("y", job=18))
        asked = len(n.master.requests)
        await soon(lambda: len(n.master.requests) > asked + 2)
        assert n.runner.runs[0].graces == []
        assert n.runner.runs[0].lease_until == until  # nor does it renew the lease
        assert n.spool.seen.epoch == 5
        n.master.seen = Seen(incarnation="i2", epoch=1, position=9, hash="dd")
        n.master.give()
        await soon(lambda: n.runner.runs[0].graces)
        assert n.spool.seen.incarnation == "i2"

    with_agent(story)


# ── the lease ──


def test_the_lease_kills_restartable_attempts_only() -> None:
    async def story(n: Node, restartable: bool) -> None:
        n.master.give(order("x", restartable=restartable))
        await soon(lambda: len(n.master.reports) == 1)
        n.master.away = True
        n.clock.now += 299
        await n.lease_looked_at()
        assert n.runner.runs[0].graces == []
        n.clock.now += 10
        if not restartable:
            await n.lease_looked_at()
            assert n.runner.runs[0].graces == []
            assert n.runner.runs[0].lease_until == 0.0
            return
        await soon(lambda: n.runner.runs[0].graces == [0])
        await soon(lambda: (17, 1) in n.spool.ended)
        n.master.away = False
        report = await n.ended()
        assert (report.end, report.cause) == ("node_fail", "lease_expired")

    with_agent(lambda n: story(n, True))
    with_agent(lambda n: story(n, False))


def test_after_a_suspend_it_kills_before_it_speaks() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x"))
        await soon(lambda: len(n.master.reports) == 1)
        run, asked = n.runner.runs[0], len(n.master.requests)
        spoken_at_kill: list[int] = []
        kill = run.kill
        run.kill = lambda: (spoken_at_kill.append(len(n.master.requests)), kill())[1]  # type: ignore[method-assign]
        n.clock.now += 3600
        assert (await n.ended()).cause == "lease_expired"
        assert spoken_at_kill[0] == asked

    with_agent(story)


def test_the_lease_counts_from_the_sending() -> None:
    clock = Clock()
    lease = Lease(clock)
    assert not lease.expired
    assert lease.left_s == float("inf")
    lease.renew(sent_at=900.0, lease_s=110)
    assert 9.9 < lease.left_s < 10
    clock.now = 1009.9
    assert not lease.expired
    clock.now = 1010.0
    assert lease.expired
    lease.renew(sent_at=1005.0, lease_s=10)
    assert not lease.expired


def test_a_hold_is_dropped_with_the_lease() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x", nodes=("n2", "n1"), go=False))
        await soon(lambda: n.master.has() == {(17, 1): "held"})
        n.clock.now += 3600
        assert (await n.ended()).cause == "hold_dropped"

    with_agent(story)


# ── restarts and failures ──


def test_what_was_begun_is_reported_lost_and_never_begun_again() -> None:
    spool = Memory()
    spool.begin(order("x"), "boot-0")
    spool.report(Report(seq=0, kind="started", job=17, attempt=1))

    async def story(n: Node) -> None:
        n.master.acks = False
        n.master.give(order("x"))
        report = await n.ended()
        assert (report.end, report.cause, report.seq) == ("node_fail", "agent_restarted", 2)
        assert report.detail == "the machine was started anew"
        first = n.master.requests[0]
        told = [(r.job, r.attempt) for r in first.reports if r.kind == "ended"]
        assert told or [(h.job, h.phase) for h in first.has] == [(17, "stopping")]
        assert n.runner.cleared == 1
        asked = len(n.master.requests)
        await soon(lambda: len(n.master.requests) > asked + 2)
        assert n.runner.runs == []

    with_agent(story, spool=spool)


def test_it_tries_for_ever_and_says_all_when_the_master_is_back() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x", restartable=False))
        await soon(lambda: len(n.master.reports) == 1)
        n.master.away = True
        n.runner.runs[0].finish(EXIT_0)
        await soon(lambda: (17, 1) in n.spool.ended)
        n.master.away = False
        assert (await n.ended()).end == "completed"

    with_agent(story)


def test_a_full_disk_begins_nothing_and_loses_no_end() -> None:
    class Full(Memory):
        full = True

        def _write(self, record: Any, sync: bool) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super()._write(record, sync)

        def see(self, seen: Seen) -> None:
            if not self.full:
                super().see(seen)

    spool = Full()

    async def story(n: Node) -> None:
        n.master.give(order("x"))
        await soon(lambda: len(n.master.requests) > 3)
        assert n.runner.runs == []
        spool.full = False
        await soon(lambda: len(n.master.reports) == 1)
        spool.full = True
        n.runner.runs[0].finish(EXIT_0)
        await soon(lambda: n.master.has() == {(17, 1): "stopping"} or n.master.has())
        spool.full = False
        assert (await n.ended()).end == "completed"

    with_agent(story, spool=spool)


# ── output ──


def test_output_is_there_before_the_end_is_told(tmp_path: Path) -> None:
    async def story(n: Node) -> None:
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.give(order("x", output_head_bytes=10, output_tail_bytes=5))
        run = (await soon(lambda: n.runner.runs))[0]
        run.sink(b"0123")
        await soon(lambda: n.master.output.get((17, 1)) == b"0123")  # as it comes
        run.sink(b"456789abcdefghijklmnop")
        run.finish(EXIT_0)
        report = await n.ended()
        kept = b"0123456789\n[jobledger: 11 bytes left out]\nlmnop"
        assert n.master.output[17, 1] == kept
        assert report.output is not None
        assert (report.output.bytes, report.output.kept) == (26, len(kept))
        assert report.output.sha256 == hashlib.sha256(kept).hexdigest()
        await soon(lambda: list((tmp_path / "output").iterdir()) == [])
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)

    asyncio.run(story(Node()))


@pytest.mark.parametrize("written", [0, 1, 10, 15, 16, 5000, 600_000])
def test_head_and_tail_are_kept_to_the_byte(tmp_path: Path, written: int) -> None:
    async def main() -> None:
        data = bytes(i % 251 for i in range(written))
        kept = Kept(tmp_path / "17.1", 10, 5)
        for at in range(0, written, 70_001):
            kept.write(data[at : at + 70_001])
        output = kept.close()
        found = (tmp_path / "17.1").read_bytes()
        if written <= 15:
            assert found == data
        else:
            gone = f"\n[jobledger: {written - 15} bytes left out]\n".encode()
            assert found == data[:10] + gone + data[-5:]
        assert (output.bytes if output else 0) == written

    asyncio.run(main())


def test_output_that_can_not_be_delivered_holds_no_report_back_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.agent.daemon.UPLOAD_PATIENCE_S", 0.2)

    async def story(n: Node) -> None:
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.no_output = True
        n.master.give(order("x"))
        run = (await soon(lambda: n.runner.runs))[0]
        run.sink(b"late but whole")
        run.finish(EXIT_0)
        report = await n.ended()
        assert report.output is not None
        assert n.master.output == {}
        agent.cancel()  # the next agent goes on trying
        await asyncio.gather(agent, return_exceptions=True)
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.no_output = False
        await soon(lambda: n.master.output.get((17, 1)) == b"late but whole")
        await soon(lambda: list((tmp_path / "output").iterdir()) == [])
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)

    asyncio.run(story(Node()))


def test_refused_output_is_dropped(tmp_path: Path) -> None:
    async def story(n: Node) -> None:
        n.uploads = Uploads(tmp_path / "output", n.master.upload)
        agent = asyncio.create_task(n.agent().run())
        n.master.give(order("x", job=666))
        run = (await soon(lambda: n.runner.runs))[0]
        run.sink(b"nobody wants it")
        run.finish(EXIT_0)
        assert (await n.ended(666)).end == "completed"
        await soon(lambda: list((tmp_path / "output").iterdir()) == [])
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)

    asyncio.run(story(Node()))
