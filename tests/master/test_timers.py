"""The clock and what asks by itself: when a start is believed, when a plan is made, what is due."""

import asyncio
from typing import Any

import pytest

from ledger.commands import (
    SYSTEM,
    Cancel,
    Change,
    Command,
    Configure,
    Contact,
    Drain,
    Enrol,
    Hold,
    Place,
    RecordRefused,
    Release,
    ReportEnded,
    ReportStarted,
    Retire,
    Subject,
    Submit,
)
from ledger.domain.errors import ClockSuspect
from ledger.domain.schedule import plan
from ledger.domain.state import Cluster
from ledger.events import Decision, DemandRefused, JobSpec
from ledger.master import timers
from ledger.master.clock import MAX_BEHIND_US, MAX_GAP_US, Clock
from ledger.master.timers import REFUSED_A_MINUTE, Demand, Planner, RefusedDemand

from .memory_log import NODES, Bench, begun, ended, run, turns, user

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_800_000_000 * SECOND


# ── the clock ────────────────────────────────────────────────────────────────────────────────────


class Hands:
    """A wall clock and a steady one, both set by the test (ns)."""

    def __init__(self, wall_us: int) -> None:
        self.wall = wall_us * 1000
        self.steady = 5

    def clock(self, last_at: int, *, accept: bool = False) -> Clock:
        return Clock(
            last_at, accept=accept, wall_ns=lambda: self.wall, steady_ns=lambda: self.steady
        )


@pytest.mark.fault("G1")
def test_time_goes_by_the_steady_clock_whatever_the_wall_says() -> None:
    hands = Hands(START)
    clock = hands.clock(START - SECOND)
    assert clock.now() == START
    hands.wall -= 3600 * 10**9
    hands.steady += 7 * 10**9
    assert clock.now() == START + 7 * SECOND


@pytest.mark.fault("G1")
def test_a_clock_behind_the_log_needs_to_be_confirmed() -> None:
    hands = Hands(START)
    late = START + MAX_BEHIND_US + 1
    with pytest.raises(ClockSuspect, match="behind"):
        hands.clock(late)
    assert hands.clock(late, accept=True).now() == late


@pytest.mark.fault("G1")
def test_a_clock_that_was_set_back_a_little_goes_on_from_the_log() -> None:
    assert Hands(START).clock(START + MAX_BEHIND_US).now() == START + MAX_BEHIND_US


@pytest.mark.parametrize(("gap", "believed"), [(MAX_GAP_US, True), (MAX_GAP_US + 1, False)])
def test_a_week_of_silence_is_believed_and_no_more(gap: int, believed: bool) -> None:
    hands = Hands(START)
    if believed:
        assert hands.clock(START - gap).now() == START
        return
    with pytest.raises(ClockSuspect, match="days ago"):
        hands.clock(START - gap)
    assert hands.clock(START - gap, accept=True).now() == START


def test_a_new_log_believes_any_clock() -> None:
    assert Hands(START).clock(0).now() == START
    assert Hands(0).clock(0).now() == 0


# ── the planner ──────────────────────────────────────────────────────────────────────────────────


def job(**fields: Any) -> Submit:
    return Submit(specs=(JobSpec(nodes=1, **fields),))


async def idle_node(bench: Bench, name: str = "n1") -> None:
    """A node that takes jobs."""
    sha = name.encode().hex().ljust(64, "0")
    await bench.master.ask_one(NODES, Enrol(node=name, pool="default", token=name, sha256=sha))
    await speak(bench, name)


async def speak(bench: Bench, name: str) -> None:
    """The node's agent reports that it has nothing."""
    contact = Contact(node=name, spool="s", boot_id="b", build="1", protocol=1)
    await bench.master.ask_one(Subject(name, "node"), contact)


