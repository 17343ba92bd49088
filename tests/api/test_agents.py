"""Agents over HTTP, spoken by hand: orders, holds, reports, leases, and nodes that come and go."""

from concurrent.futures import Future
from typing import Any

import pytest

from ledger.events import AttemptEnded, NodeStateChanged, StaleReported
from live import Http, Live, live, until


def started(seq: int, job: int, attempt: int = 1) -> dict[str, Any]:
    return {"seq": seq, "kind": "started", "job": job, "attempt": attempt}


def ended(seq: int, job: int, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "seq": seq,
        "kind": "ended",
        "job": job,
        "attempt": attempt,
        "end": "completed",
        "cause": "exit",
        "exit_code": 0,
        **more,
    }


def has(job: int, phase: str, attempt: int = 1) -> dict[str, Any]:
    return {"job": job, "attempt": attempt, "phase": phase}


def orders(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json().get("orders", [])
    return found


def placed(s: Live, job: int, attempt: int = 1) -> tuple[str, ...]:
    """Wait for an attempt of a job; its nodes."""

    def look() -> tuple[str, ...]:
        return s.state(
            lambda c: (
                c.jobs[job].attempt.nodes  # type: ignore[union-attr]
                if c.jobs[job].attempt and c.jobs[job].attempts == attempt
                else ()
            )
        )

    return until(look, f"attempt {attempt} of job {job}")


def health(s: Live, node: str) -> str:
    return s.state(lambda c: c.nodes[node].state)


def outcome(s: Live, job: int) -> str:
    """How a job has ended; empty while it lives."""
    return s.state(lambda c: c.outcome(job)) or ""


def waiting(s: Live, agent: Http, node: str, **said: Any) -> "Future[Any]":
    """An agent's long poll, once the master has heard it."""
    before = s.running.contacts._heard[node].sent_ns
    asked = s.beside(agent.sync, node, wait_s=20, **said)
    until(lambda: s.running.contacts._heard[node].sent_ns > before, "the poll is heard")
    return asked


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
    reply = n1.sync("n1", reports=[ended(2, job, ran_us=5, output={"bytes": 2, "kept": 2})]).json()
    assert reply["acked"] == [2]
    assert reply.get("orders", []) == []
    shown = alice.ok("GET", f"/v1/jobs/{job}")
    assert (shown["state"], shown["exit_code"]) == ("completed", 0)
    assert shown["attempts"][0]["output_bytes"] == 2


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


def silent(s: Live, speaking: dict[str, Http], seconds: float = 320) -> None:
    """Let the lease of all nodes pass but of those that go on speaking."""
    for _ in range(4):
        s.clock.advance(seconds / 4)
        for name, agent in speaking.items():
            holds = s.state(lambda c, n=name: sorted(c.nodes[n].attempts))  # type: ignore[misc]
            assert agent.sync(name, has=[has(j, "running", n) for j, n in holds]).is_success


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


def test_an_agent_that_has_seen_more_than_there_is_raises_the_alarm(fresh: Live) -> None:
    n1 = fresh.node("n1")
    seen = n1.sync("n1").json()["seen"]
    answer = n1.sync("n1", seen={**seen, "position": seen["position"] + 100})
    assert (answer.status_code, answer.json()["code"]) == (409, "log_behind")
    ready = fresh.operator.ok("GET", "/readyz")
    assert any(str(seen["position"] + 100) in warning for warning in ready["warnings"])
    other = {**seen, "incarnation": "another", "position": seen["position"] + 100}
    assert n1.sync("n1", seen=other).status_code == 200


def test_an_old_protocol_is_told_so(fresh: Live) -> None:
    answer = fresh.node("n1").sync("n1", protocol=0)
    assert (answer.status_code, answer.json()["code"]) == (426, "too_old")


# ── leases ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("restartable", [True, False])
def test_a_silent_node_is_lost_after_its_lease(fresh: Live, restartable: bool) -> None:
    fresh.operator.ok("PATCH", "/v1/policy", {"job_lease_s": 10, "lease_margin_s": 5})
    n1, n2, alice = fresh.node("n1"), fresh.node("n2"), fresh.user("alice")
    assert n1.sync("n1").json()["lease_s"] == 10
    fresh.clock.advance(400)  # who was told of the former lease may hold it until now
    for agent in (n1, n2):
        agent.sync(agent.name)
    fresh.operator.ok("POST", "/v1/nodes/n2/drain", {})
    alice = fresh.user("alice")
    job = alice.submit(restartable=restartable)
    placed(fresh, job)
    n1.sync("n1", has=[has(job, "running")], reports=[started(1, job)])
    fresh.operator.ok("POST", "/v1/nodes/n2/resume", {})
    n2.sync("n2")
    fresh.clock.advance(9)
    n2.sync("n2")
    head = fresh.head
    fresh.clock.advance(1.5)
    until(lambda: health(fresh, "n1") == "down", "the lease is over")
    (fell,) = [r.event for r in fresh.events(head) if isinstance(r.event, NodeStateChanged)]
    assert (fell.cause, [s.job for s in fell.struck], fell.struck[0].user) == (
        "silent",
        [job],
        "alice",
    )
    assert alice.ok("GET", f"/v1/jobs/{job}")["out_of_contact_since"] is not None
    n2.sync("n2")
    fresh.clock.advance(5)
    n2.sync("n2")
    if restartable:
        assert placed(fresh, job, 2) == ("n2",)
        return
    fresh.clock.advance(5)
    n2.sync("n2")
    assert alice.ok("GET", f"/v1/jobs/{job}")["state"] == "running"
    n1.sync("n1", has=[], reports=[ended(2, job)])
    assert outcome(fresh, job) == "completed"
    until(lambda: health(fresh, "n1") == "idle", "the node is back")


def test_a_node_that_just_joined_is_given_its_lease(fresh: Live) -> None:
    """Though this master has reigned for longer, and has heard of it before."""
    n1 = fresh.node("n1")
    fresh.operator.ok("POST", "/v1/nodes/n1/retire", {})
    fresh.clock.advance(3600)
    fresh.node("n1", idle=False)
    fresh.node("n2", idle=False)
    ticks(fresh)
    assert health(fresh, "n1") == health(fresh, "n2") == "checking"
    assert n1.sync("n1").status_code == 401  # the token of the one that was retired
    fresh.clock.advance(301)
    until(lambda: health(fresh, "n1") == health(fresh, "n2") == "down", "their leases are over")


def ticks(s: Live) -> None:
    """Let the ticker look at the clock at least once more: a node that is past its lease falls."""
    s.node("witness", idle=False)
    s.running.contacts._heard["witness"].last -= 400 * 1_000_000
    until(lambda: health(s, "witness") == "down", "a tick")


def test_a_new_master_gives_every_agent_a_lease(fresh: Live) -> None:
    n1, alice = fresh.node("n1"), fresh.user("alice")
    job = alice.submit(restartable=True)
    placed(fresh, job)
    fresh.stop()
    fresh.clock.advance(10_000)
    fresh.start()
    head = fresh.head
    ticks(fresh)
    assert "AttemptEnded" not in fresh.since(head)
    assert health(fresh, "n1") == "allocated"
    again = fresh.client(n1.token, "n1")
    assert orders(again.sync("n1"))[0]["job"] == job


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────


def test_drain_resume_down_retire_and_enrol_again(fresh: Live) -> None:
    n1, alice, operator = fresh.node("n1"), fresh.user("alice"), fresh.operator
    job = alice.submit()
    placed(fresh, job)
    reason = {"reason": "a new disk"}
    assert operator.ok("POST", "/v1/nodes/n1/drain", reason)["state"] == "draining"
    assert operator.ok("POST", "/v1/nodes/n1/drain", reason)["changed"] is False
    assert operator.ok("GET", "/v1/nodes/n1")["reason"] == "a new disk"
    busy = operator("POST", "/v1/nodes/n1/retire", {})
    assert (busy.status_code, busy.json()["code"]) == (409, "node_busy")
    n1.sync("n1", reports=[ended(1, job)])
    assert health(fresh, "n1") == "drained"
    second = alice.submit()
    assert operator.ok("POST", "/v1/nodes/n1/resume", {})["state"] == "idle"
    placed(fresh, second)
    assert operator.ok("POST", "/v1/nodes/n1/down", {"reason": "burnt"})["state"] == "down"
    again = operator("POST", "/v1/agents/n1/enrol", {})
    assert (again.status_code, again.json()["code"]) == (409, "node_exists")
    fresh.clock.advance(400)
    until(lambda: outcome(fresh, second) == "node_fail", "the job is given up")
    operator = fresh.operator
    assert operator.ok("POST", "/v1/nodes/n1/retire", {})["state"] == "retired"
    assert operator("GET", "/v1/nodes/n1").json()["code"] == "unknown_node"
    assert n1.sync("n1").status_code == 401
    new = fresh.node("n1", serial="S2", rack="r1")
    assert health(fresh, "n1") == "idle"
    assert operator.ok("GET", "/v1/nodes/n1")["serial"] == "S2"
    assert new.sync("n1").status_code == 200


def test_a_retired_nodes_poll_ends(fresh: Live) -> None:
    n1 = fresh.node("n1")
    poll = waiting(fresh, n1, "n1")
    fresh.operator.ok("POST", "/v1/nodes/n1/retire", {})
    assert poll.result(10).status_code == 404


def test_a_join_token_is_good_for_one_machine(fresh: Live) -> None:
    joiner = fresh.user("n5", "join")
    body = {"pool": "gpu", "features": ["a100"], "facts": {"cpus": 64, "memory_bytes": 2**38}}
    assert joiner("POST", "/v1/agents/n6/enrol", body).status_code == 403
    made = joiner.ok("POST", "/v1/agents/n5/enrol", body)
    assert joiner("POST", "/v1/agents/n5/enrol", body).status_code == 401
    agent = fresh.client(made["token"], "n5")
    facts = {"image": "i1", "kernel": "6.1", "packages_sha256": "ab"}
    assert agent.sync("n5", facts=facts).status_code == 200
    shown = fresh.operator.ok("GET", "/v1/nodes/n5")
    wanted = {"pool": "gpu", "features": ["a100"], "cpus": 64, "state": "idle", **facts}
    assert {k: shown[k] for k in wanted} == wanted
    assert fresh.operator.ok("PATCH", "/v1/nodes/n5", {"rack": "r9", "pool": "cpu"})["changed"]
    assert fresh.operator.ok("GET", "/v1/nodes/n5")["rack"] == "r9"


def test_a_master_that_lost_the_lead_tells_agents_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with live() as s:
        n1 = s.node("n1")
        poll = waiting(s, n1, "n1")
        monkeypatch.setattr(s.running.contacts, "_still_master", lambda: False)
        s.user("alice").submit()
        answer = poll.result(10)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_sync")
