"""The writer: one commit in flight, nobody told before it is durable, every failure answered."""

import asyncio
from hashlib import sha256

import pytest

from ledger.commands import Cancel
from ledger.domain import snapshot
from ledger.domain.errors import (
    NotNow,
    Refusal,
    TooBusy,
    UnknownJob,
)
from ledger.master import loop as loop_module

from .memory_log import (
    ALICE,
    NODES,
    Bench,
    begun,
    ended,
    entered,
    first_job,
    names,
    one,
    outcome_of,
    run,
    token,
    turns,
    user,
)


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
        replies = [await answer for answer in [first, *rest]]
        assert [first_job(r) for r in replies] == list(range(1, 202))
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
        assert first_job(await asked) == 1
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
        assert [first_job(await a) for a in [first, *waiting]] == [1, 2, 3, 4]
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
        assert first_job(last) == 2
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
        assert [first_job(await a) for a in asked] == [1, 2, 3]
        await task

    run(test())


def test_a_commit_carries_its_time_epoch_and_texts_and_time_never_runs_back() -> None:
    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        blobs = {sha256(b"text").hexdigest(): b"text"}
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