class Bench2(Bench):
    """A bench whose loop and planner run."""

    async def __aenter__(self) -> "Bench2":
        self.planner = Planner(self.master)
        self.tasks = [
            asyncio.ensure_future(self.master.run()),
            asyncio.ensure_future(self.planner.run()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.tasks[1].cancel()
        self.master.close()
        await self.tasks[0]

    async def placed(self, wanted: dict[int, tuple[str, ...]]) -> None:
        """Wait until exactly these jobs have been placed on these nodes."""
        while True:
            cluster = await self.master.settled()
            if where(cluster) == wanted:
                return
            await turns()

    async def passes(self, n: int) -> None:
        """Wait for the planner's nth pass."""
        while self.planner.passes < n:
            await turns()


def where(c: Cluster) -> dict[int, tuple[str, ...]]:
    return {j: c.jobs[j].attempt.nodes for j in c.running if c.jobs[j].attempt}  # type: ignore[union-attr]


def test_a_job_is_placed_when_it_comes_and_when_a_node_does() -> None:
    async def test() -> None:
        async with Bench2() as bench:
            await idle_node(bench)
            await bench.master.ask_one(user("alice"), job())
            await bench.placed({1: ("n1",)})
            await bench.master.ask_one(user("alice"), job())
            await idle_node(bench, "n2")
            await bench.placed({1: ("n1",), 2: ("n2",)})

    run(test())


def test_a_new_master_plans_for_what_it_finds_without_being_asked() -> None:
    """After a takeover nothing may happen for hours: jobs that wait must not wait for that."""

    async def test() -> None:
        planner = Planner(Bench().master)
        passes: list[int] = []

        async def noted() -> None:
            passes.append(1)

        planner._pass = noted  # type: ignore[method-assign]
        task = asyncio.ensure_future(planner.run())
        await turns(10)
        assert passes == [1]
        task.cancel()

    run(test())


def test_a_job_that_may_not_begin_yet_is_placed_in_its_time() -> None:
    async def test() -> None:
        async with Bench2() as bench:
            await idle_node(bench)
            await bench.master.ask_one(user("alice"), job(begin_at=bench.time + 60 * SECOND))
            await bench.passes(bench.planner.passes + 1)
            bench.planner.nudge_if_due(bench.time)
            assert where(await bench.master.settled()) == {}
            bench.time += 60 * SECOND
            bench.planner.nudge_if_due(bench.time)
            await bench.placed({1: ("n1",)})

    run(test())


def test_a_plan_that_came_too_late_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job it meant for the node is held meanwhile: the next one must not wait for an event."""
    real, bench = plan, Bench2()
    held: list[int] = []

    async def hold_first() -> None:
        await bench.master.ask_one(user("alice"), Hold(job=1))

    def slow(view: Any) -> Any:
        made = real(view)
        if made.places and not held:
            held.append(1)
            asyncio.run_coroutine_threadsafe(hold_first(), loop).result(10)
        return made

    monkeypatch.setattr(timers, "plan", slow)
    loop: asyncio.AbstractEventLoop

    async def test() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        async with bench:
            name = "n1"
            await bench.master.ask_one(
                NODES, Enrol(node=name, pool="default", token=name, sha256="1")
            )
            await bench.master.ask_one(user("alice"), job())
            await bench.master.ask_one(user("alice"), job())
            await speak(bench, name)
            await bench.placed({2: ("n1",)})

    run(test())


def test_what_could_let_a_job_start_asks_for_a_plan_and_nothing_else_does() -> None:
    """A held or changed job lets others by; what is only about running ones lets nobody start."""
    alice, n1 = user("alice"), Subject("n1", "node")
    decision = Decision(view=1, now=1, rules=1, policy=1, rank=1, of=1, how="in_order")
    end = ReportEnded(node="n1", job=3, attempt=1, end="completed", cause="exit")

    async def test() -> None:
        bench = Bench()
        planner = Planner(bench.master)
        task = await begun(bench)

        async def asks(who: Subject, command: Command) -> bool:
            planner._wanted.clear()
            await bench.master.ask_one(who, command)
            return planner.wanted

        joins = Enrol(node="n2", pool="default", token="t2", sha256="2" * 64)  # noqa: S106 - its id
        assert await asks(NODES, joins)
        await speak(bench, "n1")
        assert planner.wanted, "a node takes jobs"
        for _ in range(3):
            assert await asks(alice, job())
        assert await asks(alice, Hold(job=1))
        assert not await asks(alice, Hold(job=1))
        assert await asks(alice, Release(job=1))
        assert await asks(alice, Change(job=1, time_limit_s=5))
        assert await asks(alice, Cancel(job=2))
        assert not await asks(SYSTEM, Place(job=3, nodes=("n1",), decision=decision))
        assert not await asks(n1, ReportStarted(node="n1", job=3, attempt=1))
        assert not await asks(alice, Cancel(job=3))
        assert await asks(n1, end)
        assert await asks(NODES, Configure(node="n1", features=("ssd",)))
        assert await asks(NODES, Drain(node="n1"))
        assert await asks(NODES, Retire(node="n1"))
        await ended(bench, task)

    run(test())


# ── refused demand ───────────────────────────────────────────────────────────────────────────────


def test_refused_demand_is_summed_by_minute() -> None:
    refused = RefusedDemand()
    now = START - START % MINUTE
    assert refused.due(now) == []
    wide = Demand("alice", "physics", "gpu", "bad_constraints")
    refused.add(wide, 2, 100)
    refused.add(wide, 3, 50)
    refused.add(wide._replace(user="bob"), 1, 2**62)
    refused.add(wide._replace(user="bob"), 1, 2**62)
    assert refused.due(now + MINUTE - 1) == []
    told = refused.due(now + MINUTE)
    first = RecordRefused(
        minute=now // MINUTE,
        user="alice",
        account="physics",
        pool="gpu",
        code="bad_constraints",
        requests=2,
        jobs=5,
        node_seconds=150,
    )
    assert told[0] == first
    assert [(r.user, r.requests, r.node_seconds) for r in told[1:]] == [("bob", 2, 2**62)]  # type: ignore[attr-defined]
    assert refused.due(now + 2 * MINUTE) == []


def test_a_first_look_in_the_middle_of_a_minute_invents_no_minute() -> None:
    refused = RefusedDemand()
    refused.add(Demand("alice", "", "gpu", "too_many_jobs"), 1, 1)
    assert refused.due(START) == []
    (told,) = refused.due(START + MINUTE)
    assert isinstance(told, RecordRefused)
    assert told.minute == START // MINUTE


def test_a_storm_of_refusals_is_a_bounded_number_of_records() -> None:
    refused = RefusedDemand()
    refused.due(START)
    for i in range(1000):
        code = "bad_constraints" if i % 2 else "too_many_jobs"
        refused.add(Demand(f"u{i}", "", "default", code), 1, 1)
    told = refused.due(START + MINUTE)
    assert len(told) == REFUSED_A_MINUTE
    assert sum(r.requests for r in told if isinstance(r, RecordRefused)) == 1000


def test_the_records_become_events() -> None:
    async def test() -> None:
        async with Bench2() as bench:
            refused = RefusedDemand()
            refused.due(START)
            refused.add(Demand("alice", "", "gpu", "bad_constraints"), 1, 60)
            await bench.master.ask(SYSTEM, refused.due(START + MINUTE))
            (event,) = [r.event for r in bench.log.recorded()]
            assert isinstance(event, DemandRefused)
            assert (event.user, event.jobs, event.node_seconds) == ("alice", 1, 60)

    run(test())
