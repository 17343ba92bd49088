"""A command line with a service made of canned answers."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2
import pytest

from ledger.cli import main

Call = Callable[..., "Done"]


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


class Service:
    """Answers by method and path; each request is kept."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], httpx2.Response | Exception] = {}
        self.requests: list[httpx2.Request] = []

    def say(self, method: str, path: str, body: Any, status: int = 200, **headers: str) -> None:
        """Answer this from now on."""
        self.answers[method, path] = httpx2.Response(status, json=body, headers=headers)

    def refuse(self, method: str, path: str, status: int, code: str) -> None:
        """Refuse this from now on."""
        problem = {"type": "x", "title": code, "status": status, "code": code}
        words = {"detail": f"It is {code}.", "hint": "Do this.", "request": "r1"}
        self.say(method, path, problem | words, status)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        found = self.answers[request.method, request.url.path]
        if isinstance(found, Exception):
            raise found
        return httpx2.Response(found.status_code, content=found.content, headers=found.headers)

    @property
    def body(self) -> Any:
        """The last request's body."""
        return json.loads(self.requests[-1].content)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service that every client of this test speaks to."""
    made = Service()
    monkeypatch.setattr(
        "ledger.client.blocking.httpx2.HTTPTransport", lambda **_: httpx2.MockTransport(made)
    )
    monkeypatch.setenv("JOBLEDGER_URL", "http://jobledger")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("JOBLEDGER_TOKEN", raising=False)
    return made


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Carry out a command line in this process."""

    def run(*words: str) -> Done:
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        written = capsys.readouterr()
        return Done(int(caught.value.code or 0), written.out, written.err)

    return run
