"""Refusals as RFC 9457 problems: one shape for every error there is."""

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ledger.domain.errors import (
    Crash,
    Malformed,
    MethodNotAllowed,
    NotJson,
    Refusal,
    Unauthenticated,
    Unknown,
)

PROBLEM_JSON = "application/problem+json"


def problem(request: Request, refusal: Refusal) -> Response:
    """The answer to a refused request."""
    body = described(refusal, getattr(request.state, "request_id", ""))
    headers = {}
    if refusal.status in (429, 503):
        headers["Retry-After"] = str(refusal.details.get("retry_after_s", 1))
    if isinstance(refusal, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), refusal.status, headers, PROBLEM_JSON)


def described(refusal: Refusal, request: str) -> dict[str, Any]:
    """The body of a problem."""
    return {
        "type": f"urn:jobledger:{refusal.code}",
        "title": refusal.code.replace("_", " "),
        "status": refusal.status,
        "code": refusal.code,
        "detail": _shown(refusal.sentence),
        "hint": refusal.advice,
        "request": request,
        "details": refusal.details,
    }


def _shown(sentence: str) -> str:
    """A sentence that may repeat what was sent, fit for a terminal."""
    return "".join(
        ch if ch.isprintable() else "\N{REPLACEMENT CHARACTER}" for ch in sentence[:1000]
    )


def explain_validation(errors: list[Any]) -> str:
    """The first faults of a body, in words: where, and what is wrong there."""
    parts = []
    for error in errors[:3]:
        place = ".".join(str(step) for step in error["loc"] if step not in ("body", "query"))
        message = str(error["msg"]).removeprefix("Value error, ")
        parts.append(f"{place or 'the body'}: {message}"[:300])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return "; ".join(parts) + more + "."


def _methods(request: Request) -> list[str]:
    """What a path takes, of all its routes: the framework names the methods of the first alone."""
    return [
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]


def install(app: FastAPI) -> None:
    """Make every failure of `app` a problem."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return problem(request, error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = list(error.errors())
        if faults[0]["type"] == "json_invalid":
            return problem(request, NotJson(f"The body is not JSON: {faults[0]['ctx']['error']}."))
        return problem(request, Malformed(explain_validation(faults)))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, Refusal):  # met while the framework read the body
            return problem(request, error.__cause__)
        if error.status_code == 405:
            answer = problem(request, MethodNotAllowed("That method is not for this route."))
            answer.headers["Allow"] = ", ".join(_methods(request))
            return answer
        if error.status_code == 404:
            return problem(request, Unknown(f"There is no {request.url.path} here."))
        return problem(request, Malformed(str(error.detail)))

    async def on_crash(request: Request, error: Exception) -> Response:
        return problem(request, crash())  # the framework raises the error again, to be logged

    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_crash)


def crash() -> Crash:
    """What is said where a request failed and nothing else is known."""
    return Crash("This failed by a fault of ours; the log was not harmed.")
