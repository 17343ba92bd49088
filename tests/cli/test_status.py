"""`status`: whom it asks, what it says, how it ends."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from .conftest import Call

MASTER, FOLLOW = "jobledger", "board"
WELL = {
    "told_by": "master",
    "sentence": "The service works.",
    "well": True,
    "accepting": True,
    "starting": True,
    "warnings": [],
    "counted_at": "2026-11-20T10:00:00Z",
    "pending": 7,
    "running": 2,
    "nodes": 4,
    "in_service": 3,
    "lost": 1,
    "projections": [
        {
            "projection": "jobs",
            "version": 1,
            "state": "behind",
            "position": 5,
            "lag_events": 12,
            "lag_s": 3.04,
        }
    ],
    "backups": {"age_s": 7200.0, "every_s": 3600, "warning": "old"},
    "position": 17,
    "written_at": "2026-11-20T10:00:00Z",
    "epoch": 3,
    "build": "1.2.3",
}
AWAY = {
    "told_by": "follow",
    "sentence": "The master does not answer.",
    "well": False,
    "accepting": False,
    "master_silent_since": "2026-11-20T10:05:00Z",
}
Answers = dict[str, Any]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What is answered at each host; a host that is not in it does not answer."""
    made: Answers = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/status"
        if request.url.host not in made:
            raise httpx2.ConnectError("refused")
        status, body = made[request.url.host]
        return httpx2.Response(status, json=body)

    transport: Callable[..., Any] = lambda **_: httpx2.MockTransport(answer)  # noqa: E731
    monkeypatch.setattr("ledger.client.blocking.httpx2.HTTPTransport", transport)
    monkeypatch.setenv("JOBLEDGER_URL", f"http://{MASTER}")
    monkeypatch.setenv("JOBLEDGER_STATUS_URL", f"http://{FOLLOW}")
    monkeypatch.setenv("TZ", "UTC")
    return made


def test_the_master_is_asked_first(call: Call, answers: Answers) -> None:
    answers |= {MASTER: (200, WELL), FOLLOW: (200, WELL | AWAY)}
    done = call("status")
    assert done.status == 0
    said = done.out.splitlines()
    assert said[0] == "The service works."
    assert "nodes             3 of 4 in service, 1 lost" in said
    assert "projections       jobs 12 events (3.0 s) behind" in said
    assert "backup            the newest that counts is 2.0 h old; TOO OLD" in said
    assert done.err == ""
    assert json.loads(call("status", "-o", "json").out)["pending"] == 7
    assert call("status", "-o", "name").out == "well\n"


@pytest.mark.parametrize("master", [None, (503, {"code": "not_ready"}), (200, {"hello": 1})])
def test_follow_is_asked_where_the_master_does_not_tell(
    call: Call, answers: Answers, master: Any
) -> None:
    answers[FOLLOW] = (200, WELL | AWAY)
    if master:
        answers[MASTER] = master
    done = call("status")
    assert done.status == 75
    said = done.out.splitlines()
    assert "submissions          not taken" in said
    assert "master silent since  2026-11-20 10:05:00" in said
    assert "pending, running     7, 2 (at 2026-11-20 10:00:00)" in said
    assert done.err == "Told by `follow`.\n"


def test_what_is_wrong_is_listed_and_the_status_says_so(call: Call, answers: Answers) -> None:
    wrong = {"well": False, "sentence": "It works; look.", "warnings": ["a\x1b[2Jb", "backups"]}
    answers[MASTER] = (200, WELL | wrong)
    done = call("status")
    assert done.status == 1
    assert [line.strip() for line in done.out.splitlines()[1:3]][1] == "backups"
    assert "\x1b" not in done.out


def test_where_nobody_answers_it_is_said_what_to_do(call: Call, answers: Answers) -> None:
    done = call("status")
    assert (done.status, done.out) == (69, "")
    assert "Neither the master nor `follow`" in done.err
    assert MASTER in done.err
    assert FOLLOW in done.err
    assert "jobledger up" in done.err


def test_who_is_not_known_is_told_so(call: Call, answers: Answers) -> None:
    problem = {"type": "x", "title": "t", "status": 401, "code": "unauthenticated"}
    words = {"detail": "The token is not known.", "hint": "Get one.", "request": "r"}
    answers |= {MASTER: (401, problem | words), FOLLOW: (200, WELL)}
    assert call("status").status == 77
