"""Routes about outages: what there was and is, whom it hit, who was told, what operators say."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from ledger.api import history, show
from ledger.api.auth import Caller, Who
from ledger.api.waiting import FRESH
from ledger.commands import CloseOutage, Command, FindCause, OpenOutage
from ledger.domain.errors import Forbidden, Malformed, UnknownOutage
from ledger.master.telling import asked_of
from ledger.models import (
    AffectedJobOut,
    AffectedOut,
    AffectedUserOut,
    CauseIn,
    CauseOut,
    CloseIn,
    MemberOut,
    NoticeOut,
    OutageDetailOut,
    OutageDoneOut,
    OutageIn,
    OutageOut,
    OutagesOut,
)

router = APIRouter(prefix="/v1/outages", tags=["outages"])
Number = Annotated[int, Path(ge=1, le=2**53)]


@router.get("", dependencies=FRESH)
async def list_outages(
    who: Who,
    only_open: Annotated[bool, Query(alias="open")] = False,
    since: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    cursor: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> OutagesOut:
    """The outages, the latest first: all, those that are open, or those not over at `since`."""
    who.demand("outage.see")
    rows = await history.ask(
        who,
        "outages",
        "list_outages",
        only_open=only_open,
        since=history.micros(since) or None,
        limit=limit,
        before=cursor or None,
    )
    return OutagesOut(
        outages=[_outage(row) for row in rows],
        next=rows[-1].outage if len(rows) == limit else None,
        position=who.request.state.ledger_position,
    )


@router.get("/{outage}", dependencies=FRESH)
async def show_outage(who: Who, outage: Number) -> OutageDetailOut:
    """One outage: its nodes, its causes, and the notices (users see their own)."""
    who.demand("outage.see")
    found = await _found(who, outage)
    return OutageDetailOut(
        **dict(_outage(found.row)),
        members=[
            MemberOut(
                node=m.node,
                lost_at=show.when(m.lost_at or 0),
                losses=m.losses,
                back_at=show.when(m.back_at or 0),
            )
            for m in found.members
        ],
        causes=[CauseOut(at=show.at(c.at), by=c.by, cause=c.cause) for c in found.causes],
        notices=[notice_out(n) for n in _visible(who, found.notices)],
        position=who.request.state.ledger_position,
    )


@router.get("/{outage}/affected", dependencies=FRESH)
async def affected(who: Who, outage: Number) -> AffectedOut:
    """Whom an outage hit: their jobs, what these lost, where they stand, and whether they were
    told. Users see themselves, operators everybody."""
    if who.subject.role not in ("user", "operator", "system"):
        raise Forbidden("Nodes have no business here.")
    found = await _found(who, outage)
    row = found.row
    own = "" if who.subject.role == "operator" else who.subject.name
    nodes, over = [m.node for m in found.members], row.until if row.closed_at else 0
    asked = asked_of(outage, row.kind, nodes, row.since, over)
    users = await history.ask(who, "outage_impact", "impact", **asked, user=own)
    return AffectedOut(
        outage=_outage(row),
        users=[_user(user, found.notices) for user in users],
        waiting={u: n for u, n in row.waiting.items() if own in ("", u)},
        position=who.request.state.ledger_position,
    )


@router.post("", status_code=201)
async def open_outage(who: Who, body: OutageIn) -> OutageDoneOut:
    """Open an outage by hand, also one of the past, or announce planned downtime."""
    command = OpenOutage(
        nodes=body.nodes,
        since=_micros(body.since),
        until=_micros(body.until),
        reason=body.reason,
        planned=body.planned,
    )
    return await _tell(who, command, 0)


@router.post("/{outage}/cause")
async def find_cause(who: Who, outage: Number, body: CauseIn) -> OutageDoneOut:
    """Say why an outage was, also of one that is over."""
    return await _tell(who, FindCause(outage=outage, cause=body.cause), outage)


@router.post("/{outage}/close")
async def close_outage(who: Who, outage: Number, body: CloseIn) -> OutageDoneOut:
    """Say that an outage is over, and what came of it."""
    command = CloseOutage(outage=outage, until=_micros(body.until), reason=body.reason)
    return await _tell(who, command, outage)


async def _tell(who: Caller, command: Command, outage: int) -> OutageDoneOut:
    running = who.running
    outcome = await running.master.ask_one(who.subject, command, via=who.via, request=who.id)
    number = outcome.reply if isinstance(outcome.reply, int) else outage
    return OutageDoneOut(
        outage=number, changed=bool(outcome.events), position=running.master.head.position
    )


async def _found(who: Caller, outage: int) -> Any:
    found = await history.ask(who, "outages", "show_outage", outage)
    if found is None:
        raise UnknownOutage(f"There is no outage {outage}.")
    return found


def _visible(who: Caller, notices: Iterable[Any]) -> list[Any]:
    if who.subject.role == "operator":
        return list(notices)
    return [n for n in notices if not n.desk and n.to == who.subject.name]


def _outage(row: Any) -> OutageOut:
    return OutageOut(
        outage=row.outage,
        kind=row.kind,
        open=row.closed_at is None,
        since=show.at(row.since),
        until=show.when(row.until or 0),
        opened_at=show.at(row.opened_at),
        opened_by=row.opened_by,
        closed_at=show.when(row.closed_at or 0),
        closed_by=row.closed_by,
        rack=row.rack,
        switch=row.switch,
        power=row.power,
        pools=list(row.pools),
        count=row.count,
        cause=row.cause,
        reason=row.reason,
        words=row.words,
        result=row.result,
        told_at=show.when(row.told_at or 0),
    )


def notice_out(row: Any) -> NoticeOut:
    """A notice out of the tables."""
    return NoticeOut(
        notice=row.notice,
        to=row.to,
        desk=row.desk,
        why=row.why,
        pool=row.pool,
        due_at=show.at(row.due_at),
        sent_at=show.when(row.sent_at or 0),
        channels=list(row.channels),
        tries=row.tries,
        next_at=show.when(row.next_at or 0),
        error=row.error,
    )


def _user(user: Any, notices: Iterable[Any]) -> AffectedUserOut:
    last: dict[int, set[str]] = {}
    attempts = {job.job: job.attempt for job in user.jobs}
    for job in user.jobs:
        if job.attempt == attempts[job.job]:
            last.setdefault(job.job, set()).add(job.effect)
    return AffectedUserOut(
        user=user.user,
        account=user.account,
        hit=len(last),
        lost=sum("lost" in effects for effects in last.values()),
        requeued=user.requeued,
        needs_owner=user.needs_owner,
        lost_node_s=user.lost_us / 1_000_000,
        told=[notice_out(n) for n in notices if not n.desk and n.to == user.user],
        jobs=[
            AffectedJobOut(
                job=job.job,
                attempt=job.attempt,
                node=job.node,
                struck_at=show.at(job.struck_at),
                restartable=job.restartable,
                lost_node_s=job.lost_us / 1_000_000,
                effect=job.effect,
                state=job.state,
                last=job.last,
            )
            for job in user.jobs
        ],
    )


def _micros(when: datetime | None) -> int:
    if when is None:
        return 0
    if when.tzinfo is None or not 1970 <= when.year < 3000:
        raise Malformed(f"{when}: give a time with its zone, such as 2026-11-20T10:00:00Z.")
    return int(when.astimezone(UTC).timestamp() * 1_000_000)
