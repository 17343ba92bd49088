"""Routes about notices: who was told of what, who waits to be, and what exactly is said."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from ledger.api import history
from ledger.api.auth import Caller, Who
from ledger.api.contacts import Desk, shown_channels
from ledger.api.jobs import OptionalFilter
from ledger.api.outages import notice_out
from ledger.api.waiting import FRESH, as_of
from ledger.domain.errors import Behind, Unknown, UnknownNotice, UnknownOutage
from ledger.domain.permissions import may
from ledger.domain.state import Cluster
from ledger.events import Why
from ledger.master.telling import NotKnownYet
from ledger.models import NAME, LetterOut, NoticeDetailOut, NoticeRowOut, NoticesOut

router = APIRouter(prefix="/v1/notices", tags=["outages"])

Number = Annotated[int, Path(ge=1, le=2**53)]
State = Literal["waiting", "sent", "failed"]


@router.get("", dependencies=FRESH)
async def list_notices(
    who: Who,
    user: OptionalFilter = "",
    desk: OptionalFilter = "",
    outage: Annotated[int, Query(ge=0, le=2**53)] = 0,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    cursor: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> NoticesOut:
    """Notices, the latest first; `failed` are those that were given up. Users see their own."""
    if not may(who.subject, "notice.see"):
        user = user or who.subject.name
        who.demand("notice.see", "" if desk else user)
    rows = await history.ask(
        who,
        "outages",
        "list_notices",
        user="" if desk else user,
        desk=desk,
        outage=outage,
        state=state or "",
        limit=limit,
        before=cursor or None,
    )
    return NoticesOut(
        notices=[_row(row) for row in rows],
        next=rows[-1].notice if len(rows) == limit else None,
        position=who.request.state.ledger_position,
    )


@router.get("/preview")
async def preview(
    who: Who,
    outage: Annotated[int, Query(ge=1, le=2**53)],
    to: Annotated[str, Query(pattern=NAME, max_length=64)],
    why: Why = "hit",
    desk: Desk = False,
) -> LetterOut:
    """The exact text that one would be sent of an outage now. Nothing is sent."""
    who.demand("notice.see", "" if desk else to)
    return await _letter(who, outage, why, to, desk=desk)


@router.get("/{notice}", dependencies=FRESH)
async def show_notice(who: Who, notice: Number) -> NoticeDetailOut:
    """One notice, and while it waits what it would say if it were sent now."""
    if who.subject.role not in ("user", "operator", "system"):
        who.demand("notice.see")
    rows = await history.ask(who, "outages", "list_notices", notice=notice)
    position = who.request.state.ledger_position
    if not rows:
        raise UnknownNotice(f"There is no notice {notice}.")
    row, letter = rows[0], None
    who.demand("notice.see", "" if row.desk else row.to)
    cluster: Cluster = await who.running.master.settled()
    if as_of(who.request).present and notice in cluster.notices:
        letter = await _letter(who, row.outage, row.why, row.to, desk=row.desk, notice=notice)
    return NoticeDetailOut(**dict(_row(row)), letter=letter, position=position)


async def _letter(
    who: Caller, outage: int, why: Why, to: str, *, desk: bool, notice: int = 0
) -> LetterOut:
    outbox = who.running.outbox
    cluster: Cluster = await who.running.master.settled()
    if (o := cluster.outage(outage)) is None:
        raise UnknownOutage(f"There is no outage {outage}, or it was over a month ago.")
    found = await outbox.channels(cluster, to, desk)
    try:
        letter = await outbox.letter(o, why, to, desk=desk, notice=notice)
    except NotKnownYet as error:
        raise Behind(
            f"What he would be told is not known yet: {error}.",
            hint="Is `jobledger follow` running?",
        ) from None
    if letter is None:
        raise Unknown(f"Outage {outage} hit no job of {to}.", hint="He is not told of it.")
    return LetterOut(
        to=to,
        desk=desk,
        channels=shown_channels(found, outbox.post.mail),
        title=letter.title,
        body=letter.body,
        position=cluster.position,
    )


def _row(row: Any) -> NoticeRowOut:
    return NoticeRowOut(**dict(notice_out(row)), outage=row.outage)
