"""What is answered: lists and pages, reasons, waits, events as lines and as a stream, output."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from live import Http, Live, until

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """A pool `still` whose node is drained, a pool `busy` with one node that takes jobs."""
    service.node("s1", pool="still")
    service.operator.ok("POST", "/v1/nodes/s1/drain", {})
    service.agent = service.node("b1", pool="busy")  # type: ignore[attr-defined]
    return service


def agent_of(world: Live) -> Http:
    found: Http = world.agent  # type: ignore[attr-defined]
    return found


def ended(seq: int, job: int, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """An agent's report of an end."""
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


def placed(world: Live, job: int) -> None:
    until(lambda: world.state(lambda c: c.jobs[job].attempt is not None), f"job {job} is placed")


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
    assert listed(ann, f"user=ann&since={at}") == [b]
    assert listed(ann, f"user=ann&until={at}") == [a]
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
    assert answer.status_code in (404, 409)
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


# ── events ───────────────────────────────────────────────────────────────────────────────────────


def test_a_jobs_events_are_all_that_happened_to_it(world: Live, running: int) -> None:
    alice = world.user("alice")
    agent_of(world).sync(
        "b1",
        reports=[{"seq": 5, "kind": "started", "job": running, "attempt": 1}, ended(6, running)],
    )
    answer = alice("GET", f"/v1/jobs/{running}/events")
    assert answer.headers["content-type"] == "application/x-ndjson"
    told = [json.loads(line) for line in answer.text.splitlines()]
    assert [e["name"].split(".v")[0] for e in told] == [
        "job.submitted",
        "attempt.placed",
        "attempt.started",
        "attempt.ended",
    ]
    assert set(told[0]) == {
        "position",
        "commit",
        "at",
        "epoch",
        "stream",
        "name",
        "by",
        "via",
        "request",
        "event",
    }
    assert [e["by"] for e in told] == ["alice", "system", "b1", "b1"]
    assert [e["position"] for e in told] == sorted({e["position"] for e in told})


def test_an_arrays_task_tells_its_submission_too(world: Live) -> None:
    alice = world.user("alice")
    first = alice.submit(pool="still", array="5,7")
    alice.ok("POST", f"/v1/jobs/{first}_7/hold", {"note": "n"})
    for name in (f"{first}_7", str(first + 1)):
        told = [json.loads(x) for x in alice("GET", f"/v1/jobs/{name}/events").text.splitlines()]
        assert [e["name"].split(".v")[0] for e in told] == ["job.submitted", "job.held"]


