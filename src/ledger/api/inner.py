"""The route of `jobledger inspect`: the master's inner state, for operators."""

from typing import Annotated

from fastapi import APIRouter, Query

from ledger.api import show
from ledger.api.auth import Who
from ledger.master.inner import PARTS
from ledger.master.inner.look import Row, reigning
from ledger.models import InnerOut, InnerPart, InnerRow

router = APIRouter(prefix="/v1/inner", tags=["service"])


@router.get("/{part}")
async def inner(
    who: Who, part: InnerPart, limit: Annotated[int, Query(ge=0, le=1000)] = 100
) -> InnerOut:
    """A part of the master's inner state: a sentence, facts, and at most `limit` rows of one shape.

    What is named `…_at` is a time, `…_s` seconds, `…_bytes` bytes.
    """
    who.demand("inner.see")
    seen = await PARTS[part](who.service, limit)
    master = reigning(who.service).master
    return InnerOut(
        part=part,
        sentence=seen.sentence,
        facts=_shown(seen.facts),
        rows=[_shown(row) for row in seen.rows],
        more=seen.more,
        position=master.head.position,
        at=show.at(master.now()),
    )


def _shown(row: Row) -> InnerRow:
    """Times as times: inside they are µs."""
    return {name: _time(value) if name.endswith("_at") else value for name, value in row.items()}


def _time(micros: object) -> str | None:
    when = show.when(micros) if isinstance(micros, int) else None
    return when.isoformat().replace("+00:00", "Z") if when else None
