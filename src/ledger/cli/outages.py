"""`outage …`: what there was and is, whom it hit, who was told; opening, planning, closing one."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, OutputFormat, Quiet, Service, now
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.text import line
from ledger.cli.words import BadWord, counted, moment, node_names, shown_duration, shown_nodes
from ledger.models import AffectedUserOut, CauseIn, CloseIn, ImpactJobOut, OutageIn, OutageOut

if TYPE_CHECKING:
    from ledger.models import AffectedOut, NoticeOut, OutageDetailOut

outage_app = App(name="outage")
Number = Annotated[int, Parameter(help="The number of an outage, as `outage list` gives it.")]
CauseWords = Annotated[str, Parameter(help="The cause, in words for those whom it hit.")]
Reason = Annotated[str, Parameter(name=["--reason", "-m"], help="Why, in your own words.")]
OnNodes = Annotated[str, Parameter(help="Nodes: n3,n[7-9]. Left out: the whole service.")]
Since = Annotated[
    str, Parameter(help="Since when: -2h, 10:00, 2026-11-20T10:00.", allow_leading_hyphen=True)
]
Until = Annotated[
    str, Parameter(help="Until when; left out: it goes on.", allow_leading_hyphen=True)
]


@outage_app.command(name="list")
def list_(
    *,
    only_open: Annotated[
        bool, Parameter(name="--open", negative="", help="Only those that are not over.")
    ] = False,
    since: Since = "",
    limit: Annotated[int, Parameter(help="At most so many, the latest.")] = 50,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """List the outages, the latest first."""
    with at.client() as client:
        found = past.of(client).outages(open_=only_open, since=_time(since), limit=limit)
    empty = "Nothing is out." if only_open else "There was no outage."
    shown.write(
        found.outages,
        COLUMNS,
        form,
        of=OutageOut,
        name=lambda o: str(o.outage),
        tree=found,
        empty=empty,
    )
    if found.next is not None and form in ("table", "wide"):
        say(f"There are more than {limit}; --limit shows them.")
    return exits.OK


@outage_app.command
def show(
    number: Number,
    /,
    *,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Show an outage: its nodes, its causes, the notices."""
    with at.client() as client:
        found = past.of(client).outage(number)
    if shown.tree(found, form, name=str(found.outage)):
        return exits.OK
    shown.sentence(line(_sentence(found)))
    _facts(found)
    if found.causes:
        rows = [[when(c.at), c.by, c.cause] for c in found.causes]
        shown.table(["SAID", "BY", "CAUSE"], rows, fit=form == "table")
    if found.notices:
        rows = [[n.to, n.why, _told(n)] for n in found.notices]
        shown.table(["TO", "WHY", "TOLD"], rows, fit=form == "table")
    shown.data(f"As of position {found.position}.")
    return exits.OK


