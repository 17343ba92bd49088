"""Submitting: one job, many, item by item; again under a key; too much, too wide, too soon."""

import json
from concurrent.futures import Future
from typing import Any

import pytest

from ledger.events import JobsSubmitted
from live import Http, Live, until

JOB = {"argv": ["/bin/true"]}
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def shared(service: Live) -> Live:
    """A pool whose one node is drained: it takes every job, and starts none."""
    service.node("n1")
    service.operator.ok("POST", "/v1/nodes/n1/drain", {})
    return service


@pytest.fixture
def alice(shared: Live) -> Http:
    return shared.user("alice")


def lines(*jobs: Any) -> bytes:
    return b"\n".join(json.dumps(job).encode() for job in jobs) + b"\n"


def code(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    told: str = answer.json()["code"]
    return told


def test_one_job_on_each_database(either: Live) -> None:
    either.node("n1")
    alice = either.user("alice")
    answer = alice("POST", "/v1/jobs", {**JOB, "name": "first"}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201
    told = answer.json()
    assert (told["first_job"], told["count"], told["repeated"]) == (1, 1, False)
    assert answer.headers["location"] == "/v1/jobs/1"
    again = alice("POST", "/v1/jobs", {**JOB, "name": "first"}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["first_job"]) == (200, 1)
    assert again.json()["repeated"] is True
    until(lambda: alice.ok("GET", "/v1/jobs/1")["state"] == "running", "it is placed")
    (submitted,) = [r for r in either.events() if isinstance(r.event, JobsSubmitted)]
    assert told["position"] >= submitted.position
    assert int(answer.headers["ledger-position"]) >= submitted.position


def test_a_thousand_in_one_request_each_way(alice: Http, shared: Live) -> None:
    jobs = [{**JOB, "name": f"j{i}"} for i in range(1000)]
    first = alice.ok("POST", "/v1/jobs", jobs)
    second = alice("POST", "/v1/jobs", content=lines(*jobs), headers=NDJSON).json()
    array = alice.ok("POST", "/v1/jobs", {**JOB, "array": "0-999"})
    for told in (first, second, array):
        assert told["count"] == 1000
    assert second["first_job"] == first["first_job"] + 1000
    assert alice.ok("GET", f"/v1/jobs/{second['first_job'] + 999}")["name"] == "j999"
    task = alice.ok("GET", f"/v1/jobs/{array['first_job']}_999")
    assert task["job"] == array["first_job"] + 999
    assert task["array"] == f"{array['first_job']}_999"
    for job, name in ((array["first_job"], f"{array['first_job']}_0"), (first["first_job"], "")):
        done = alice.ok("POST", f"/v1/jobs/{job}/cancel", {})
        assert (done["job"], done["array"], done["state"]) == (job, name, "cancelled")


def test_all_or_nothing(alice: Http, shared: Live) -> None:
    head = shared.head
    wide = {**JOB, "nodes": 7}
    assert code(alice("POST", "/v1/jobs", [JOB, wide, JOB]), 422) == "bad_constraints"
    assert code(alice("POST", "/v1/jobs", [JOB, {"argv": []}, JOB]), 422) == "malformed"
    answer = alice("POST", "/v1/jobs", content=lines(JOB, {"argv": 3}), headers=NDJSON)
    assert code(answer, 422) == "malformed"
    assert "Line 2" in answer.json()["detail"]
    assert shared.since(head) == []


@pytest.mark.parametrize("how", ["list", "lines"])
def test_item_by_item(alice: Http, shared: Live, how: str) -> None:
    items = [
        JOB,
        {**JOB, "nodes": 7},
        {"argv": "no"},
        {**JOB, "depends": [{"kind": "afterok", "job": 2**40}]},
        JOB,
        {**JOB, "array": "0-3"},
    ]
    body = json.dumps(items).encode() if how == "list" else lines(*items)
    headers = {"Idempotency-Key": f"each-{how}"}
    headers |= NDJSON if how == "lines" else {"Content-Type": "application/json"}
    answer = alice("POST", "/v1/jobs?items=each", content=body, headers=headers)
    assert answer.status_code == 201
    told = answer.json()
    assert (told["count"], told["items"]) == (2, [0, 4])
    refused = [(n["item"], n["code"]) for n in told["not_accepted"]]
    assert refused == [
        (1, "bad_constraints"),
        (2, "malformed"),
        (3, "unknown_job"),
        (5, "malformed"),
    ]
    assert all(n["sentence"] for n in told["not_accepted"])
    again = alice("POST", "/v1/jobs?items=each", content=body, headers=headers)
    assert again.status_code == 200
    assert (again.json()["first_job"], again.json()["items"]) == (told["first_job"], [0, 4])
    assert {n["code"] for n in again.json()["not_accepted"]} == {"not_accepted"}


def test_nothing_accepted_is_a_refusal_and_leaves_no_key(alice: Http, shared: Live) -> None:
    head = shared.head
    headers = {"Idempotency-Key": "nothing"}
    wide = [{**JOB, "nodes": 7}, {"argv": []}]
    answer = alice("POST", "/v1/jobs?items=each", wide, headers=headers)
    assert code(answer, 422) == "bad_constraints"
    assert shared.since(head) == []
    assert alice("POST", "/v1/jobs?items=each", [JOB], headers=headers).status_code == 201


def test_a_key_names_one_request_of_one_user(alice: Http, shared: Live) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = alice.ok("POST", "/v1/jobs", {**JOB, "name": "a"}, headers=headers)["first_job"]
    other_spelling = b'{ "name" : "\\u0061", "argv":["/bin/true"] , "nodes":1}'
    same = alice(
        "POST",
        "/v1/jobs",
        content=other_spelling,
        headers={**headers, "Content-Type": "application/json"},
    )
    assert (same.status_code, same.json()["first_job"]) == (200, first)
    head = shared.head
    for body in ({**JOB, "name": "b"}, {**JOB, "name": "a", "comment": "x"}, [JOB, JOB]):
        assert code(alice("POST", "/v1/jobs", body, headers=headers), 409) == "key_reused"
    assert shared.since(head) == []
    bob = shared.user("bob")
    assert bob.ok("POST", "/v1/jobs", {**JOB, "name": "b"}, headers=headers)["first_job"] > first
    elsewhere = shared.user("alice")
    assert (
        elsewhere.ok("POST", "/v1/jobs", {**JOB, "name": "a"}, headers=headers)["first_job"]
        == first
    )


def test_a_key_is_remembered_for_a_week_after_its_jobs_end(fresh: Live) -> None:
    fresh.node("n1")
    fresh.operator.ok("POST", "/v1/nodes/n1/drain", {})
    alice = fresh.user("alice")
    headers = {"Idempotency-Key": "weekly"}
    first = alice.ok("POST", "/v1/jobs", JOB, headers=headers)["first_job"]
    fresh.operator.ok("POST", f"/v1/jobs/{first}/cancel", {})
    fresh.clock.advance(6 * 86_400)
    alice = fresh.user("alice")
    assert alice.ok("POST", "/v1/jobs", JOB, headers=headers)["first_job"] == first
    fresh.clock.advance(86_401)
    alice = fresh.user("alice")
    alice.submit(name="something happens")
    assert alice.ok("POST", "/v1/jobs", JOB, headers=headers)["first_job"] > first


def test_many_at_once_under_one_key_are_one(shared: Live) -> None:
    clients = [shared.user("carol") for _ in range(8)]
    headers = {"Idempotency-Key": "race"}
    asked: list[Future[Any]] = [
        shared.beside(c, "POST", "/v1/jobs", JOB, headers=headers) for c in clients
    ]
    answers = [a.result(30) for a in asked]
    assert sorted(a.status_code for a in answers) == [200] * 7 + [201]
    assert len({a.json()["first_job"] for a in answers}) == 1


def test_limits(fresh: Live) -> None:
    fresh.node("n1")
    fresh.operator.ok("POST", "/v1/nodes/n1/drain", {})
    fresh.operator.ok("PATCH", "/v1/policy", {"max_jobs_per_user": 3, "max_time_limit_s": 100})
    alice = fresh.user("alice")
    soon = {**JOB, "time_limit_s": 100}
    alice.ok("POST", "/v1/jobs", [soon, soon])
    head = fresh.head
    answer = alice("POST", "/v1/jobs", [soon, soon])
    assert code(answer, 429) == "too_many_jobs"
    assert answer.json()["details"] == {"limit": 3, "present": 2}
    assert int(answer.headers["retry-after"]) >= 1
    assert code(alice("POST", "/v1/jobs", {**soon, "array": "1-2"}), 429) == "too_many_jobs"
    assert code(alice("POST", "/v1/jobs", {**soon, "time_limit_s": 101}), 422) == "bad_constraints"
    assert fresh.since(head) == []
    told = alice.ok("POST", "/v1/jobs?items=each", [soon, soon])
    assert (told["count"], told["not_accepted"][0]["code"]) == (1, "too_many_jobs")
    assert fresh.user("bob").submit(time_limit_s=1)


def test_refused_demand_is_recorded_once_a_minute(fresh: Live) -> None:
    fresh.node("n1")
    fresh.operator.ok("POST", "/v1/nodes/n1/drain", {})
    alice, bob = fresh.user("alice"), fresh.user("bob")
    fresh.clock.advance_to_minute()
    until(lambda: fresh.running.refused.due(fresh.clock.now()) == [], "a minute has begun")
    for _ in range(3):
        alice("POST", "/v1/jobs", {**JOB, "nodes": 9, "account": "physics", "time_limit_s": 10})
    bob("POST", "/v1/jobs", {**JOB, "nodes": 9, "array": "0-9", "time_limit_s": 10})
    bob("POST", "/v1/jobs", {"argv": 7})  # not understood: no demand
    bob("POST", "/v1/jobs", {**JOB, "depends": [{"kind": "afterok", "job": 99}]})
    head = fresh.head
    fresh.clock.advance(60)

    told = until(lambda: fresh.refused(head), "the minute's refused demand is recorded")
    found = [(e.user, e.account, e.code, e.requests, e.jobs, e.node_seconds) for e in told]
    assert found == [
        ("alice", "physics", "bad_constraints", 3, 3, 270),
        ("bob", "", "bad_constraints", 1, 10, 900),
    ]


def test_what_a_job_may_wait_for(alice: Http, shared: Live) -> None:
    first = alice.submit(held=True)
    second = alice.submit(depends=[{"kind": "afterok", "job": first}])
    assert alice.ok("GET", f"/v1/jobs/{second}")["reason"] == "Dependency"
    head = shared.head
    for job in (second + 1, 2**53):
        answer = alice("POST", "/v1/jobs", {**JOB, "depends": [{"kind": "afterok", "job": job}]})
        assert code(answer, 404) == "unknown_job"
    assert shared.since(head) == []
    late = alice.submit(begin_at="2090-01-01T00:00:00+01:00")
    shown = alice.ok("GET", f"/v1/jobs/{late}")
    assert (shown["begin_at"], shown["reason"]) == ("2089-12-31T23:00:00Z", "BeginTime")
    exact = alice.submit(begin_at="2090-01-01T00:00:00.123457Z")
    assert alice.ok("GET", f"/v1/jobs/{exact}")["begin_at"] == "2090-01-01T00:00:00.123457Z"


def test_the_words_come_back_as_they_were(alice: Http) -> None:
    said = {
        "name": "naïve 名前",
        "argv": ["/bin/echo", "a b", "", "\ttab\nline", "é"],
        "script": '#!/bin/sh\r\necho "$1"\n',
        "workdir": "/scratch/x",
        "output_path": "/scratch/y",
        "comment": "two\nlines",
        "account": "physics",
        "restartable": True,
        "time_limit_s": 77,
    }
    shown = alice.ok("GET", f"/v1/jobs/{alice.submit(**said)}")
    assert {k: shown[k] for k in said} == said


@pytest.mark.fault("I5")
def test_sizes(alice: Http, shared: Live) -> None:
    head = shared.head
    many = b"[" + b",".join([b'{"argv":["x"]}'] * 10_001) + b"]"
    json_type = {"Content-Type": "application/json"}
    for query in ("", "?items=each"):
        answer = alice("POST", f"/v1/jobs{query}", content=many, headers=json_type)
        assert code(answer, 413) == "too_large"
        flat = alice("POST", f"/v1/jobs{query}", content=lines(*[JOB] * 10_001), headers=NDJSON)
        assert code(flat, 413) == "too_large"
    big = json.dumps({**JOB, "comment": "x" * (16 << 20)}).encode()
    assert code(alice("POST", "/v1/jobs", content=big, headers=json_type), 413) == "too_large"
    assert code(alice("POST", "/v1/jobs", {**JOB, "array": "0-10000"}), 422) == "malformed"
    assert shared.since(head) == []
    most = alice.ok(
        "POST", "/v1/jobs", [{**JOB, "exclude": [f"n{i}" for i in range(2, 200)]}] * 3000
    )
    assert most["count"] == 3000  # more than one event can hold


def test_faults_without_number_cost_little(alice: Http, shared: Live) -> None:
    head = shared.head
    zeros = b"[" + b"0," * 4_000_000 + b"0]"
    keys = b"{" + b",".join(b'"%x":0' % i for i in range(500_000)) + b"}"
    words = b'{"argv":[' + b"0," * 4_000_000 + b"0]}"
    for body in (zeros, keys, words):
        for query in ("", "?items=each"):
            answer = alice(
                "POST",
                f"/v1/jobs{query}",
                content=body,
                timeout=5,
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code in (413, 422)
            assert len(answer.text) < 3000
    assert shared.since(head) == []
