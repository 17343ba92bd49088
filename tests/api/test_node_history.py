"""The past of nodes over HTTP: what everybody sees of it, and what is its owner's alone."""

import pytest

from ledger.commands import SYSTEM, NoteAbsence
from live import Live, until

from .acting import ended, placed, started


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """Two nodes; a job of alice's that failed on n1, and one like it that n2 completed."""
    agents = {name: service.node(name, rack="r1") for name in ("n1", "n2")}
    alice, operator = service.user("alice"), service.operator
    for number, (node, other) in enumerate((("n1", "n2"), ("n2", "n1"))):
        operator.ok("POST", f"/v1/nodes/{other}/drain", {"reason": "not now"})
        job = alice.submit(argv=["work"])
        assert placed(service, job) == (node,)
        end = ended(2, job) if number else ended(2, job, end="failed", exit_code=3)
        agents[node].sync(node, reports=[started(1, job), end])
        until(lambda j=job: not service.state(lambda c: c.jobs.get(j)), "it has ended")
        operator.ok("POST", f"/v1/nodes/{other}/resume", {})
    return service


def test_what_ran_there_and_where_it_succeeded_later(world: Live) -> None:
    for name in ("alice", "bob"):
        told = world.user(name).ok("GET", "/v1/nodes/n1/jobs")
        (run,) = told["attempts"]
        assert (run["job"], run["user"], run["outcome"], run["failed"]) == (
            *(1, "alice"),
            *("failed", True),
        )
        later = run["elsewhere"]
        mine = name == "alice"
        assert (run["exit_code"], run["cause"]) == ((3, "exit") if mine else (None, None))
        assert (later and later["job"]) == (2 if mine else None), (
            "what does the same work is private"
        )
    operator = world.operator
    assert operator.ok("GET", "/v1/nodes/n1/jobs?failed=true")["attempts"][0]["exit_code"] == 3
    assert operator.ok("GET", "/v1/nodes/n2/jobs?failed=true")["attempts"] == []


def test_states_have_their_causes(world: Live) -> None:
    operator, bob = world.operator, world.user("bob")
    for reason in ("new disk", "fan is loud", "new disk"):
        operator.ok("POST", "/v1/nodes/n2/drain", {"reason": reason})
    now, *_ = bob.ok("GET", "/v1/nodes/n2/history")["states"]
    assert (now["state"], now["until"]) == ("drained", None)
    assert [c["reason"] for c in now["drain"]] == ["new disk", "fan is loud"]
    assert {c["by"] for c in now["causes"]} == {operator.ok("GET", "/v1/whoami")["name"]}
    node = bob.ok("GET", "/v1/nodes/n2")
    assert [s["reason"] for s in node["said"]] == ["new disk", "fan is loud"]
    then = world.head
    operator.ok("POST", "/v1/nodes/n2/resume", {})
    assert bob.ok("GET", "/v1/nodes/n2")["said"] == []
    first, second, *_ = bob.ok("GET", "/v1/nodes/n2/history")["states"]
    assert (first["state"], second["state"]) == ("serving", "drained")
    assert bob.ok("GET", f"/v1/nodes/n2/history?at_position={then}")["states"][0] == now


def test_pages_of_states_and_attempts(world: Live) -> None:
    operator = world.operator
    for path, rows in (("history", "states"), ("jobs", "attempts")):
        whole = operator.ok("GET", f"/v1/nodes/n1/{path}")
        found, cursor = [], "0" if path == "history" else ""
        while True:
            page = operator.ok("GET", f"/v1/nodes/n1/{path}?limit=1&cursor={cursor}")
            found += page[rows]
            if page["next"] is None:
                break
            cursor = page["next"]
        assert found == whole[rows]


def test_who_is_suspect(world: Live) -> None:
    told = world.user("bob").ok("GET", "/v1/node-failures")["nodes"]
    assert told == [{"node": "n1", "ended": 1, "failed": 1, "elsewhere": 1, "users": 1}]


@pytest.mark.parametrize("path", ["history", "jobs"])
def test_a_node_that_never_was(world: Live, path: str) -> None:
    answer = world.operator("GET", f"/v1/nodes/n9/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_node")


def test_a_cursor_that_is_none(world: Live) -> None:
    for cursor in ("1", f"{2**63}.1.1", "a.b.c"):
        answer = world.operator("GET", f"/v1/nodes/n1/jobs?cursor={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (422, "malformed"), cursor


def test_the_queue_as_it_was(world: Live) -> None:
    operator, bob = world.operator, world.user("bob")
    operator.ok("POST", "/v1/nodes/n1/drain", {"reason": "so"})
    operator.ok("POST", "/v1/nodes/n2/drain", {"reason": "so"})
    bob.submit()
    then, now = world.head, bob.ok("GET", "/v1/queue?by=pool")
    bob.submit()
    told = bob.ok("GET", f"/v1/queue?by=pool&at_position={then}")
    assert (told["whole"], told["position"]) == (now["whole"], then)
    assert bob.ok("GET", "/v1/queue?by=pool")["whole"]["queued_jobs"] == 2
    world.clock.advance(1800)
    was = bob.ok("GET", f"/v1/demand?at_position={then}")
    assert was["until"] < bob.ok("GET", "/v1/demand")["until"], "not what came after"


def test_whom_the_masters_absence_hit(fresh: Live) -> None:
    fresh.follow()
    operator = fresh.operator
    until(lambda: operator("GET", "/v1/outages").is_success, "the tables are made")
    agent = fresh.node("n1")
    alice, bob = fresh.user("alice"), fresh.user("bob")
    nothing = operator.ok("GET", "/v1/impact?master=true")
    assert (nothing["users"], nothing["absences"], nothing["waiting"]) == ([], [], {})
    job = alice.submit()
    placed(fresh, job)
    assert agent.sync("n1", reports=[started(1, job)]).is_success
    bob.submit()
    gone = fresh.clock.now()
    fresh.clock.advance(100)
    fresh.ask(SYSTEM, NoteAbsence(since=gone))
    lost = ended(2, job, end="node_fail", cause="lease_expired", exit_code=None)
    assert agent.sync("n1", reports=[lost]).is_success
    until(lambda: not fresh.state(lambda c: c.jobs.get(job)), "it has ended")
    told = operator.ok("GET", "/v1/impact?master=true")
    (hit,) = told["users"]
    assert (hit["user"], [(j["job"], j["effect"]) for j in hit["jobs"]]) == (
        "alice",
        [(job, "lost")],
    )
    assert (told["waiting"], len(told["absences"])) == ({"bob": 1}, 1)
    own = bob.ok("GET", "/v1/impact?master=true")
    assert (own["users"], own["waiting"]) == ([], {"bob": 1})
    before = operator.ok("GET", "/v1/impact?master=true&until=2020-01-01T00:00:00Z")
    assert (before["users"], before["absences"]) == ([], [])
    assert operator("GET", "/v1/impact?master=true&nodes=n1").json()["code"] == "malformed"
