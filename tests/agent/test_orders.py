"""Orders are brought about: what is begun, what never is, what is stopped, held and told."""

import asyncio

import pytest

from ledger.agent.processes import Ending, Refused, Running, Sink
from ledger.agent.spool import Memory
from ledger.wire import Order, Seen

from .agent_support import order, soon
from .fake_node import EXIT_0, FakeRunner, Node, with_agent


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


@pytest.mark.fault("F4")
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


@pytest.mark.fault("E17")
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


@pytest.mark.fault("D6")
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
        n.master.seen = Seen(incarnation="i2", epoch=1, position=9, hash="dd")  # a restored log
        n.master.give()
        await soon(lambda: n.runner.runs[0].graces)
        assert n.spool.seen.incarnation == "i2"
        n.master.seen = Seen(incarnation="i1", epoch=6, position=99, hash="ee")
        n.master.give(order("z", job=19))
        asked = len(n.master.requests)
        await soon(lambda: len(n.master.requests) > asked + 2)
        assert n.spool.seen.incarnation == "i2", "a log that was replaced has come back"
        assert (19, 1) not in n.runner.started()

    with_agent(story)
