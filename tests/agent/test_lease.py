"""The lease, restarts, a master that is away, a full disk: what an agent does when things fail."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.agent.lease import Lease
from ledger.agent.spool import Memory, Spool
from ledger.wire import Report, Seen, SyncReply, SyncRequest

from .agent_support import order, soon
from .fake_master import FakeMaster
from .fake_node import EXIT_0, Clock, Node, with_agent


@pytest.mark.fault("F2")
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


def test_when_the_lease_is_over_there_is_no_grace() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x", kill_grace_s=5))
        await soon(lambda: len(n.master.reports) == 1)
        n.clock.now += 310
        graces = await soon(lambda: n.runner.runs[0].graces)
        assert graces[0] == 0

    with_agent(story)


def test_it_goes_when_told_while_it_gives_up_a_call() -> None:
    class Slow(FakeMaster):
        """Takes its time to hang up."""

        line = asyncio.Event()
        hanging_up, gone = False, False

        async def sync(self, request: SyncRequest) -> SyncReply:
            try:
                return await super().sync(request)
            except asyncio.CancelledError:
                self.hanging_up = True
                await self.line.wait()
                self.gone = True
                raise

    async def main() -> None:
        master = Slow()
        node = Node(master=master)
        agent = asyncio.create_task(node.agent().run())
        master.give(order("x"))
        await soon(lambda: node.runner.runs and len(master.reports) == 1)
        node.runner.runs[0].finish(EXIT_0)
        await soon(lambda: master.hanging_up)
        assert not master.gone
        agent.cancel()
        asyncio.get_running_loop().call_later(0.05, master.line.set)
        done, _ = await asyncio.wait({agent}, timeout=20)
        assert done, "it goes on as if nothing had been said"

    asyncio.run(main())


@pytest.mark.fault("G2")
def test_no_setting_of_the_wall_clock_moves_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease()
    lease.renew(lease.clock(), 60)
    year_s = 366 * 86_400
    for step_s in (year_s, -year_s):
        stepped = time.time() + step_s
        monkeypatch.setattr(time, "time", lambda stepped=stepped: stepped)
        monkeypatch.setattr(time, "time_ns", lambda stepped=stepped: int(stepped * 1e9))
        assert 0 < lease.left_s <= 60
        monkeypatch.undo()


@pytest.mark.fault("G4")
def test_after_a_suspend_it_kills_before_it_speaks() -> None:
    async def story(n: Node) -> None:
        n.master.give(order("x"))
        await soon(lambda: len(n.master.reports) == 1)
        run, asked = n.runner.runs[0], len(n.master.requests)
        spoken_at_kill: list[int] = []
        kill = run.kill

        def noted() -> None:
            spoken_at_kill.append(len(n.master.requests))
            kill()

        run.kill = noted  # type: ignore[method-assign]
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


@pytest.mark.fault("E9")
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


def test_what_has_completed_is_not_begun_again_after_a_restart(tmp_path: Path) -> None:
    """As after a restore: the master has lost the end that it had acknowledged."""
    before = Spool(tmp_path / "spool")
    before.begin(order("x"), "boot-1")
    end = {"kind": "ended", "job": 17, "attempt": 1, "end": "completed", "cause": "exit"}
    before.report(Report(seq=0, **end))  # type: ignore[arg-type]
    before.ack([1])
    before.close()

    async def story(n: Node) -> None:
        n.master.give(order("x"))
        await soon(lambda: n.runner.runs or n.master.ended())
        assert n.runner.runs == []
        assert (await n.ended()).end == "completed"

    with_agent(story, spool=Spool(tmp_path / "spool"))


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


@pytest.mark.fault("B3")
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
