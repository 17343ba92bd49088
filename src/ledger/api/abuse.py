"""Who broke the rules of use: operators see everybody, users see themselves."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from ledger.api import history, show
from ledger.api.auth import Caller, Who
from ledger.api.bodies import note_blob
from ledger.api.jobs import OptionalFilter
from ledger.api.waiting import FRESH
from ledger.commands import AnswerAbuse
from ledger.domain import rules_of_use
from ledger.domain.errors import UnknownFinding
from ledger.domain.permissions import may
from ledger.events import AbuseRule, Recorded
from ledger.models import DoneOut, FindingDetailOut, FindingOut, FindingsOut, NoteIn, ProofOut
from ledger.store.log import Log

router = APIRouter(prefix="/v1/abuse", tags=["answers"])

FindingNumber = Annotated[int, Path(ge=1, le=2**53)]
NEAR = 2_000
"""So many events are rather read on over than looked up anew."""


@router.get("", dependencies=FRESH)
async def list_abuse(
    who: Who,
    user: OptionalFilter = "",
    rule: AbuseRule | None = None,
    unanswered: bool = False,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: Annotated[str, Query(pattern="^[0-9]{0,15}$")] = "",
) -> FindingsOut:
    """Findings, the latest first. Users see those about themselves."""
    if not may(who.subject, "abuse.see"):
        user = user or who.subject.name
    who.demand("abuse.see", user)
    rows, following = await history.ask(
        who,
        "abuse",
        "findings",
        user=user,
        rule=rule or "",
        unanswered=unanswered,
        limit=limit,
        cursor=cursor,
    )
    return FindingsOut(
        findings=[_finding(row) for row in rows],
        next=following,
        position=who.request.state.ledger_position,
    )


@router.get("/{finding}", dependencies=FRESH)
async def show_finding(who: Who, finding: FindingNumber) -> FindingDetailOut:
    """One finding with its evidence, how to stay within the rule, and what was said to it."""
    row = await _known(who, finding)
    who.demand("abuse.see", row.user)
    events = await who.running.reader.call(lambda log: _at(log, row.positions))
    note = await history.text(who, row.note_sha256) if row.note_sha256 else None
    return FindingDetailOut(
        **dict(_finding(row)),
        evidence=[
            ProofOut(
                position=r.position,
                at=show.at(r.at),
                event=r.event.name,
                job=job,
                what=rules_of_use.proof(r.event),
            )
            for r, job in zip(events, row.jobs, strict=False)
        ],
        advice=list(rules_of_use.advice(row.rule, [r.event for r in events])),
        note=note or "",
        position=who.request.state.ledger_position,
    )


@router.post("/{finding}/answer")
async def answer_finding(who: Who, finding: FindingNumber, body: NoteIn) -> DoneOut:
    """Say that a finding has been looked at, and what there is to say; its user can read that."""
    note, blobs = note_blob(body.note)
    command = AnswerAbuse(finding=finding, note=note)
    master = who.running.master
    await master.ask_one(who.subject, command, via=who.via, request=who.id, blobs=blobs)
    return DoneOut(state="answered", position=master.head.position)


async def _known(who: Caller, finding: int) -> Any:
    if who.subject.role not in ("user", "operator", "system"):
        who.demand("abuse.see")
    row = await history.ask(who, "abuse", "show_finding", finding)
    if row is None:
        raise UnknownFinding(f"There is no finding {finding}.")
    return row


def _finding(row: Any) -> FindingOut:
    return FindingOut(
        finding=row.finding,
        rule=row.rule,
        user=row.user,
        account=row.account,
        sentence=rules_of_use.sentence(row),
        found_at=show.at(row.found_at),
        since=show.at(row.since),
        until=show.at(row.until),
        found=row.found,
        limit=row.limit,
        count=row.count,
        of=row.of,
        policy=row.policy,
        terms=row.terms,
        jobs=list(row.jobs),
        answers=row.answers,
        answered_at=show.when(row.answered_at or 0),
        answered_by=row.answered_by,
    )


def _at(log: Log, positions: Sequence[int]) -> list[Recorded]:
    """The events at these positions, which rise."""
    found: list[Recorded] = []
    left = list(positions)
    while left:
        for r in log.read(after=log.commit_before(left[0] - 1)):
            if r.position == left[0]:
                found.append(r)
            if r.position >= left[0]:
                left.pop(0)
                if not left or left[0] > r.position + NEAR:
                    break
        else:
            break
    return found
