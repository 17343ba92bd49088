"""`abuse …`: who broke the rules of use, by what evidence, and what was said to it."""

from typing import Annotated

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, Note, OutputFormat, Quiet, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.text import line
from ledger.cli.words import BadWord, shown_duration
from ledger.events import AbuseRule
from ledger.models import FindingOut, FindingsOut

abuse_app = App(name="abuse")

PAGE = 500
Finding = Annotated[int, Parameter(help="A finding, by its number.")]


@abuse_app.command(name="list")
def list_(
    *,
    user: Annotated[str, Parameter(name=["--user", "-u"], help="Only about this user.")] = "",
    rule: Annotated[AbuseRule | None, Parameter(help="Only of this rule.")] = None,
    unanswered: Annotated[
        bool, Parameter(negative="", help="Only what no operator has answered.")
    ] = False,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="At most so many; 0: all.")] = 100,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """List who broke the rules of use, the latest first. Users see what is about themselves."""
    found: list[FindingOut] = []
    asked = {"user": user, "rule": rule or "", "unanswered": unanswered or ""}
    with at.client() as client:
        then = past.of(client)
        page = then.findings(**asked, limit=min(limit, PAGE) if limit else PAGE)
        found += page.findings
        while page.next is not None and (not limit or len(found) < limit):
            page = then.findings(**asked, limit=PAGE, cursor=page.next)
            found += page.findings
    kept = found[:limit] if limit else found
    answer = FindingsOut(findings=kept, position=page.position)
    if form in ("table", "wide") and kept:
        shown.sentence(_verdict(kept))
    empty = "No findings. `jobledger policy show` shows the rules of use."
    shown.write(
        kept,
        COLUMNS,
        form,
        of=FindingOut,
        name=lambda f: str(f.finding),
        tree=answer,
        empty=empty,
    )
    if page.next is not None or len(found) > len(kept):
        say(f"There are more than {limit}; --limit 0 shows all.")
    if form in ("table", "wide"):
        shown.data(f"As of position {page.position}.")
    return exits.OK


def _verdict(found: list[FindingOut]) -> str:
    users = {f.user for f in found}
    left = sum(not f.answers for f in found)
    what = "1 finding" if len(found) == 1 else f"{len(found):,} findings"
    who = f"about {found[0].user}" if len(users) == 1 else f"about {len(users)} users"
    answers = "answered" if not left else "not answered"
    if 0 < left < len(found):
        answers = f"{left:,} of them not answered"
    return line(f"{what} {who}, {answers}.")


@abuse_app.command
def show(
    finding: Finding,
    /,
    *,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Show a finding: the rule, the events it rests on, and how to stay within the rule."""
    with at.client() as client:
        found = past.of(client).finding(finding)
    if shown.tree(found, form, name=str(found.finding)):
        return exits.OK
    shown.sentence(line(found.sentence))
    shown.data("")
    shown.pairs(
        [
            ("  rule", f"{found.rule}, of policy {found.policy}"),
            ("  account", found.account),
            ("  between", f"{when(found.since)} and {when(found.until)}"),
            ("  noticed", when(found.found_at)),
            ("  answered", _answered(found)),
            ("  said", found.note),
        ]
    )
    shown.data("")
    if found.count > len(found.evidence):
        shown.data(f"The last {len(found.evidence)} of {found.count:,} events:")
    rows = [[str(p.position), when(p.at), str(p.job), p.what] for p in found.evidence]
    shown.table(["POSITION", "AT", "JOB", "WHAT"], rows, right=[True, False, True], wrap=True)
    shown.data("")
    shown.data("How to stay within the rule:")
    for advice in found.advice:
        shown.sentence(line(advice), indent=2)
    shown.data(f"As of position {found.position}.")
    return exits.OK


def _answered(found: FindingOut) -> str:
    return f"{when(found.answered_at)} by {found.answered_by}" if found.answers else "not yet"


@abuse_app.command
def answer(
    finding: Finding,
    /,
    *,
    note: Note = "",
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Say that a finding has been looked at, and what there is to say to its user (operators)."""
    if finding < 1:
        raise BadWord("A finding has a number from 1 on.")
    with at.client() as client:
        client.answer_finding(finding, note)
    if not quiet:
        say(f"Finding {finding} is answered.")
    return exits.OK


def _amount(f: FindingOut, value: int) -> str:
    if f.rule == "submissions":
        return f"{value:,}/min"
    return f"{value} %" if f.rule == "failing" else shown_duration(value)


COLUMNS: list[Column[FindingOut]] = [
    Column("FINDING", lambda f: str(f.finding), right=True),
    Column("NOTICED", lambda f: when(f.found_at)),
    Column("USER", lambda f: f.user),
    Column("ACCOUNT", lambda f: f.account, wide=True),
    Column("RULE", lambda f: f.rule),
    Column("FOUND", lambda f: _amount(f, f.found), right=True),
    Column("LIMIT", lambda f: _amount(f, f.limit), right=True),
    Column("ANSWERED", lambda f: f"by {f.answered_by}" if f.answers else "no"),
    Column("WHEN", lambda f: when(f.answered_at), wide=True),
]
