"""The API's description (OpenAPI), made true where the framework can't know: what every refusal
looks like, the bodies that are parsed by hand, and the one way to say who one is.
"""

from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path
from pydantic.json_schema import models_json_schema

from ledger.api.links import link
from ledger.api.problems import PROBLEM_JSON
from ledger.domain.errors import refusals
from ledger.models import NAME, JobIn, Problem
from ledger.wire import EnrolReply, EnrolRequest, SyncReply, SyncRequest

WIRE = (EnrolRequest, EnrolReply, SyncRequest, SyncReply)
_REF = "#/components/schemas/{model}"


def wire(asked: type, answered: type, status: int) -> dict[str, Any]:
    """What a route says of itself whose bodies are messages of `ledger.wire`."""
    return {
        "openapi_extra": {
            "requestBody": {"required": True, "content": {"application/json": _schema(asked)}}
        },
        "responses": {status: {"content": {"application/json": _schema(answered)}}},
    }


def _schema(message: type) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=message.__name__)}}


JobName = Annotated[
    str,
    Path(
        description="A job: 17, or 17_3 for a task of an array.",
        json_schema_extra={"pattern": "^[0-9]{1,15}(_[0-9]{1,15})?$"},
    ),
]
NodeName = Annotated[str, Path(json_schema_extra={"pattern": NAME, "maxLength": 64})]

BINARY = {"schema": {"type": "string", "format": "binary"}}
_STRING = {"schema": {"type": "string"}}
# Clients that are generated take the first kind that they know: what is text comes first.
TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": _STRING}}}
LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": _STRING, "application/x-ndjson": BINARY}}
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": _STRING, "application/x-ndjson": BINARY}}
}


def _told(text: str, kind: str, *, always: bool = True) -> dict[str, Any]:
    return {"description": text, "required": always, "schema": {"type": kind}}


_ASKED_OUTPUT = {
    "Output-Attempt": _told("The attempt that printed it", "integer"),
    "Output-Next-Offset": _told("Where to go on", "integer"),
    "Output-Ended": _told("There will be no more", "boolean"),
}
OUTPUT: dict[int | str, dict[str, Any]] = {200: {**TEXT[200], "headers": _ASKED_OUTPUT}}

# A master that still replays its log knows of no position.
_HEADERS = {
    "X-Request-Id": _told("The request's name", "string"),
    "Ledger-Position": _told("The position the answer is true at", "integer", always=False),
    "Ledger-Lag": _told("How far that was behind the log", "integer", always=False),
    "Jobledger-Epoch": _told("The number of the master's reign", "integer", always=False),
}
_OWN_HEADERS = {
    401: {"WWW-Authenticate": _told("How to say who one is", "string")},
    405: {"Allow": _told("The methods there are", "string", always=False)},
    429: {"Retry-After": _told("Seconds", "integer")},
    503: {"Retry-After": _told("Seconds", "integer", always=False)},
}


LAST_EVENT: dict[str, Any] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "Of server-sent events: go on behind it.",
            **_STRING,
        }
    ]
}


def describe(app: FastAPI) -> None:
    """Let `app.openapi` give the whole description. It is made once."""
    plain = app.openapi
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_completed(plain()))
        return made

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    _, definitions = models_json_schema(
        [(JobIn, "validation"), (Problem, "serialization")], ref_template=_REF
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    _, messages = msgspec.json.schema_components(WIRE, ref_template=_REF.replace("model", "name"))
    schemas.update(messages)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    statuses = sorted({refusal.status for refusal in refusals()} | {405, 500})
    for path in document["paths"].values():
        for operation in path.values():
            _refusals(operation["responses"], statuses)
            for status, response in operation["responses"].items():
                own = _OWN_HEADERS.get(int(status), {})
                response["headers"] = {**response.get("headers", {}), **own, **_HEADERS}
            link(operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _refusals(responses: dict[str, Any], statuses: list[int]) -> None:
    """Every route may refuse with any of `statuses`; all refusals have one shape."""
    refusal = {"schema": {"$ref": _REF.format(model="Problem")}}
    for status in statuses:
        known = responses.get(str(status), {})
        content = {} if status == 422 else dict(known.get("content", {}))
        responses[str(status)] = {
            "description": "A refusal",
            "content": {**content, PROBLEM_JSON: refusal},
        }
