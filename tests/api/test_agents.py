"""Agents over HTTP, spoken by hand: orders, holds, reports, leases, and nodes that come and go."""

from typing import Any

import pytest

from ledger.events import AttemptEnded, StaleReported
from live import Live

from .acting import ended, has, orders, outcome, placed, silent, started, waiting

# ── orders and reports ───────────────────────────────────────────────────────────────────────────


def test_from_order_to_end_on_each_database(either: Live) -> None:
    n1, alice = either.node("n1"), either.user("alice")
    poll = waiting(either, n1, "n1")
    assert not poll.done()
    job = alice.submit(
        argv=["/bin/echo", "x"],
        name="n",
        script="#!/bin/sh\n",
        workdir="/w",
        output_path="/o",
        time_limit_s=60,
        restartable=True,
    )
    (order,) = orders(poll.result(10))
    wanted = {
        "job": job,
        "attempt": 1,
        "user": "alice",
        "nodes": ["n1"],
        "restartable": True,
        "time_limit_s": 60,
        "kill_grace_s": 10,
        "go": True,
        "name": "n",
        "argv": ["/bin/echo", "x"],
        "script": "#!/bin/sh\n",
        "workdir": "/w",
        "output_path": "/o",
    }
    assert {k: order[k] for k in wanted} == wanted
    assert orders(n1.sync("n1")) == [order]  # for as long as the agent does not say it has it
    running = [has(job, "running")]
    assert n1.sync("n1", has=running, reports=[started(1, job)]).json()["acked"] == [1]
    assert alice.ok("GET", f"/v1/jobs/{job}")["started_at"] is not None
    told: dict[str, Any] = {"ran_us": 5, "cpu_us": 3, "output": {"bytes": 2, "kept": 2}}
    told["of_a_later_release"] = 1
    reply = n1.sync("n1", reports=[ended(2, job, **told)]).json()
    assert reply["acked"] == [2]
    assert reply.get("orders", []) == []
    shown = alice.ok("GET", f"/v1/jobs/{job}")
    assert (shown["state"], shown["exit_code"]) == ("completed", 0)
    assert shown["attempts"][0]["output_bytes"] == 2
    assert shown["attempts"][0]["cpu_s"] == 0.000003


@pytest.mark.fault("F4")
def test_a_report_is_acknowledged_again_and_recorded_once(fresh: Live) -> None:
    n1, alice = fresh.node("n1"), fresh.user("alice")
    job = alice.submit()
    placed(fresh, job)
    for _ in range(3):
        assert n1.sync("n1", reports=[started(1, job)], has=[has(job, "running")]).json()[
            "acked"
        ] == [1]
    for _ in range(3):
        assert n1.sync("n1", reports=[started(1, job), ended(2, job)]).json()["acked"] == [1, 2]
    names = [type(r.event).__name__ for r in fresh.events()]
    assert (names.count("AttemptStarted"), names.count("AttemptEnded")) == (1, 1)
    assert names.count("StaleReported") == 0


@pytest.mark.fault("E10")
def test_a_late_end_changes_nothing_and_is_recorded_once(fresh: Live) -> None:
    n1, n2, alice = fresh.node("n1"), fresh.node("n2"), fresh.user("alice")
    fresh.operator.ok("POST", "/v1/nodes/n2/drain", {})
    job = alice.submit(restartable=True)
    placed(fresh, job)
    fresh.operator.ok("POST", "/v1/nodes/n2/resume", {})
    fresh.operator.ok("POST", "/v1/nodes/n1/down", {"reason": "dead"})
    silent(fresh, {"n2": n2})
    assert placed(fresh, job, 2) == ("n2",)
    late = ended(1, job, 1, end="failed", exit_code=9)
    for _ in range(3):
        assert n1.sync("n1", reports=[late]).json()["acked"] == [1]
    stale = [r.event for r in fresh.events() if isinstance(r.event, StaleReported)]
    assert [(e.job, e.attempt, e.node, e.exit_code) for e in stale] == [(job, 1, "n1", 9)]
    assert alice.ok("GET", f"/v1/jobs/{job}")["state"] == "running"
    n2.sync("n2", reports=[ended(1, job, 2)])
    ends = [r.event for r in fresh.events() if isinstance(r.event, AttemptEnded)]
    assert [(e.attempt, e.next) for e in ends] == [(1, "requeued"), (2, "final")]