@outage_app.command
def affected(
    number: Number,
    /,
    *,
    csv: Annotated[bool, Parameter(negative="", help="The same as -o csv.")] = False,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """List whom an outage hit: their jobs, where these stand now, whether they were told."""
    with at.client() as client:
        found = past.of(client).affected(number)
    if csv or form == "csv":
        shown.plain(
            _job_rows(found), "csv", ("user", "account", *ImpactJobOut.model_fields, "told_at")
        )
    elif form not in ("table", "wide"):
        shown.write(found.users, [], form, of=AffectedUserOut, name=lambda u: u.user, tree=found)
    else:
        _affected(found, fit=form == "table")
    return exits.OK


@outage_app.command(name="open")
def open_(
    *,
    nodes: OnNodes = "",
    since: Since = "now",
    until: Until = "",
    reason: Reason,
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Open an outage by hand, also one that began earlier, or is over."""
    wanted = _wanted(nodes, since, until, reason, planned=False)
    return _open(wanted, quiet, at)


@outage_app.command
def plan(
    *,
    nodes: OnNodes = "",
    begin: Annotated[str, Parameter(name="--from", help="When it begins: 18:00, +2h.")],
    until: Annotated[str, Parameter(help="When it is to be over.")],
    reason: Reason,
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Announce planned downtime: whoever has jobs there is told."""
    wanted = _wanted(nodes, begin, until, reason, planned=True)
    return _open(wanted, quiet, at)


@outage_app.command
def cause(
    number: Number, words: CauseWords, /, *, quiet: Quiet = False, at: Service = NOWHERE
) -> int:
    """Say why an outage was, however long ago: whoever was told of it is told once more."""
    with at.client() as client:
        done = client.outage_do(number, "cause", CauseIn(cause=words))
    if not quiet:
        say(f"The cause of outage {number} is on record{'' if done.changed else ' already'}.")
    return exits.OK


@outage_app.command
def close(
    number: Number,
    /,
    *,
    reason: Reason,
    until: Until = "",
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Say that an outage is over, and what came of it."""
    body = CloseIn(reason=reason, until=_moment(until) if until else None)
    with at.client() as client:
        client.outage_do(number, "close", body)
    if not quiet:
        say(f"Outage {number} is closed.")
    return exits.OK


def _open(wanted: OutageIn, quiet: bool, at: Service) -> int:
    with at.client() as client:
        done = client.open_outage(wanted)
    if quiet:
        shown.data(str(done.outage))
        return exits.OK
    what = "planned" if wanted.planned else "open"
    say(f"Outage {done.outage} is {what}{'' if done.changed else ' already'}.")
    return exits.OK


def _wanted(nodes: str, since: str, until: str, reason: str, *, planned: bool) -> OutageIn:
    if not reason.strip():
        raise BadWord("Say why: --reason is empty.")
    return OutageIn(
        nodes=node_names(nodes) if nodes else (),
        since=_moment(since, ahead=planned),
        until=_moment(until, ahead=planned) if until else None,
        reason=reason,
        planned=planned,
    )


def _moment(text: str, *, ahead: bool = False) -> datetime:
    return moment(text, now(), ahead=ahead).astimezone(UTC)


def _time(text: str) -> str:
    return _moment(text).isoformat() if text else ""


def _until(o: OutageOut) -> str:
    if not o.open:
        return when(o.until)
    return f"planned: {when(o.until)}" if o.until else "open"


def _where(o: OutageOut) -> str:
    """What all of its nodes have in common, the nearest first."""
    for name in ("rack", "switch", "power"):
        if place := getattr(o, name):
            return f"{name} {place}"
    return f"pool {','.join(o.pools)}" if o.pools else ""


COLUMNS: list[Column[OutageOut]] = [
    Column("OUTAGE", lambda o: str(o.outage), right=True),
    Column("KIND", lambda o: o.kind),
    Column("SINCE", lambda o: when(o.since)),
    Column("UNTIL", _until),
    Column("NODES", lambda o: str(o.count) if o.count else "", right=True),
    Column("WHERE", _where),
    Column("WHY", lambda o: o.words or o.reason or o.cause),
    Column("RESULT", lambda o: o.result, wide=True),
    Column("OPENED BY", lambda o: o.opened_by, wide=True),
    Column("TOLD", lambda o: when(o.told_at), wide=True),
]


def _sentence(o: OutageOut) -> str:
    what = {
        "nodes": f"{counted(o.count, 'node')} lost",
        "master": "the master was away",
        "operator": "opened by hand",
        "planned": "planned downtime",
    }[o.kind]
    over = f"from {when(o.since)} to {when(o.until)}"
    if not o.open:
        return f"Outage {o.outage}: {what}, {over}."
    if o.kind == "planned":
        return f"Outage {o.outage}: {what} {over}, not closed."
    return f"Outage {o.outage}: {what}, since {when(o.since)}, not over."


def _facts(o: "OutageDetailOut") -> None:
    away = [m.node for m in o.members if m.lost_at and not m.back_at]
    shown.pairs(
        [
            ("nodes", shown_nodes([m.node for m in o.members])),
            ("not back", shown_nodes(away) if o.open else ""),
            ("where", _where(o)),
            ("cause", o.words or o.cause),
            ("reason", o.reason),
            ("result", o.result),
            ("opened", f"{when(o.opened_at)} by {o.opened_by}"),
            ("closed", f"{when(o.closed_at)} by {o.closed_by}" if o.closed_at else ""),
            ("told", when(o.told_at)),
        ]
    )


def _told(n: "NoticeOut") -> str:
    """Whether and when somebody was told, in words."""
    if n.sent_at:
        return f"{when(n.sent_at)} ({', '.join(n.channels)})"
    if n.next_at:
        return "waits" + (f": {n.error}" if n.error else "")
    return f"given up: {n.error}"


def _affected(found: "AffectedOut", *, fit: bool) -> None:
    number = found.outage.outage
    if not found.users:
        say(f"Outage {number} hit nobody.")
    else:
        jobs = sum(user.hit for user in found.users)
        shown.sentence(
            f"Outage {number} hit {counted(len(found.users), 'user')} and {counted(jobs, 'job')}: "
            f"{sum(u.requeued for u in found.users)} queued again, "
            f"{sum(u.lost for u in found.users)} lost, "
            f"{sum(u.needs_owner for u in found.users)} need their owner; "
            f"{shown_duration(sum(u.lost_node_s for u in found.users))} of node time lost."
        )
        titles = ["USER", "ACCOUNT", "JOBS", "LOST", "AGAIN", "NEED OWNER", "NODE TIME", "TOLD"]
        right = [False, False, True, True, True, True, True, False]
        shown.table(titles, [_user(user) for user in found.users], right=right, fit=fit)
        rows = [[str(row[name]) for name in JOB_COLUMNS] for row in _job_rows(found)]
        shown.data("")
        shown.table([name.upper() for name in JOB_COLUMNS], rows, fit=fit)
    if found.waiting:
        waited = sum(found.waiting.values())
        shown.data(
            f"{counted(waited, 'job')} of {counted(len(found.waiting), 'user')} waited longer."
        )
    shown.data(f"As of position {found.position}.")


JOB_COLUMNS = ("user", "job", "attempt", "node", "effect", "state", "last")


def _user(user: "AffectedUserOut") -> list[str]:
    numbers = [str(n) for n in (user.hit, user.lost, user.requeued, user.needs_owner)]
    told = _told(user.told[0]) if user.told else "no"
    return [user.user, user.account, *numbers, shown_duration(user.lost_node_s), told]


def _job_rows(found: "AffectedOut") -> list[dict[str, object]]:
    """An attempt and node a row, with what its user needs to know."""
    rows: list[dict[str, object]] = []
    for user in found.users:
        told = next((n.sent_at for n in user.told if n.sent_at), None)
        for job in user.jobs:
            row = {"user": user.user, "account": user.account, **job.model_dump(mode="json")}
            rows.append(row | {"told_at": told.isoformat() if told else None})
    return rows
