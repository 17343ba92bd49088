"""What is answered: lists and pages, reasons, waits, events as lines and as a stream, output."""

import re
from collections.abc import Iterator

import pytest

from ledger.api import history
from live import Http, Live, until

from .acting import agent_of, cluster, ended, placed

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    return cluster(service)


@pytest.fixture
def running(world: Live) -> Iterator[int]:
    """A job of alice's that runs on b1; it is brought to an end afterwards."""
    job = world.user("alice").submit(pool="busy", name="runner", restartable=True)
    placed(world, job)
    yield job
    if world.state(lambda c: job in c.jobs):
        n = world.state(lambda c: c.jobs[job].attempts)
        agent_of(world).sync("b1", reports=[ended(900 + job, job, n)])


# ── lists ────────────────────────────────────────────────────────────────────────────────────────


def listed(http: Http, query: str) -> list[int]:
    return [job["job"] for job in http.ok("GET", f"/v1/jobs?{query}")["jobs"]]


def test_filters(world: Live, running: int) -> None:
    ann, ben = world.user("ann"), world.user("ben")
    a = ann.submit(pool="still", account="physics", name="one")
    b = ann.submit(pool="still", account="biology")
    c = ben.submit(pool="still", account="physics", name="one")
    every = {"ann": [a, b], "ben": [c]}
    for user, jobs in every.items():
        assert listed(ann, f"user={user}") == jobs
    assert listed(ann, "account=physics&pool=still") == [a, c]
    assert listed(ann, "name=one") == [a]  # others' names are not to be found out
    assert listed(world.operator, "name=one") == [a, c]
    assert listed(ann, "node=b1") == [running]
    assert listed(ann, "state=running") == [running]
    assert running in listed(ann, "state=running,pending&pool=busy")
    assert listed(ann, "state=failed") == []
    at = ann.ok("GET", f"/v1/jobs/{b}")["submitted_at"]
    for scope in ("live", "all"):  # a was there still, b not yet
        assert listed(ann, f"user=ann&since={at}&scope={scope}") == [a, b]
        assert listed(ann, f"user=ann&until={at}&scope={scope}") == [a]
    assert listed(ann, "user=ann&pool=nowhere") == []


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("scope", ["live", "all"])
def test_pages(world: Live, order: str, scope: str) -> None:
    dora = world.user("dora")
    first = dora.ok("POST", "/v1/jobs", [{"argv": ["x"], "pool": "still"}] * 7)["first_job"]
    wanted = sorted(
        (j["job"] for j in dora.ok("GET", "/v1/jobs?user=dora&limit=10000")["jobs"]),
        reverse=order == "desc",
    )
    assert first in wanted
    found: list[int] = []
    cursor, pages = "", 0
    while cursor is not None:
        query = f"scope={scope}&user=dora&limit=3&order={order}&cursor={cursor}"
        page = dora.ok("GET", f"/v1/jobs?{query}")
        assert len(page["jobs"]) <= 3
        found += [job["job"] for job in page["jobs"]]
        cursor, pages = page["next"], pages + 1
    assert found == wanted
    assert pages == -(-len(wanted) // 3)


# ── why ──────────────────────────────────────────────────────────────────────────────────────────


def test_why_names_each_reason(world: Live, running: int) -> None:
    alice, operator = world.user("alice"), world.operator
    mine = alice.submit(pool="busy")
    after = alice.submit(pool="still", depends=[{"kind": "afterok", "job": running}])
    held = alice.submit(pool="still", held=True)
    admin = alice.submit(pool="still")
    operator.ok("POST", f"/v1/jobs/{admin}/hold", {"note": "look first"})
    later = alice.submit(pool="still", begin_at="2090-01-01T00:00:00Z")
    drained = alice.submit(pool="still")
    behind = alice.submit(pool="busy")
    reasons = {
        mine: "Resources",
        behind: "Priority",
        after: "Dependency",
        held: "JobHeldUser",
        admin: "JobHeldAdmin",
        later: "BeginTime",
        drained: "ReqNodeNotAvail",
    }
    for job, token in reasons.items():
        told = alice.ok("GET", f"/v1/jobs/{job}/why")
        assert (told["reason"], told["state"]) == (token, "pending"), told
        assert told["sentence"].startswith(f"Job {job} ")
        assert told["sentence"].endswith(".")
        assert told["position"] <= world.head
        assert alice.ok("GET", f"/v1/jobs/{job}")["reason"] == token
    told = alice.ok("GET", f"/v1/jobs/{behind}/why")
    assert told["ahead"] == 1
    assert told["ahead_jobs"] == [mine]
    for job in (mine, behind):
        alice.ok("POST", f"/v1/jobs/{job}/cancel", {})


def test_why_of_what_does_not_wait(world: Live, running: int) -> None:
    alice = world.user("alice")
    assert alice.ok("GET", f"/v1/jobs/{running}/why")["state"] == "running"
    over = alice.submit(pool="still")
    alice.ok("POST", f"/v1/jobs/{over}/cancel", {})
    answer = alice("GET", f"/v1/jobs/{over}/why")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_ended")
    assert "cancelled" in answer.json()["detail"]
    assert alice("GET", f"/v1/jobs/{2**40}/why").json()["code"] == "unknown_job"


# ── waiting for an end ───────────────────────────────────────────────────────────────────────────


def test_wait_answers_when_the_job_ends(world: Live, running: int) -> None:
    alice, bob = world.user("alice"), world.user("bob")
    waits = [world.beside(h.ok, "GET", f"/v1/jobs/{running}/wait") for h in (alice, bob)]
    until(lambda: len(world.running.bells._waiting.get(running, ())) == 2, "both wait")
    assert not any(wait.done() for wait in waits)
    report = ended(1, running, end="failed", exit_code=3)
    assert agent_of(world).sync("b1", reports=[report]).json()["acked"] == [1]
    told, others = (wait.result(10) for wait in waits)
    assert (told["state"], told["exit_code"], told["cause"]) == ("failed", 3, "exit")
    assert told["nodes"] == ["b1"]
    assert told["ended_at"] is not None
    assert (others["state"], others["exit_code"], others["name"]) == ("failed", None, None)
    assert world.running.bells._waiting == {}
    assert world.running.bells.ends == {}


def test_wait_answers_as_it_is_then(world: Live) -> None:
    """What was pending when the waiting began, and runs when it is over, is running."""
    alice = world.user("alice")
    job = alice.submit(pool="busy", held=True)
    wait = world.beside(alice.ok, "GET", f"/v1/jobs/{job}/wait?timeout_s=0.5")
    until(lambda: world.running.bells._waiting.get(job), "it waits")
    world.user("alice").ok("POST", f"/v1/jobs/{job}/release", {})
    placed(world, job)
    assert wait.result(10)["state"] == "running"
    agent_of(world).sync("b1", reports=[ended(2, job)])
    ok = alice.ok("GET", f"/v1/jobs/{job}/wait")
    assert (ok["state"], ok["exit_code"]) == ("completed", 0)
    assert alice("GET", f"/v1/jobs/{2**40}/wait").json()["code"] == "unknown_job"


def test_a_requeue_is_not_an_end(world: Live, running: int) -> None:
    alice = world.user("alice")
    wait = world.beside(alice.ok, "GET", f"/v1/jobs/{running}/wait")
    until(lambda: world.running.bells._waiting.get(running), "it waits")
    world.user("alice").ok("POST", f"/v1/jobs/{running}/requeue", {})
    report = ended(3, running, end="stopped", cause="stopped", exit_code=None)
    agent_of(world).sync("b1", reports=[report])
    until(lambda: world.state(lambda c: c.jobs[running].attempts) == 2, "the second attempt")
    assert not wait.done()
    agent_of(world).sync("b1", reports=[ended(4, running, 2)])
    assert wait.result(10)["attempt"] == 2


# ── headers and request ids ──────────────────────────────────────────────────────────────────────


def test_one_request_id_from_the_client_to_the_event(world: Live) -> None:
    alice = world.user("alice")
    headers = {
        "X-Request-Id": "from-the-client-7",
        "X-Jobledger-Machine": "login1",
        "X-Jobledger-Build": "test 1",
        "Content-Type": "application/json",
    }
    head = world.head
    answer = alice("POST", "/v1/jobs", {"argv": ["x"], "pool": "still"}, headers=headers)
    assert answer.headers["x-request-id"] == "from-the-client-7"
    (recorded,) = world.events(head)
    assert recorded.envelope.request == "from-the-client-7"
    via = recorded.envelope.via
    assert (via.machine, via.build, via.peer) == ("login1", "test 1", "127.0.0.1")
    shown = alice.ok("GET", f"/v1/jobs/{answer.json()['first_job']}")
    assert shown["request"] == "from-the-client-7"
    strange = alice("GET", "/v1/jobs", headers={"X-Request-Id": "a b/../c"})
    assert strange.headers["x-request-id"] != "a b/../c"
    refused = alice("GET", "/v1/jobs/0", headers={"X-Request-Id": "r9"})
    assert refused.json()["request"] == refused.headers["x-request-id"] == "r9"


def test_every_answer_says_as_of_when_it_is(world: Live) -> None:
    operator = world.operator
    for path in ("/healthz", "/v1/jobs", "/v1/nodes", "/v1/jobs/0", "/nothing", "/metrics"):
        answer = operator("GET", path)
        assert int(answer.headers["ledger-position"]) == world.head
        assert int(answer.headers["ledger-lag"]) == 0
        assert answer.headers["jobledger-epoch"] == "1"
        assert answer.headers["cache-control"] == "no-store"
    told = operator.ok("GET", "/v1/log/head")
    assert told["position"] == world.head
    assert told["incarnation"] == world.running.master.log.incarnation


def test_metrics_count(world: Live) -> None:
    before = world.operator("GET", "/metrics").text
    world.user("alice").submit(pool="still")
    after = world.operator("GET", "/metrics").text
    value = {
        t: float(line.split()[-1])
        for t in (before, after)
        for line in t.splitlines()
        if line.startswith('jobledger_jobs{state="pending"}')
    }
    assert value[after] == value[before] + 1
    assert f"jobledger_log_position {world.head:.1f}" in after


def test_a_method_that_is_not_there_is_told_all_that_are(world: Live) -> None:
    for path, operations in world.operator.ok("GET", "/v1/openapi.json")["paths"].items():
        answer = world.operator("OPTIONS", re.sub("{.*?}", "1", path))
        assert answer.status_code == 405, path
        assert answer.headers["allow"].split(", ") == sorted(map(str.upper, operations)), path


def test_a_fault_of_ours_is_a_problem_like_any(
    world: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str) -> int:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(history, "micros", broken)
    answer = world.operator("GET", "/v1/usage")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], "secret" in answer.text) == ("internal", False)
    assert answer.json()["request"] == answer.headers["x-request-id"]
    monkeypatch.undo()
    assert world.operator("GET", "/v1/usage").status_code == 200


def test_a_task_that_is_none_is_not_there_whatever_is_asked_of_it(world: Live) -> None:
    for action in ("cancel", "hold", "release", "requeue"):
        answer = world.operator("POST", f"/v1/jobs/96495201965658_8526955/{action}", {})
        assert answer.status_code == 404, answer.text


def test_a_position_that_is_none_is_refused_where_it_would_not_matter(world: Live) -> None:
    for path in ("/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/events", "/v1/jobs/1/wait", "/v1/impact"):
        assert world.operator("GET", f"{path}?at_least=soon").status_code == 422, path
