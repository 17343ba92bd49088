"""Who broke the rules of use, when and how, and what was said to it?"""

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from ledger.events import AbuseAnswered, AbuseFound, AbuseRule, Recorded
from ledger.projection import Projection, Table

MAX_LIMIT = 10_000


class FindingRow(msgspec.Struct, frozen=True):
    """A finding; the fields up to `positions` are those of `AbuseFound`, `found_at` is when it was
    put on record (µs). `answers`: how often it was answered; by whom, when and with which words
    (the digest of a text, or empty) the last time; None, empty: not yet."""

    finding: int
    rule: AbuseRule
    user: str
    account: str
    since: int
    until: int
    found: int
    limit: int
    count: int
    of: int
    policy: int
    terms: dict[str, int]
    jobs: tuple[int, ...]
    positions: tuple[int, ...]
    found_at: int
    answers: int = 0
    answered_at: int | None = None
    answered_by: str = ""
    note_sha256: str = ""


def finding_keys(r: Recorded) -> Iterable[tuple[int]]:
    """The one that an event is about."""
    assert isinstance(r.event, AbuseFound | AbuseAnswered)
    return ((r.event.finding,),)


def evolve_finding(key: tuple[int], row: FindingRow | None, r: Recorded) -> FindingRow | None:
    """The finding after an event."""
    e = r.event
    if isinstance(e, AbuseFound):
        told = {name: getattr(e, name) for name in msgspec.structs.asdict(e)}
        return FindingRow(**told, found_at=r.at)
    assert isinstance(e, AbuseAnswered)
    if row is None:
        return None
    return msgspec.structs.replace(
        row,
        answers=row.answers + 1,
        answered_at=r.at,
        answered_by=r.envelope.by,
        note_sha256=e.note.sha256 if e.note else "",
    )


FINDINGS = Table(
    "findings",
    FindingRow,
    key=1,
    events=(AbuseFound, AbuseAnswered),
    keys=finding_keys,
    evolve=evolve_finding,
    indexes=[("user", "finding"), ("answers", "finding")],
)


def findings(
    connection: sa.Connection,
    *,
    user: str = "",
    rule: str = "",
    unanswered: bool = False,
    limit: int = 100,
    cursor: str = "",
) -> tuple[list[FindingRow], str | None]:
    """A page of findings, the latest first, and the cursor of the next page.

    `unanswered`: only those that nobody has answered. Raises ValueError for a cursor that is none.
    """
    query = FINDINGS.select()
    for column, wanted in ((FINDINGS.c.user, user), (FINDINGS.c.rule, rule)):
        query = query.where(column == wanted) if wanted else query
    if unanswered:
        query = query.where(FINDINGS.c.answers == 0)
    if cursor:
        query = query.where(FINDINGS.c.finding < int(cursor))
    limit = max(1, min(limit, MAX_LIMIT))
    found = FINDINGS.rows(connection, query.order_by(FINDINGS.c.finding.desc()).limit(limit + 1))
    more = len(found) > limit
    return found[:limit], str(found[limit - 1].finding) if more else None


def show_finding(connection: sa.Connection, finding: int) -> FindingRow | None:
    """One finding; None if there is none of that number."""
    found = FINDINGS.rows(connection, FINDINGS.select().where(FINDINGS.c.finding == finding))
    return found[0] if found else None


PROJECTION = Projection("abuse", version=1, tables=(FINDINGS,), queries=(findings, show_finding))
