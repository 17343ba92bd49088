"""The API's description (OpenAPI), made true where the framework can't know: what every refusal
looks like, the bodies that are parsed by hand, and the one way to say who one is.
"""

from typing import Any

import msgspec
from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from ledger.api.problems import PROBLEM_JSON
from ledger.domain.errors import refusals
from ledger.models import JobIn, Problem
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


TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}
LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/event-stream": {"schema": {"type": "string"}},
        }
    }
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
