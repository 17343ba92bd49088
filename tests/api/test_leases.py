"""Leases, and nodes that come and go."""

import pytest

from ledger.events import NodeStateChanged
from ledger.wire import Facts, SyncRequest
from live import Live, live, until

from .acting import ended, has, health, orders, outcome, placed, started, waiting

# ── leases ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("E16", "F2")
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


def test_a_poll_ends_well_before_the_lease(fresh: Live) -> None:
    def patience(wait_s: float) -> float:
        who = {"protocol": 1, "spool": "s", "boot_id": "b", "build": "1", "facts": Facts()}
        ask = SyncRequest(**who, sent_ns=1, wait_s=wait_s)  # type: ignore[arg-type]
        return fresh.running.contacts._patience(ask)

    assert patience(3600.0) == 60
    fresh.operator.ok("PATCH", "/v1/policy", {"job_lease_s": 12})
    assert (patience(3600.0), patience(3.0)) == (4, 3)


def test_a_node_that_is_taken_for_silent_while_it_asks_is_in_contact_again(fresh: Live) -> None:
    """Else its call would be answered with orders for attempts that are about to be given up."""
    n1 = fresh.node("n1")
    poll = waiting(fresh, n1, "n1")
    head = fresh.head
    fresh.clock.advance(301)

    def causes() -> list[str]:
        found = [r.event for r in fresh.events(head)]
        return [e.cause for e in found if isinstance(e, NodeStateChanged)]

    until(lambda: causes()[:2] == ["silent", "returned"], "it is in contact again")
    assert not poll.done()


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


@pytest.mark.fault("E11")
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


@pytest.mark.fault("D2")
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
