"""What both clients share: where a service is, what a request carries, what an answer means."""

import functools
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, TypedDict, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from ledger.client.errors import ClientError, NotUnderstood, Refused, Unreachable
from ledger.models import JobIn, Problem

Model = TypeVar("Model", bound=BaseModel)
LIVE = frozenset({"pending", "running"})
"""The states of a job that has not ended."""

ANSWER_S = 30.0
"""How long an answer may take, beyond what the request itself asks to wait."""

SUBMIT_S = 60.0
"""How much longer a submission may take: thousands of jobs may stand before it."""

LOOK_BACK_S = 150.0
"""How much longer an answer about the past may take: the log is read up to there."""

PATIENCE_ABSENT_S, PATIENCE_REFUSED_S = 2.0, 10.0
"""How long to try again where nothing listens: a master that starts again is back by then."""

AGAIN = frozenset({502, 503, 504})
NOT_SOON = frozenset({"too_many_jobs"})
"""Limits that no short wait lifts: better said at once."""


class Place(NamedTuple):
    """A service: the base of its addresses, and its Unix socket if it is reached through one."""

    base: str
    socket: str | None
    shown: str


class Tries(TypedDict):
    """What stamina is told."""

    attempts: int | None
    timeout: float | None


class Ask(NamedTuple):
    """One request, the same at each repetition: path, body, headers, seconds it may wait."""

    method: str
    path: str
    params: Mapping[str, str | list[str]]
    body: bytes
    headers: Mapping[str, str]
    wait_s: float

    @property
    def request(self) -> str:
        """The id that this request has wherever it is spoken of."""
        return self.headers["X-Request-Id"]


def place(url: str) -> Place:
    """Where `unix:PATH` or `http(s)://HOST:PORT` is. Raises `ClientError` for anything else."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        return Place("http://jobledger", path, f"unix:{path}")
    if url.startswith(("http://", "https://")):
        return Place(url.rstrip("/"), None, url)
    raise ClientError(
        f"{url!r} is not the address of a service.",
        hint="Write unix:DIR/jobledger.sock or http://HOST:PORT.",
    )


@functools.cache
def build() -> str:
    """The release of this client."""
    try:
        return f"jobledger {version('jobledger')}"
    except PackageNotFoundError:
        return "jobledger unpackaged"


def ask(
    method: str,
    path: str,
    *,
    token: str = "",
    body: BaseModel | bytes | None = None,
    params: Mapping[str, Any] | None = None,
    key: str = "",
    content_type: str = "application/json",
    accept: str = "application/json",
    wait_s: float = 0,
) -> Ask:
    """A request, with the headers that every request carries. Parameters that are None or empty
    are left out."""
    headers = {
        "X-Request-Id": uuid.uuid4().hex,
        "X-Jobledger-Build": build(),
        "X-Jobledger-Machine": socket.gethostname(),
        "Accept": accept,
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if key:
        headers["Idempotency-Key"] = key
    if isinstance(body, BaseModel):
        content = body.model_dump_json(exclude_unset=True).encode()
    else:
        content = body or b""
    if content:
        headers["Content-Type"] = content_type
    wanted = {k: _word(v) for k, v in (params or {}).items() if v is not None and v != ""}
    return Ask(method, path, wanted, content, headers, wait_s)


def _word(value: Any) -> str | list[str]:
    if isinstance(value, list | tuple):
        return [str(_word(one)) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def submission(
    jobs: JobIn | Sequence[JobIn], token: str, *, each: bool = False, key: str = ""
) -> Ask:
    """The request to queue one job, or many (`each`: those that can be), under a key."""
    one = isinstance(jobs, JobIn)
    many = [jobs] if isinstance(jobs, JobIn) else jobs
    lines = [job.model_dump_json(exclude_defaults=True) for job in many]
    return ask(
        "POST",
        "/v1/jobs",
        token=token,
        body=("\n".join(lines) + "\n").encode(),
        params={"items": "each" if each else "atomic"},
        key=key or uuid.uuid4().hex,
        content_type="application/json" if one else "application/x-ndjson",
        wait_s=SUBMIT_S,
    )


def timeout(asked: Ask, answer_s: float = ANSWER_S) -> httpx2.Timeout:
    """Short to connect, patient to read."""
    connect_s = min(5.0, answer_s)
    return httpx2.Timeout(answer_s, connect=connect_s, read=asked.wait_s + answer_s)


def unreachable(error: Exception, where: Place, request: str) -> Unreachable:
    """Say which address did not answer, and what to look at."""
    hint = "Start one with `jobledger up`, or set JOBLEDGER_URL (or --url) to another."
    if where.socket is not None and not os.path.exists(where.socket):
        sentence = f"There is no service at {where.shown}: its socket does not exist."
        return Unreachable(sentence, hint=hint, request=request, patience=PATIENCE_ABSENT_S)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        sentence = f"Nothing answers at {where.shown} ({error})."
        return Unreachable(sentence, hint=hint, request=request, patience=PATIENCE_REFUSED_S)
    reason = str(error) or type(error).__name__
    return Unreachable(
        f"The service at {where.shown} took the request and did not answer ({reason}).",
        hint="Look at the master's log; `jobledger doctor` says what it can find out.",
        request=request,
        patience=float("inf"),
    )


def understood(answer: httpx2.Response, model: type[Model], asked: Ask, where: Place) -> Model:
    """The answer's body, or the error it is."""
    if not answer.is_success:
        raise refused(answer, asked, where)
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise strange(answer, asked, where) from error


def refused(answer: httpx2.Response, asked: Ask, where: Place) -> ClientError:
    """The error that an answer (already read) is."""
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        if answer.status_code in AGAIN:  # a proxy before the service says that it is away
            return Refused(
                f"The service at {where.shown} can't be reached through its proxy "
                f"(HTTP {answer.status_code}).",
                status=answer.status_code,
                code="not_ready",
                hint="Try again later.",
                request=asked.request,
                retry_after=_seconds(answer),
            )
        return strange(answer, asked, where)
    return Refused(
        problem.detail or problem.title,
        status=problem.status,
        code=problem.code,
        hint=problem.hint,
        request=problem.request or asked.request,
        details=problem.details,
        retry_after=_seconds(answer),
    )


def strange(answer: httpx2.Response, asked: Ask, where: Place) -> NotUnderstood:
    """The error that an answer is which jobledger does not give."""
    return NotUnderstood(
        f"What answers at {where.shown} is not a jobledger service of this release "
        f"(HTTP {answer.status_code}).",
        hint="Check JOBLEDGER_URL, and that client and master are of the same release.",
        request=asked.request,
    )


def _seconds(answer: httpx2.Response) -> float | None:
    try:
        return min(float(answer.headers["Retry-After"]), 60.0)
    except (KeyError, ValueError):
        return None


def tries(patience_s: float) -> Tries:
    """How often, and for how long, stamina is to try: once where there is no patience."""
    return {"attempts": None if patience_s else 1, "timeout": patience_s or None}


def worth_repeating(began: float) -> Callable[[Exception], bool | float]:
    """The rule of repetition, for stamina: False, True, or the seconds to wait first.

    No answer, 502, 503 and 504 are repeated, and 429 where the service says when; nothing else.
    """

    def rule(error: Exception) -> bool | float:
        if isinstance(error, Unreachable):
            return time.monotonic() - began < error.patience
        if not isinstance(error, Refused):
            return False
        if error.status in AGAIN:
            return True if error.retry_after is None else error.retry_after
        soon = error.status == 429 and error.code not in NOT_SOON
        if soon and error.retry_after is not None:
            return error.retry_after
        return False

    return rule
