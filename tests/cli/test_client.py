"""The client: what it sends, what it repeats, and under which key."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import stamina

from ledger.client import AsyncClient, Client, NotUnderstood, Refused, Unreachable
from ledger.models import JobIn

MADE = {"first_job": 17, "count": 1, "position": 4}
JOB = JobIn(argv=("true",))
Answers = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Repetitions without pauses, at most five."""
    stamina.set_testing(True, attempts=5)
    yield
    stamina.set_testing(False)


def client(answer: Answers, url: str = "http://jobledger") -> Client:
    return Client(url, "secret", transport=httpx2.MockTransport(answer))


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    body = {
        "type": f"urn:jobledger:{code}",
        "title": code,
        "status": status,
        "code": code,
        "detail": f"It is {code}.",
        "hint": "Do something.",
        "request": "r1",
        "details": {"limit": 3},
    }
    return httpx2.Response(status, json=body, headers=headers)


@pytest.mark.fault("A3")
def test_a_lost_reply_is_repeated_under_the_same_key_and_body() -> None:
    seen: list[tuple[str, str, bytes]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = request.headers
        seen.append((headers["Idempotency-Key"], headers["X-Request-Id"], request.content))
        if len(seen) < 3:  # the request arrives, its reply does not
            raise httpx2.ReadError("connection reset", request=request)
        return httpx2.Response(200, json=MADE | {"repeated": True})

    made = client(answer).submit(JOB)
    assert (made.first_job, made.repeated) == (17, True)
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_two_submissions_have_two_keys() -> None:
    keys = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx2.Response(201, json=MADE)

    with client(answer) as c:
        c.submit(JOB)
        c.submit(JOB)
        c.submit(JOB, key="mine")
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_every_request_says_who_and_from_where() -> None:
    seen: list[httpx2.Headers] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers)
        return httpx2.Response(200, json={"name": "anna", "role": "user", "how": "token"})

    client(answer).whoami()
    assert seen[0]["Authorization"] == "Bearer secret"
    assert {"x-request-id", "x-jobledger-build", "x-jobledger-machine"} <= set(seen[0])


@pytest.mark.parametrize(
    ("status", "code", "headers", "tries"),
    [
        (503, "outcome_unknown", {}, 5),
        (503, "not_ready", {"Retry-After": "1"}, 5),
        (502, "x", {}, 5),
        (504, "x", {}, 5),
        (429, "too_busy", {"Retry-After": "1"}, 5),
        (429, "too_busy", {}, 1),
        (429, "too_many_jobs", {"Retry-After": "1"}, 1),
        (400, "not_json", {}, 1),
        (401, "unauthenticated", {}, 1),
        (403, "forbidden", {}, 1),
        (404, "unknown_job", {}, 1),
        (409, "key_reused", {}, 1),
        (422, "bad_constraints", {}, 1),
        (500, "crash", {}, 1),
        (507, "storage_full", {}, 1),
    ],
)
def test_only_what_may_help_is_repeated(
    status: int, code: str, headers: dict[str, str], tries: int
) -> None:
    count = 0

    def answer(_: httpx2.Request) -> httpx2.Response:
        nonlocal count
        count += 1
        return problem(status, code, **headers)

    with pytest.raises(Refused) as caught:
        client(answer).submit(JOB)
    assert count == tries
    refused = caught.value
    assert (refused.status, refused.code, refused.sentence) == (status, code, f"It is {code}.")
    assert (refused.hint, refused.request) == ("Do something.", "r1")
    assert refused.details == {"limit": 3}


def test_an_absent_socket_is_named(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/none.sock") as c, pytest.raises(Unreachable) as caught:
        c.whoami()
    assert str(tmp_path) in caught.value.sentence
    assert "jobledger up" in caught.value.hint


def test_another_program_is_noticed() -> None:
    with pytest.raises(NotUnderstood):
        client(lambda _: httpx2.Response(200, text="<html>")).whoami()
    with pytest.raises(NotUnderstood):
        client(lambda _: httpx2.Response(404, text="no such page")).whoami()


def test_a_proxys_own_503_is_repeated() -> None:
    answers = iter([httpx2.Response(503, text="<html>"), httpx2.Response(201, json=MADE)])
    assert client(lambda _: next(answers)).submit(JOB).first_job == 17


def test_many_jobs_are_lines() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(201, json=MADE | {"count": 2})

    client(answer).submit([JOB, JobIn(argv=("false",), nodes=2)], each=True)
    assert seen[0].headers["Content-Type"] == "application/x-ndjson"
    assert seen[0].url.params["items"] == "each"
    lines = [json.loads(line) for line in seen[0].content.splitlines()]
    assert lines == [{"argv": ["true"]}, {"argv": ["false"], "nodes": 2}]


def test_a_broken_stream_goes_on_where_it_was() -> None:
    afters = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        afters.append(request.url.params["after"])
        if len(afters) == 1:

            def broken() -> Iterator[bytes]:
                yield b'{"position":2}\n\n{"position":3}\n'
                raise httpx2.ReadError("gone", request=request)

            return httpx2.Response(200, content=broken())
        return httpx2.Response(200, content=b'{"position":5}\n')

    assert [e["position"] for e in client(answer).events()] == [2, 3, 5]
    assert afters == ["0", "3"]


def test_waiting_asks_until_the_job_has_ended() -> None:
    states = iter(["pending", "running", "completed"])

    def answer(_: httpx2.Request) -> httpx2.Response:
        body = {
            "job": 17,
            "user": "anna",
            "account": "",
            "pool": "default",
            "nodes_wanted": 1,
            "state": next(states),
            "time_limit_s": 60,
            "restartable": False,
            "submitted_at": "2026-11-20T10:00:00Z",
        }
        return httpx2.Response(200, json=body)

    assert client(answer).wait("17").state == "completed"


def test_the_other_client_repeats_the_same_way() -> None:
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["Idempotency-Key"] + request.headers["Authorization"])
        if len(keys) == 1:
            raise httpx2.ReadTimeout("late", request=request)
        return httpx2.Response(201, json=MADE)

    async def submit() -> int:
        async with AsyncClient("http://x", transport=httpx2.MockTransport(answer)) as c:
            return (await c.speaking_as("other").submit(JOB)).first_job

    assert asyncio.run(submit()) == 17
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert keys[0].endswith("Bearer other")
