"""The routes of all projections' queries, ours and anybody's: what can be asked, and asking it."""

import asyncio
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Path, Response

from ledger.api import history
from ledger.api.auth import Caller, Who
from ledger.api.waiting import FRESH
from ledger.domain.errors import Crash, Forbidden, Malformed, Refusal, UnknownQuestion
from ledger.models import AskableOut, AskablesOut, AskedOut, ParameterOut, QueryOut
from ledger.projection.asking import (
    BadQuestion,
    Parameter,
    Question,
    asked,
    question,
    questions,
    written,
)
from ledger.projection.model import OF_ALL, Projection

logger = structlog.get_logger("ask")
router = APIRouter(prefix="/v1/ask", tags=["answers"])

WORD = "^[a-z_][a-zA-Z0-9_]{0,99}$"
Word = Annotated[str, Path(max_length=100, json_schema_extra={"pattern": WORD})]

PARAMETERS: dict[str, Any] = {
    "parameters": [
        {
            "name": "parameters",
            "in": "query",
            "required": False,
            "description": "Those of the query, as `GET /v1/ask` lists them.",
            "style": "form",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}


@router.get("")
async def askable(who: Who) -> AskablesOut:
    """Every question that a projection answers: those that come with jobledger, and others'."""
    who.demand("projection.ask", who.subject.name)
    found: dict[str, Projection] = who.running.history.projections
    return AskablesOut(projections=[_told(found[name]) for name in sorted(found)])


@router.get(
    "/{projection}/{query}",
    dependencies=FRESH,
    response_model=AskedOut,
    openapi_extra=PARAMETERS,
)
async def ask(who: Who, projection: Word, query: Word) -> Response:
    """What a query of a projection gives, its own parameters in the query string. One that takes
    several values is given several times; one that is no text or number, as JSON."""
    known: Projection | None = who.running.history.projections.get(projection)
    wanted = question(known, query) if known is not None else None
    given: dict[str, list[str]] = {}
    for name, text in who.request.query_params.multi_items():
        if name not in OF_ALL:
            given.setdefault(name, []).append(text)
    if wanted is None:
        _demand_any(who)
        raise UnknownQuestion(f"There is no question {query} of a projection {projection}.")
    _demand(who, wanted, given)
    try:
        values = asked(wanted, given)
        answer = await history.ask(who, projection, query, **values)
        told = await asyncio.to_thread(written, answer)
    except BadQuestion as error:
        raise Malformed(str(error), hint="`jobledger ask` lists what can be asked.") from None
    except Refusal:
        raise
    except Exception:  # it may be anybody's code
        logger.exception("a query failed", projection=projection, query=query)
        raise Crash(
            f"{projection}.{query} failed: an error of that projection.",
            hint="Its author needs the lines of the master's log that name this request.",
        ) from None
    body = {
        "projection": projection,
        "query": query,
        "answer": msgspec.Raw(told),
        "position": who.request.state.ledger_position,
    }
    return Response(msgspec.json.encode(body), media_type="application/json")


def _demand_any(who: Caller) -> None:
    """Raise `Forbidden` for those who may ask nothing."""
    who.demand("projection.ask", who.subject.name)


def _demand(who: Caller, wanted: Question, given: dict[str, list[str]]) -> None:
    """Raise `Forbidden` unless the projection lets this subject ask this."""
    _demand_any(who)
    if who.subject.role != "user" or wanted.projection.asked_by == "anyone":
        return
    name = wanted.projection.name
    if wanted.projection.asked_by == "operators" or not wanted.whose:
        raise Forbidden(f"{name}.{wanted.name} is for operators to ask.")
    if given.get("user") != [who.subject.name]:
        raise Forbidden(
            f"{name}.{wanted.name} tells users of themselves alone.",
            hint=f"Add user={who.subject.name}.",
        )


def _told(projection: Projection) -> AskableOut:
    return AskableOut(
        projection=projection.name,
        version=projection.version,
        question=projection.question,
        asked_by=projection.asked_by,
        queries=[
            QueryOut(
                query=one.name, text=one.text, parameters=[_parameter(p) for p in one.parameters]
            )
            for one in questions(projection)
        ],
    )


def _parameter(p: Parameter) -> ParameterOut:
    return ParameterOut(
        name=p.name,
        takes=p.words,
        several=p.many,
        required=p.required,
        default=p.default,
    )
