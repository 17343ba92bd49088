"""Routes about the past of nodes: their states, what they were, what ran there, who is suspect."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from ledger.api import history, show
from ledger.api.auth import Caller, Who
from ledger.api.describe import NodeName
from ledger.api.periods import Time
from ledger.api.waiting import FRESH, as_of
from ledger.domain.errors import UnknownNode
from ledger.domain.permissions import may
from ledger.models import (
    ElsewhereOut,
    MachineOut,
    NodeCauseOut,
    NodeFailuresOut,
    NodeHistoryOut,
    NodePeriodOut,
    StayOut,
    StaysOut,
    SuspectOut,
)

router = APIRouter(prefix="/v1", tags=["nodes"])
NODE_HISTORY = "node_history"
Limit = Annotated[int, Query(ge=1, le=1_000)]
POOL = "^[A-Za-z0-9._-]{0,64}$"


@router.get("/nodes/{node}/history", dependencies=FRESH)
async def node_history(
    who: Who,
    node: NodeName,
    since: Time = "",
    until: Time = "",
    limit: Limit = 100,
    cursor: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> NodeHistoryOut:
    """The states that a node was in from `since` on and before `until`, each with its causes, and
    what it was and had installed then; at most `limit` of either, the latest first."""
    who.demand("node.see")
    window = {"since": history.micros(since) or None, "until": history.micros(until) or None}
    asked = {"node": node, "limit": limit, **window}
    states = await history.ask(who, NODE_HISTORY, "periods", before=cursor or None, **asked)
    machines = await history.ask(who, NODE_HISTORY, "machines", **asked)
    if not states and not machines:
        await _demand_known(who, node)
    return NodeHistoryOut(
        node=node,
        states=[_period(period) for period in states],
        machines=[_machine(machine) for machine in machines],
        next=states[-1].position if len(states) == limit else None,
        position=who.request.state.ledger_position,
    )


@router.get("/nodes/{node}/jobs", dependencies=FRESH)
async def node_jobs(
    who: Who,
    node: NodeName,
    since: Time = "",
    until: Time = "",
    failed: bool = False,
    limit: Limit = 100,
    cursor: Annotated[str, Query(pattern=r"^([0-9]{1,18}[0-9]?\.[0-9]{1,15}\.[0-9]{1,9})?$")] = "",
) -> StaysOut:
    """The attempts that were on a node from `since` on and before `until`, how they ended, and
    which of them failed there and succeeded elsewhere later; `failed`: only those that failed."""
    who.demand("node.see")
    page, following = await history.ask(
        who,
        NODE_HISTORY,
        "stays",
        node,
        since=history.micros(since) or None,
        until=history.micros(until) or None,
        failed=failed,
        limit=limit,
        cursor=cursor,
    )
    if not page:
        await _demand_known(who, node)
    return StaysOut(
        node=node,
        attempts=[_stay(who, stay) for stay in page],
        next=following,
        position=who.request.state.ledger_position,
    )


@router.get("/node-failures", dependencies=FRESH)
async def node_failures(
    who: Who,
    since: Time = "",
    until: Time = "",
    pool: Annotated[str, Query(pattern=POOL)] = "",
    limit: Limit = 20,
) -> NodeFailuresOut:
    """The nodes where jobs failed that ended from `since` on and before `until`, the one first
    where most of them were completed elsewhere later."""
    who.demand("node.see")
    first, last = history.micros(since), history.micros(until)
    rows = await history.ask(
        who,
        NODE_HISTORY,
        "failures",
        since=first or None,
        until=last or None,
        pool=pool,
        limit=limit,
    )
    return NodeFailuresOut(
        since=show.when(first),
        until=show.when(last),
        nodes=[
            SuspectOut(
                node=row.node,
                ended=row.ended,
                failed=row.failed,
                elsewhere=row.elsewhere,
                users=row.users,
            )
            for row in rows
        ],
        position=who.request.state.ledger_position,
    )


async def _demand_known(who: Caller, node: str) -> None:
    """Raise `UnknownNode` for one that the log knows nothing of."""
    if not await history.ask(who, NODE_HISTORY, "periods", node, limit=1):
        now = as_of(who.request).present
        never = "is no node {}, and there never was" if now else "was no node {} then, or before"
        raise UnknownNode(f"There {never.format(node[:64])}.")


def _period(period: Any) -> NodePeriodOut:
    return NodePeriodOut(
        state=period.state,
        since=show.at(period.since),
        until=show.when(period.until or 0),
        silent_since=show.when(period.silent_since or 0),
        causes=[_cause(cause) for cause in period.causes],
        drain=[_cause(cause) for cause in period.drain],
    )


def _cause(c: Any) -> NodeCauseOut:
    return NodeCauseOut(at=show.at(c.at), cause=c.cause, reason=c.reason, by=c.by, outage=c.outage)


def _machine(machine: Any) -> MachineOut:
    times = {"since": show.at(machine.since), "until": show.when(machine.until or 0)}
    facts = {name: getattr(machine, name) for name in MachineOut.model_fields if name not in times}
    return MachineOut.model_validate({**facts, **times})


def _stay(who: Caller, stay: Any) -> StayOut:
    """What somebody may know of it: which jobs do the same work is their owner's business."""
    row, later = stay.row, stay.elsewhere
    private = may(who.subject, "job.details", row.user)
    return StayOut(
        job=row.job,
        attempt=row.attempt,
        user=row.user,
        account=row.account,
        pool=row.pool,
        placed_at=show.at(row.placed_at),
        left_at=show.when(stay.left_at or 0),
        outcome=row.outcome,
        next=row.next,
        failed=row.failed,
        outage=row.outage,
        cause=row.cause if private else None,
        exit_code=row.exit_code if private else None,
        signal=row.signal if private else None,
        elsewhere=ElsewhereOut(job=later.job, attempt=later.attempt, at=show.at(later.at))
        if later and (private or later.job == row.job)
        else None,
    )