def test_an_agent_is_told_what_held_when_its_attempt_was_placed(fresh: Live) -> None:
    """Allowed to restart only later, the job has an agent that keeps it when the lease is over:
    told otherwise now and not in time then, it would kill a job that is never begun again."""
    n1, alice = fresh.node("n1"), fresh.user("alice")
    job = alice.submit(restartable=False)
    placed(fresh, job)
    alice.ok("PATCH", f"/v1/jobs/{job}", {"restartable": True})
    (order,) = orders(n1.sync("n1"))
    assert order["restartable"] is False
    report = ended(1, job, ran_us=-5, cpu_us=-5)
    assert n1.sync("n1", reports=[report]).json()["acked"] == [1]
    (end,) = [r.event for r in fresh.events() if isinstance(r.event, AttemptEnded)]
    assert (end.ran_us, end.cpu_us) == (0, 0)


def test_an_attempt_whose_start_alone_is_told_and_that_is_not_there_was_lost(fresh: Live) -> None:
    n1, alice = fresh.node("n1"), fresh.user("alice")
    job = alice.submit()
    placed(fresh, job)
    n1.sync("n1", reports=[started(1, job)], has=[has(job, "running")])
    n1.sync("n1", reports=[started(1, job)], has=[])
    (end,) = [r.event for r in fresh.events() if isinstance(r.event, AttemptEnded)]
    assert (end.cause, end.lost) == ("agent_forgot", ("n1",))


def test_cancel_is_an_order_to_stop(fresh: Live) -> None:
    n1, alice = fresh.node("n1"), fresh.user("alice")
    job = alice.submit()
    placed(fresh, job)
    n1.sync("n1", reports=[started(1, job)], has=[has(job, "running")])
    poll = waiting(fresh, n1, "n1", has=[has(job, "running")])
    alice.ok("POST", f"/v1/jobs/{job}/cancel", {"note": "wrong input"})
    (order,) = orders(poll.result(10))
    assert order["stop"]
    assert alice.ok("GET", f"/v1/jobs/{job}")["stopping"] is True
    quiet = waiting(fresh, n1, "n1", has=[has(job, "stopping")])
    assert not quiet.done()  # it does what it was told; there is nothing new
    report = ended(2, job, end="stopped", cause="stopped", exit_code=None, signal=15)
    assert n1.sync("n1", reports=[report]).json()["acked"] == [2]
    assert outcome(fresh, job) == "cancelled"
    quiet.result(30)


# ── several nodes ────────────────────────────────────────────────────────────────────────────────


def test_the_leader_goes_once_every_member_holds(fresh: Live) -> None:
    agents = {name: fresh.node(name) for name in ("n1", "n2", "n3")}
    job = fresh.user("alice").submit(nodes=3)
    leader, *members = placed(fresh, job)
    (order,) = orders(agents[leader].sync(leader))
    assert "go" not in order
    poll = waiting(fresh, agents[leader], leader, has=[has(job, "held")])
    for i, member in enumerate(members):
        assert not poll.done()
        (hold,) = orders(agents[member].sync(member))
        assert (hold["nodes"][0], hold.get("go", False)) == (leader, False)
        agents[member].sync(member, has=[has(job, "held")])
        if i == 0:
            assert "go" not in orders(agents[leader].sync(leader))[0]
    (order,) = orders(poll.result(10)) if poll.done() else orders(agents[leader].sync(leader))
    assert orders(agents[leader].sync(leader, has=[has(job, "held")]))[0]["go"] is True


