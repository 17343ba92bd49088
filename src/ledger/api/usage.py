"""How much of the cluster was used, when and by whom, and how much of it came to nothing."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from ledger.api import history, show
from ledger.api.auth import Caller, Who
from ledger.api.jobs import OptionalFilter
from ledger.api.periods import Time, ZoneName, cut, zone_of
from ledger.api.waiting import FRESH
from ledger.models import UsageOut, UsedOut

router = APIRouter(prefix="/v1", tags=["answers"])

GROUP = "(day|user|account|pool)"


@router.get("/usage", dependencies=FRESH)
async def usage(
    who: Who,
    by: Annotated[str, Query(pattern=f"^({GROUP}(,{GROUP}){{0,3}})?$")] = "",
    since: Time = "",
    until: Time = "",
    zone: ZoneName = "UTC",
    user: OptionalFilter = "",
    account: OptionalFilter = "",
    pool: OptionalFilter = "",
) -> UsageOut:
    """Node and processor time that was used, by day, user, account, pool, or several of these.

    Without `since` and `until` all there is. Exact where these are whole quarters of an hour.
    Measured processor time is known once an attempt has ended, and counted then.
    """
    who.demand("usage.see")
    groups, where = by.split(","), zone_of(zone)
    first, last = history.micros(since), history.micros(until)
    span = await history.ask(who, "usage", "span")
    if span is not None:
        first = first or span[0]
        last = last or max(first + 1, await history.now(who))
    if span is None or first >= last:
        return _answer(who, first, last, zone, [])
    edges = cut(first, last, "day" if "day" in groups else "", where)
    rows = await history.ask(
        who, "usage", "usage", edges=edges, by=groups, user=user, account=account, pool=pool
    )
    days = [show.at(edge).astimezone(where).date() for edge in edges]
    told = [_row(row, days[row.period] if "day" in groups else None) for row in rows]
    return _answer(who, first, last, zone, told)


def _answer(who: Caller, first: int, last: int, zone: str, rows: list[UsedOut]) -> UsageOut:
    return UsageOut(
        since=show.when(first),
        until=show.when(last),
        zone=zone,
        rows=rows,
        position=who.request.state.ledger_position,
    )


def _row(row: Any, day: Any) -> UsedOut:
    return UsedOut(
        day=day,
        user=row.user,
        account=row.account,
        pool=row.pool,
        jobs_ended=row.jobs,
        attempts_ended=row.attempts,
        node_seconds=row.node_us / 1_000_000,
        cpu_seconds=row.cpu_us / 1_000_000,
        measured_cpu_seconds=row.measured_us / 1_000_000,
        wasted={kind: us / 1_000_000 for kind, us in row.wasted.items()},
    )
