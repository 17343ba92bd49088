"""Every failure of the writer is answered, and what it leaves is the durable state."""

import asyncio
from typing import Any

import pytest

from ledger.commands import Cancel
from ledger.domain import snapshot
from ledger.domain.cluster import decide
from ledger.domain.errors import (
    Malformed,
    NotNow,
    OutcomeUnknown,
    Refusal,
    StorageIsFull,
)
from ledger.domain.state import Cluster, Outcome
from ledger.master import loop as loop_module
from ledger.store.log import AppendFailed, Fenced, StorageFull

from .memory_log import (
    ALICE,
    NODES,
    Bench,
    begun,
    ended,
    entered,
    first_job,
    one,
    outcome_of,
    run,
    token,
    turns,
    user,
)


@pytest.mark.fault("B3")
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
        with pytest.raises(StorageIsFull):  # not tried again so soon, and no draft to drop
            await bench.master.ask_one(ALICE, one())
        assert bench.master.counters.storage_full == 1
        bench.well()
        again = await bench.master.ask_one(ALICE, one())
        assert first_job(again) == 2
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
        assert first_job(await bench.master.ask_one(ALICE, one())) == 1
        await ended(bench, task)

    run(test())


def test_a_fault_in_a_decision_is_answered_and_harms_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = decide

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
