"""Bad input gets one clear answer, costs bounded work, and leaves no trace in the log."""

import time
from typing import Any

import pytest

from hostile import Hostile, requests
from ledger.wire import SyncRequest
from live import Http, Live

FIELDS = {"type", "title", "status", "code", "detail", "hint", "request", "details"}


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """Job 1 is pending for good, node n1 is drained, nothing moves by itself."""
    service.node("n1")
    operator = service.operator
    operator.ok("POST", "/v1/nodes/n1/drain", {})
    assert service.user("alice").submit() == 1
    operator.ok("GET", "/v1/jobs?scope=all")
    return service


def sent(http: Http, bad: Hostile) -> Any:
    return http(bad.method, bad.path, content=bad.body, headers=bad.headers)


def fault(bad: Hostile, answer: Any, seconds: float) -> str:
    """What is wrong with the answer, in words; empty if nothing is."""
    if answer.is_success:
        return "" if bad.fine else f"was taken: {answer.status_code} {answer.text[:200]}"
    if not 400 <= answer.status_code < 500:
        return f"answered {answer.status_code}: {answer.text[:200]}"
    if answer.headers["content-type"] != "application/problem+json":
        return f"no problem but {answer.headers['content-type']}"
    problem = answer.json()
    if set(problem) != FIELDS or problem["status"] != answer.status_code:
        return f"not the shape of a problem: {problem}"
    if not problem["detail"] or not problem["hint"] or len(answer.text) > 4_000:
        return f"says too little or too much: {answer.text[:200]}"
    if problem["request"] != answer.headers["x-request-id"]:
        return "the request id is another"
    if not problem["detail"].isprintable():
        return f"repeats what nobody should print: {problem['detail']!r}"
    return f"took {seconds:.1f} s" if seconds > 3 else ""


@pytest.mark.fault("G5", "H3", "I5", "I7")
def test_each_hostile_request_gets_one_clear_answer(world: Live) -> None:
    found, count = {}, 0
    http, head = world.operator, world.head
    for bad in requests():
        began = time.monotonic()
        answer = sent(http, bad)
        seconds = time.monotonic() - began
        if wrong := fault(bad, answer, seconds):
            found[bad.name] = wrong
        if (moved := world.head) != head:
            if traces := world.since(head):
                found[f"{bad.name}, trace"] = f"left {traces}"
            head = moved
        count += 1
    assert found == {}
    assert count > 150
    assert http.ok("GET", "/v1/jobs/1")["state"] == "pending"


SYNC = {"protocol": 1, "spool": "s", "boot_id": "boot-1", "build": "test", "facts": {}}
REPORT = {"seq": 1, "kind": "ended", "job": 1, "attempt": 1, "end": "failed", "cause": "exit"}


@pytest.mark.parametrize(
    "said",
    [
        {"spool": "a\x00b"},
        {"spool": "x" * 301},
        {"boot_id": "\x1b[2J"},
        {"build": "\u202e"},
        {"facts": {"image": "a\nb"}},
        {"facts": {"kernel": 7}},
        {"facts": {"packages_sha256": "\ud800"}},
        {"protocol": "1"},
        {"protocol": 2**70},
        {"protocol": 0},
        {"sent_ns": "now"},
        {"wait_s": "long"},
        {"has": [{"job": 1, "attempt": 1, "phase": "dreaming"}]},
        {"has": [{"job": 1}]},
        {"has": {}},
        {"seen": []},
        {"reports": [REPORT | {"kind": "perhaps"}]},
        {"reports": [REPORT | {"end": "well"}]},
        {"reports": [REPORT | {"cause": "\x00"}]},
        {"reports": [REPORT | {"exit_code": 2**70}]},
        {"reports": [REPORT | {"ran_us": 2**63}]},
        {"reports": [REPORT | {"cpu_us": 2**53}]},
        {"reports": [REPORT | {"attempt": 2**64}]},
        {"reports": [REPORT | {"output": {"sha256": "\x00"}}]},
        {"reports": [REPORT | {"output": {"bytes": "many"}}]},
        {"reports": [{"seq": 1}]},
    ],
    ids=lambda said: str(said)[:40],
)
def test_a_hostile_agent_is_answered_as_clearly(world: Live, said: dict[str, Any]) -> None:
    http = world.user("n1", "node")
    head = world.head
    answer = http.sync("n1", **said)
    assert answer.status_code in (400, 422, 426), answer.text
    assert answer.json()["detail"]
    assert world.since(head) == []
    assert set(SYNC) <= set(SyncRequest.__struct_fields__)