def test_a_lost_member_stops_the_leader(fresh: Live) -> None:
    agents = {name: fresh.node(name) for name in ("n1", "n2")}
    job = fresh.user("alice").submit(nodes=2, restartable=True)
    leader, member = placed(fresh, job)
    agents[member].sync(member, has=[has(job, "held")])
    agents[leader].sync(leader, has=[has(job, "running")], reports=[started(1, job)])
    poll = waiting(fresh, agents[leader], leader, has=[has(job, "running")])
    lost = ended(1, job, end="node_fail", cause="hold_dropped", exit_code=None)
    assert agents[member].sync(member, reports=[lost]).json().get("acked", []) == []
    (order,) = orders(poll.result(10))
    assert order["stop"]
    stopped = ended(2, job, end="stopped", cause="stopped", exit_code=None)
    assert agents[leader].sync(leader, reports=[stopped]).json()["acked"] == [2]
    (end,) = [r.event for r in fresh.events() if isinstance(r.event, AttemptEnded)]
    assert (end.outcome, end.next, end.lost) == ("node_fail", "requeued", (member,))
    assert agents[member].sync(member, reports=[lost]).json()["acked"] == [1]
    assert len([r for r in fresh.events() if isinstance(r.event, AttemptEnded)]) == 1


# ── who may speak, and what is refused ───────────────────────────────────────────────────────────


def test_a_call_that_another_has_followed_is_refused(fresh: Live) -> None:
    n1 = fresh.node("n1")
    n1.sync("n1", sent_ns=10**12)
    head = fresh.head
    for sent_ns in (10**12, 10**12 - 1, 1):
        answer = n1.sync("n1", sent_ns=sent_ns)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_sync")
    assert fresh.since(head) == []
    assert n1.sync("n1", sent_ns=1, boot_id="boot-2").status_code == 200


def test_an_agent_speaks_for_its_own_node_only(fresh: Live) -> None:
    n1 = fresh.node("n1")
    fresh.node("n2")
    others = (n1, fresh.user("alice"), fresh.operator)
    head = fresh.head
    for http in others:
        answer = http.sync("n2")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert fresh.since(head) == []


SHOWN_AND_GONE: dict[str, dict[str, int | str]] = {
    "beyond the end": {"position": 100},
    "another commit": {"hash": "0" * 64},
    "no commit's end": {"position": -1},
    "a later reign": {"epoch": 1},
}


@pytest.mark.fault("D3")
@pytest.mark.parametrize("what", SHOWN_AND_GONE)
def test_nothing_is_decided_once_an_agent_was_shown_what_the_log_has_not(
    fresh: Live, what: str
) -> None:
    n1, n2, alice = fresh.node("n1"), fresh.node("n2"), fresh.user("alice")
    job = alice.submit(held=True)
    waits = fresh.beside(n2.sync, "n2", wait_s=20)
    seen = n1.sync("n1").json()["seen"]
    head, claim = fresh.head, dict(seen)
    for field, change in SHOWN_AND_GONE[what].items():
        claim[field] = change if isinstance(change, str) else claim[field] + change
    answer = n1.sync("n1", seen=claim)
    assert (answer.status_code, answer.json()["code"]) == (409, "log_behind")
    assert str(claim["position"]) in answer.json()["detail"]
    assert waits.result().status_code == 409, "an order went out"
    for http, path in ((alice, "/v1/jobs"), (fresh.operator, f"/v1/jobs/{job}/release")):
        asked = http("POST", path, {"argv": ["/bin/true"]} if http is alice else {})
        assert (asked.status_code, asked.json()["code"]) == (409, "log_behind")
    honest = n1.sync("n1", seen=seen)
    assert (honest.status_code, honest.json()["code"]) == (409, "log_behind")
    ready = fresh.operator("GET", "/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "The agent of n1" in ready.json()["sentence"]
    assert alice.ok("GET", "/v1/jobs")["jobs"][0]["job"] == job
    assert fresh.head == head


def test_a_head_that_was_shown_by_an_earlier_reign_is_looked_up(fresh: Live) -> None:
    n1 = fresh.node("n1")
    token, seen = n1.token, n1.sync("n1").json()["seen"]
    fresh.restart()
    n1 = fresh.client(token, "n1")
    assert n1.sync("n1", seen=seen).status_code == 200
    restored = {**seen, "incarnation": "another", "position": seen["position"] + 100}
    assert n1.sync("n1", seen=restored).status_code == 200, "a restored log may be shorter"
    assert n1.sync("n1", seen={**seen, "hash": "1" * 64}).status_code == 409


def test_an_old_protocol_is_told_so(fresh: Live) -> None:
    answer = fresh.node("n1").sync("n1", protocol=0)
    assert (answer.status_code, answer.json()["code"]) == (426, "too_old")
