"""`notice …`: who was told of which outage, who waits to be, and what exactly is said."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, OutputFormat, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.text import lines
from ledger.cli.words import BadWord
from ledger.events import Why
from ledger.models import NoticeRowOut, NoticesOut

if TYPE_CHECKING:
    from ledger.models import LetterOut

notice_app = App(name="notice")
PAGE = 500
Desk = Annotated[str, Parameter(help="To this support desk (operators).")]


@notice_app.command(name="list")
def list_(
    *,
    outage: Annotated[int, Parameter(help="Only about this outage.")] = 0,
    user: Annotated[str, Parameter(name=["--user", "-u"], help="Only to this user.")] = "",
    desk: Desk = "",
    state: Annotated[
        Literal["waiting", "sent", "failed"] | None, Parameter(help="failed: given up.")
    ] = None,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="At most so many; 0: all.")] = 100,
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """List notices, the latest first: due, sent, failed. Users see their own."""
    asked = {"outage": outage or "", "user": user, "desk": desk, "state": state or ""}
    found: list[NoticeRowOut] = []
    with at.client() as client:
        page = client.notices(**asked, limit=min(limit, PAGE) if limit else PAGE)
        found += page.notices
        while page.next is not None and (not limit or len(found) < limit):
            page = client.notices(**asked, limit=PAGE, cursor=page.next)
            found += page.notices
    kept = found[:limit] if limit else found
    answer = NoticesOut(notices=kept, next=page.next, position=page.position)
    empty = "There are no such notices." if any(asked.values()) else "Nobody was told anything yet."
    shown.write(
        kept,
        COLUMNS,
        form,
        of=NoticeRowOut,
        name=lambda n: str(n.notice),
        tree=answer,
        empty=empty,
    )
    if page.next is not None or len(found) > len(kept):
        say(f"There are more than {limit}; --limit 0 shows all.")
    return exits.OK


@notice_app.command
def show(
    number: Annotated[int, Parameter(help="A notice, by its number.")],
    /,
    *,
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """Show a notice; while it waits, also what it would say if it were sent now."""
    with at.client() as client:
        found = client.notice(number)
    if shown.tree(found, form, name=str(found.notice)):
        return exits.OK
    shown.pairs(
        [
            ("notice", str(found.notice)),
            ("to", _to(found)),
            ("about", f"outage {found.outage}: {WHY[found.why]}"),
            ("due", when(found.due_at)),
            ("sent", when(found.sent_at)),
            ("over", ", ".join(found.channels)),
            ("tries", str(found.tries)),
            ("next try", when(found.next_at)),
            ("error", found.error),
        ]
    )
    if found.letter is not None:
        shown.data("")
        _letter(found.letter)
    return exits.OK


@notice_app.command
def preview(
    outage: Annotated[int, Parameter(help="An outage, by its number.")],
    /,
    *,
    user: Annotated[
        str, Parameter(name=["--user", "-u"], help="What he would be told; left out: you.")
    ] = "",
    desk: Desk = "",
    why: Annotated[
        Why | None,
        Parameter(help="What it is about. Left out: hit, for a desk service."),
    ] = None,
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """Print the exact text that one would be sent of an outage now. Nothing is sent."""
    if user and desk:
        raise BadWord("Give --user or --desk, not both.")
    with at.client() as client:
        to = desk or user or client.whoami().name
        about: Why = why or ("service" if desk else "hit")
        found = client.preview(outage, about, to, desk=bool(desk))
    if not shown.tree(found, form, name=found.to):
        _letter(found)
    return exits.OK


WHY: dict[str, str] = {
    "hit": "it hit his jobs",
    "cause": "its cause is known",
    "announced": "it is announced",
    "over": "it is over",
    "pool": "a pool fails",
    "service": "the service fails",
}


def _letter(letter: "LetterOut") -> None:
    over = ", ".join(f"{c.scheme}://{c.host or '…'}" for c in letter.channels)
    say(f"To {letter.to}, over {over or 'nothing: no contact is known'}:")
    shown.data(f"Subject: {letter.title}")
    shown.data("")
    shown.data(lines(letter.body).rstrip("\n"))


def _to(n: NoticeRowOut) -> str:
    return f"desk {n.to}" if n.desk else n.to


def _state(n: NoticeRowOut) -> str:
    if n.sent_at:
        return "sent"
    return "waiting" if n.next_at else "failed"


COLUMNS: list[Column[NoticeRowOut]] = [
    Column("NOTICE", lambda n: str(n.notice), right=True),
    Column("OUTAGE", lambda n: str(n.outage), right=True),
    Column("TO", _to),
    Column("WHY", lambda n: n.why + (f" {n.pool}" if n.pool else "")),
    Column("DUE", lambda n: when(n.due_at)),
    Column("STATE", _state),
    Column("SENT", lambda n: when(n.sent_at)),
    Column("OVER", lambda n: ", ".join(n.channels)),
    Column("TRIES", lambda n: str(n.tries), right=True, wide=True),
    Column("NEXT TRY", lambda n: when(n.next_at), wide=True),
    Column("ERROR", lambda n: n.error),
]
