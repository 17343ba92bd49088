"""Events of a job, the stream of all events, and what attempts print: read, followed, written."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

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


def test_a_job_that_printed_nothing_has_empty_output(world: Live, running: int) -> None:
    report = ended(7, running) | {"output": {"bytes": 0}}
    agent_of(world).sync("b1", reports=[report])
    assert read(world.user("alice"), running) == ("", 0, True)


def test_output_that_is_not_kept(world: Live) -> None:
    alice = world.user("alice")
    job = alice.submit(pool="still")
    assert read(alice, job) == ("", 0, False)
    alice.ok("POST", f"/v1/jobs/{job}/cancel", {})
    assert alice("GET", f"/v1/jobs/{job}/output").json()["code"] == "no_output"
    assert alice("GET", f"/v1/jobs/{2**40}/output").json()["code"] == "unknown_job"