def frames(text: str) -> list[dict[str, str]]:
    """Server-sent events, comments left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if fields:
            found.append(fields)
    return found


def test_the_stream_of_events_from_any_position(world: Live) -> None:
    operator = world.operator
    whole = [json.loads(x) for x in operator("GET", "/v1/events").text.splitlines()]
    assert [e["position"] for e in whole] == [r.position for r in world.events()]
    for after in (0, 1, 2, 5, whole[-2]["position"], whole[-1]["position"], 10**9):
        rest = [
            json.loads(x) for x in operator("GET", f"/v1/events?after={after}").text.splitlines()
        ]
        assert rest == [e for e in whole if e["position"] > after]


class Following:
    """A server-sent stream, read in another thread."""

    def __init__(self, world: Live, **headers: str) -> None:
        self.text = ""
        self.closed = False
        self._operator = world.operator
        self._headers = {**SSE, **headers}
        self.done = world.beside(self._read)

    def _read(self) -> None:
        with self._operator.client.stream("GET", "/v1/events", headers=self._headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for piece in answer.iter_text():
                self.text += piece
                if self.closed:
                    return

    def positions(self) -> list[int]:
        return [int(f["id"]) for f in frames(self.text.rpartition("\n\n")[0])]


def test_followers_see_new_events_and_go_on_where_they_were(world: Live) -> None:
    alice = world.user("alice")
    head = world.head
    following = Following(world, **{"Last-Event-ID": str(head)})
    first = alice.submit(pool="still", name="seen")
    until(lambda: len(following.positions()) == 1, "the follower sees it")
    (frame,) = frames(following.text)
    data = json.loads(frame["data"])
    assert frame["event"] == data["name"]
    assert (int(frame["id"]), data["event"]["first_job"]) == (data["position"], first)
    again = Following(world, **{"Last-Event-ID": str(data["position"])})
    following.closed = again.closed = True
    alice.submit(pool="still")
    for f in (following, again):
        f.done.result(10)
    assert len(following.positions()) == 2
    assert again.positions() == following.positions()[1:]


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


# ── output ───────────────────────────────────────────────────────────────────────────────────────


def read(http: Http, job: int, **query: Any) -> tuple[str, int, bool]:
    answer = http("GET", f"/v1/jobs/{job}/output", params=query)
    assert answer.is_success, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    ended = {"true": True, "false": False}[answer.headers["output-ended"]]
    return answer.text, int(answer.headers["output-next-offset"]), ended


def test_output_from_chunk_to_reader(world: Live, running: int) -> None:
    agent, alice = agent_of(world), world.user("alice")
    path = f"/v1/agents/b1/output/{running}/1"
    assert read(alice, running) == ("", 0, False)
    assert agent("POST", path, content=b"hello ").json() == {"size": 6}
    assert agent("POST", path + "?offset=6", content=b"world").json() == {"size": 11}
    assert agent("POST", path + "?offset=6", content=b"world").json() == {"size": 11}
    gap = agent("POST", path + "?offset=20", content=b"!")
    assert (gap.status_code, gap.json()["details"]["size"]) == (422, 11)
    assert read(alice, running) == ("hello world", 11, False)
    assert read(alice, running, offset=6) == ("world", 11, False)
    waiting = world.beside(read, alice, running, offset=11, wait_s=20)
    until(lambda: world.running.bells._waiting.get(running), "the reader waits")
    agent("POST", path + "?offset=11", content=b"!\n")
    assert waiting.result(10) == ("!\n", 13, False)
    last = world.beside(read, world.user("alice"), running, offset=13, wait_s=20)
    until(lambda: world.running.bells._waiting.get(running), "the reader waits")
    agent.sync("b1", reports=[ended(7, running)])
    assert last.result(10) == ("", 13, True)
    assert world.user("bob")("GET", f"/v1/jobs/{running}/output").status_code == 403


def test_only_the_leader_of_an_attempt_writes_its_output(world: Live, running: int) -> None:
    agent, other = agent_of(world), world.node("b2", pool="other")
    mine = f"/v1/agents/b1/output/{running}/1"
    theirs = f"/v1/agents/b2/output/{running}/1"
    assert agent("POST", mine, content=b"true").status_code == 200
    assert other("POST", theirs, content=b"lies").status_code == 403
    assert other("POST", mine, content=b"lies").status_code == 403
    agent.sync("b1", reports=[ended(8, running)])
    assert other("POST", theirs, content=b"lies").status_code == 403  # nor when it is over
    assert agent("POST", mine + "?offset=4", content=b" to the end").status_code == 200
    assert agent("POST", f"/v1/agents/b1/output/{running}/2", content=b"x").status_code == 403
    assert agent("POST", f"/v1/agents/b1/output/{2**40}/1", content=b"x").status_code == 422
    assert agent("POST", mine, content=b"x" * ((4 << 20) + 1)).status_code == 413
    assert read(world.user("alice"), running)[0] == "true to the end"


def test_output_that_is_not_kept(world: Live) -> None:
    alice = world.user("alice")
    job = alice.submit(pool="still")
    assert read(alice, job) == ("", 0, False)
    alice.ok("POST", f"/v1/jobs/{job}/cancel", {})
    assert alice("GET", f"/v1/jobs/{job}/output").json()["code"] == "no_output"
    assert alice("GET", f"/v1/jobs/{2**40}/output").json()["code"] == "unknown_job"
