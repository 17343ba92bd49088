"""The writer: one commit in flight, nobody told before it is durable, every failure answered."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import pytest

from ledger.commands import Cancel, Enrol, Submit
from ledger.domain import snapshot
from ledger.domain.errors import (
    Malformed,
    NotNow,
    OutcomeUnknown,
    Refusal,
    StorageIsFull,
    TooBusy,
    UnknownJob,
)
from ledger.domain.state import Cluster, Outcome
from ledger.events import JobSpec
from ledger.master import loop as loop_module
from ledger.store.log import AppendFailed, Fenced, StorageFull

from .memory_log import NODES, Bench, names, token, turns, user

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
    bench.master.close()
    await task


async def entered(bench: Bench) -> None:
    """Wait until an append has begun."""
    assert await asyncio.to_thread(bench.log.entered.acquire, timeout=10)


async def outcome_of(asked: Awaitable[T]) -> T | BaseException:
    """The answer, or what was raised."""
    return (await asyncio.gather(asked, return_exceptions=True))[0]


def one(text: str = "") -> Submit:
    return Submit(specs=(JobSpec(nodes=1, name=text),))


def test_many_requests_share_one_commit() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        first = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        rest = [
            asyncio.ensure_future(bench.master.ask_one(user(f"u{i}"), one())) for i in range(200)
        ]
        await turns()
        assert bench.master.counters.requests == 2  # the others wait: nothing is decided meanwhile
        bench.log.let_go()
        replies = [(await answer).reply for answer in [first, *rest]]
        assert [r.first_job for r in replies] == list(range(1, 202))
        assert [len(draft.facts) for draft in bench.log.drafts] == [2, 1, 200]
        await ended(bench, task)

    run(test())


def test_nobody_is_answered_before_the_commit_is_durable() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        asked = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        await turns(50)
        assert not asked.done()
        assert len(bench.heard) == 1  # listeners are not told either
        bench.log.let_go()
        assert (await asked).reply.first_job == 1
        assert len(bench.log.drafts) == 2
        await ended(bench, task)

    run(test())


def test_who_looks_waits_for_the_commit_in_flight() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        asked = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        looking = asyncio.ensure_future(bench.master.settled())
        await turns(50)
        assert not looking.done()
        bench.log.let_go()
        cluster = await looking
        assert bench.master.head.position == cluster.position
        assert snapshot.to_bytes(cluster) == snapshot.to_bytes(bench.log.fold())
        await asked
        await ended(bench, task)

    run(test())


def test_a_refusal_and_what_changes_nothing_cost_no_append() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        before = snapshot.to_bytes(bench.master.cluster)
        with pytest.raises(UnknownJob):
            await bench.master.ask_one(ALICE, Cancel(job=99))
        answers = await bench.master.ask(ALICE, [Cancel(job=98), Cancel(job=97)])
        assert [type(a) for a in answers] == [UnknownJob, UnknownJob]
        assert names(bench.log) == [["NodeEnrolled", "TokenIssued"]]
        assert snapshot.to_bytes(bench.master.cluster) == before
        assert bench.master.counters.refused == 3
        await ended(bench, task)

    run(test())


def test_a_refusal_decided_beside_others_waits_for_their_commit() -> None:
    """It may speak of what they changed, which is not durable before."""

    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        first = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        second = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        refused = asyncio.ensure_future(bench.master.ask_one(user("bob"), Cancel(job=2)))
        await turns()
        bench.log.let_go(hold=True)
        await first
        await entered(bench)
        await turns(50)
        assert not refused.done()
        bench.log.let_go()
        assert isinstance(await outcome_of(refused), Refusal)
        await second
        await ended(bench, task)

    run(test())


def test_a_full_disk_drops_the_draft_and_the_master_lives() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await bench.master.ask_one(ALICE, one())
        before = snapshot.to_bytes(await bench.master.settled())
        bench.log.fails.append(StorageFull("no room"))
        with pytest.raises(StorageIsFull):
            await bench.master.ask_one(ALICE, one())
        assert snapshot.to_bytes(await bench.master.settled()) == before
        assert (bench.fatal, bench.master.failed, len(bench.heard)) == ([], "", 2)
        assert bench.master.counters.storage_full == 1
        again = await bench.master.ask_one(ALICE, one())
        assert again.reply.first_job == 2
        assert snapshot.to_bytes(bench.master.cluster) == snapshot.to_bytes(bench.log.fold())
        await ended(bench, task)

    run(test())


def test_who_looks_while_the_draft_is_dropped_sees_the_durable_state() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        bench.log.fails.append(StorageFull("no room"))
        asked = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        looking = asyncio.ensure_future(bench.master.settled())
        bench.log.let_go()
        cluster = await looking
        assert isinstance(cluster, Cluster)
        assert cluster.jobs == {}
        assert isinstance(await outcome_of(asked), StorageIsFull)
        await ended(bench, task)

    run(test())


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (AppendFailed("fsync"), OutcomeUnknown),
        (Fenced("another master"), NotNow),
        (OSError("what nobody thought of"), OutcomeUnknown),
    ],
    ids=["failed", "fenced", "unexpected"],
)
def test_a_failed_append_ends_the_master(failure: Exception, told: type[Refusal]) -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        bench.log.fails.append(failure)
        asked = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        waiting = asyncio.ensure_future(bench.master.ask_one(user("bob"), one()))
        looking = asyncio.ensure_future(bench.master.settled())
        await turns()
        bench.log.let_go()
        assert type(await outcome_of(asked)) is told
        assert type(await outcome_of(waiting)) is told
        assert isinstance(await outcome_of(looking), NotNow)
        assert isinstance(await outcome_of(bench.master.ask_one(ALICE, one())), NotNow)
        await task
        assert len(bench.fatal) == 1
        assert type(failure).__name__ in bench.fatal[0]
        assert len(bench.log.drafts) == 1
        assert len(bench.heard) == 1

    run(test())


def test_a_state_that_can_not_be_folded_again_ends_the_master(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        bench.log.fails.append(StorageFull("no room"))

        def gone() -> Cluster:
            raise OSError("the log can't be read")

        monkeypatch.setattr(bench.master, "_refold", gone)
        assert isinstance(await outcome_of(bench.master.ask_one(ALICE, one())), OutcomeUnknown)
        await task
        assert len(bench.fatal) == 1

    run(test())


def test_what_can_not_be_stored_is_refused_and_leaves_no_trace() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        before = snapshot.to_bytes(bench.master.cluster)
        asked = bench.master.ask_one(NODES, token("2" * 64, note="\ud800"))
        assert isinstance(await outcome_of(asked), Malformed)
        assert snapshot.to_bytes(bench.master.cluster) == before
        assert len(bench.log.drafts) == 1
        assert (await bench.master.ask_one(ALICE, one())).reply.first_job == 1
        await ended(bench, task)

    run(test())


def test_a_fault_in_a_decision_is_answered_and_harms_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = loop_module.decide

    def faulty(c: Cluster, ask: Any, command: Any) -> Outcome:
        if isinstance(command, Cancel):
            raise KeyError("a fault of ours")
        return real(c, ask, command)

    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        monkeypatch.setattr(loop_module, "decide", faulty)
        answers = await asyncio.gather(
            bench.master.ask_one(ALICE, Cancel(job=1)),
            bench.master.ask_one(ALICE, one()),
            return_exceptions=True,
        )
        assert isinstance(answers[0], NotNow)
        assert isinstance(answers[1], Outcome)
        assert bench.fatal == []
        await ended(bench, task)

    run(test())


def test_a_fault_while_the_draft_evolves_ends_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is neither the durable one nor a draft of anything: nobody may see it."""

    def faulty(c: Cluster, recorded: Any) -> None:
        raise KeyError("a fault of ours")

    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        monkeypatch.setattr(loop_module, "evolve", faulty)
        asked, behind = await asyncio.gather(
            bench.master.ask_one(ALICE, one()),
            bench.master.ask_one(ALICE, one()),
            return_exceptions=True,
        )
        assert isinstance(asked, OutcomeUnknown)
        assert isinstance(behind, OutcomeUnknown)
        assert isinstance(await outcome_of(bench.master.settled()), NotNow)
        await task
        assert len(bench.fatal) == 1

    run(test())


def test_too_many_waiting_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "MAX_QUEUED", 3)

    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        first = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        waiting = [asyncio.ensure_future(bench.master.ask_one(ALICE, one())) for _ in range(3)]
        await turns()
        refused = await outcome_of(bench.master.ask_one(ALICE, one()))
        assert isinstance(refused, TooBusy)
        assert refused.details["retry_after_s"] >= 1
        bench.log.let_go()
        assert [(await a).reply.first_job for a in [first, *waiting]] == [1, 2, 3, 4]
        await ended(bench, task)

    run(test())


def test_a_commit_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "MAX_BATCH_EVENTS", 10)

    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await asyncio.gather(*(bench.master.ask_one(ALICE, one()) for _ in range(25)))
        assert [len(d.facts) for d in bench.log.drafts[1:]] == [10, 10, 5]
        await ended(bench, task)

    run(test())


def test_one_who_went_away_before_his_turn_is_not_served() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        first = asyncio.ensure_future(bench.master.ask_one(ALICE, one()))
        await entered(bench)
        gone = asyncio.ensure_future(bench.master.ask_one(user("bob"), one()))
        await turns()
        gone.cancel()
        bench.log.let_go()
        await first
        last = await bench.master.ask_one(ALICE, one())
        assert last.reply.first_job == 2
        await ended(bench, task)

    run(test())


def test_what_was_taken_is_done_before_the_end() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await entered(bench)
        bench.log.held = True
        asked = [asyncio.ensure_future(bench.master.ask_one(ALICE, one())) for _ in range(3)]
        await entered(bench)
        bench.master.close()
        assert isinstance(await outcome_of(bench.master.ask_one(ALICE, one())), NotNow)
        bench.log.let_go()
        assert [(await a).reply.first_job for a in asked] == [1, 2, 3]
        await task

    run(test())


def test_a_commit_carries_its_time_epoch_and_texts_and_time_never_runs_back() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        blobs = {"ab" * 32: b"text"}
        await bench.master.ask(ALICE, [one()], request="r-7", blobs=blobs)
        bench.time -= 500
        await bench.master.ask(ALICE, [one()])
        drafts = bench.log.drafts
        assert drafts[1].blobs == blobs
        assert drafts[1].facts[0].envelope.request == "r-7"
        assert drafts[1].facts[0].envelope.by == "alice"
        assert [d.epoch for d in drafts] == [1, 1, 1]
        assert drafts[2].at == drafts[1].at
        await ended(bench, task)

    run(test())


def test_texts_of_a_refused_request_are_not_stored() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        await bench.master.ask_one(NODES, token("2" * 64))
        await asyncio.gather(
            bench.master.ask(ALICE, [Cancel(job=9)], blobs={"cd" * 32: b"secret"}),
            bench.master.ask(NODES, [token("3" * 64)]),
        )
        assert dict(bench.log.drafts[-1].blobs) == {}
        await ended(bench, task)

    run(test())
