"""`impact`: whom the loss of nodes hit."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, Format, OutputFormat, Service, now
from ledger.cli.exits import say
from ledger.cli.shown import when
from ledger.cli.text import line
from ledger.cli.words import BadWord, counted, moment, node_names, shown_duration, shown_nodes

if TYPE_CHECKING:
    from ledger.models import ImpactJobOut, ImpactOut

TITLES = ["USER", "ACCOUNT", "JOB", "ATTEMPT", "NODES", "STRUCK", "EFFECT", "LOST", "STATE"]
RIGHT = [title == "LOST" for title in TITLES]

Stated = Annotated[
    bool | None,
    Parameter(
        help="You say that these nodes were lost then: count whoever ran there, also where no loss "
        "is on record. So it is in an imported history, where nodes and a time are given."
    ),
]
Master = Annotated[
    bool,
    Parameter(
        negative="",
        help="Whom the master's own absences hit: whose jobs they ended, and whose waited.",
    ),
]
Salvage = Annotated[
    list[Path] | None,
    Parameter(
        consume_multiple=True,
        negative="",
        help="The whole service is lost: list whom that hit, out of whatever is left. Logs, "
        "exports, backups, agents' spools, or directories of them.",
    ),
]


def impact(
    *,
    nodes: Annotated[str, Parameter(help="The lost nodes: n3,n[7-9]. Left out: all.")] = "",
    since: Annotated[
        str,
        Parameter(help="From when: -2h, 10:00, 2026-11-20T10:00.", allow_leading_hyphen=True),
    ] = "",
    until: Annotated[
        str, Parameter(help="Until when; left out: now.", allow_leading_hyphen=True)
    ] = "",
    stated: Stated = None,
    master: Master = False,
    salvage: Salvage = None,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """List whose jobs were interrupted in a window of time, by the loss of nodes or the master's.

    With --salvage no service is asked: files are read as they are, whatever became of them.
    """
    if salvage:
        others = nodes or until or master or stated is not None
        return _salvaged(salvage, since, form, others=bool(others))
    if master and (nodes or stated is not None):
        raise BadWord("The master's absences have no nodes, and are on record: leave these out.")
    folded = shown_nodes(list(node_names(nodes))) if nodes else ""
    window = [moment(t, now()).astimezone(UTC).isoformat() if t else "" for t in (since, until)]
    with at.client() as client:
        then = past.of(client)
        if master:
            found = then.impact_of_absences(*window)
        else:
            found = then.impact(folded, window[0], window[1], stated)
    if master and form in ("table", "wide"):
        _absences(found, fit=form == "table")
    elif form in ("table", "wide"):
        _table(found, fit=form == "table")
    else:
        _data(found, form)
    return exits.OK


def _salvaged(paths: list[Path], since: str, form: Format, *, others: bool) -> int:
    from ledger.cli.salvage import salvaged

    if others:
        raise BadWord("Of the loss of the whole service no nodes and no window can be asked.")
    return salvaged(paths, moment(since, now()) if since else None, form)


def _data(found: "ImpactOut", form: Format) -> None:
    """For programs: JSON is a user with his jobs, CSV a row for each attempt and node."""
    from ledger.models import ImpactJobOut, ImpactUserOut

    if form == "csv":
        rows = [
            {"user": user.user, "account": user.account, **job.model_dump(mode="json")}
            for user in found.users
            for job in user.jobs
        ]
        shown.plain(rows, form, ("user", "account", *ImpactJobOut.model_fields))
    elif form == "name":
        for name in dict.fromkeys(user.user for user in found.users):
            shown.data(line(name))
    else:
        shown.write(
            found.users, [], form, of=ImpactUserOut, name=lambda user: user.user, tree=found
        )


def _table(found: "ImpactOut", *, fit: bool) -> None:
    where = line(shown_nodes(found.nodes)) or "any node"
    window = _window(found.since, found.until)
    if not found.users:
        was = "was on" if found.stated else "was hit by the loss of"
        say(f"Nobody {was} {where} {window}.")
        if found.never_used:
            never = line(shown_nodes(found.never_used))
            say(f"No job ever ran on {never}: is that its name?")
        return
    jobs = [job for user in found.users for job in user.jobs]
    hit = _were_there(jobs, found.nodes, window) if found.stated else _were_hit(where, window)
    _hit(found, hit, fit=fit)
    shown.data(f"As of position {found.position}.")


def _hit(found: "ImpactOut", were: str, *, fit: bool) -> None:
    """Those who were hit: a sentence that says by what, and a table."""
    jobs = [job for user in found.users for job in user.jobs]
    users = len({user.user for user in found.users})
    shown.sentence(
        f"{counted(users, 'user')} and {counted(len({job.job for job in jobs}), 'job')} {were}"
        f"{sum(user.requeued for user in found.users)} queued again, "
        f"{shown_duration(sum(user.lost_node_s for user in found.users))} of node time lost."
    )
    cells = [
        [user.user, user.account, *attempt] for user in found.users for attempt in _rows(user.jobs)
    ]
    shown.table(TITLES, cells, right=RIGHT, fit=fit)


def _absences(found: "ImpactOut", *, fit: bool) -> None:
    """Whom the master's absences hit: whose jobs ended by them, and whose only waited."""
    window = _window(found.since, found.until)
    if not found.absences:
        say(f"The master was not away {window}.")
        return
    away_s = sum((a.until - a.since).total_seconds() for a in found.absences)
    times = "once" if len(found.absences) == 1 else f"{len(found.absences):,} times"
    shown.data(f"The master was away {times} {window}, {shown_duration(away_s)} in all.")
    if found.users:
        _hit(found, "were hit by that: ", fit=fit)
    else:
        say("No job ended by that.")
    if found.waiting:
        jobs = sum(found.waiting.values())
        shown.data(
            f"Longer waited {counted(jobs, 'job')} of {counted(len(found.waiting), 'user')}:"
        )
        shown.table(
            ["USER", "JOBS"],
            [[user, f"{n:,}"] for user, n in found.waiting.items()],
            right=[False, True],
            fit=fit,
        )
    shown.data(f"As of position {found.position}.")


def _were_hit(where: str, window: str) -> str:
    return f"were hit by the loss of {where} {window}: "


def _were_there(jobs: "list[ImpactJobOut]", nodes: list[str], window: str) -> str:
    ended = {job.job for job in jobs if job.effect != "ran_there"}
    where = line(shown_nodes(nodes)) or "any node"
    lost = "they are said to have been" if len(nodes) > 1 else "it is said to have been"
    return (
        f"were on {where} {window}, when {lost} lost: {len(ended) or 'none'} of them ended then, "
    )


def _rows(jobs: "list[ImpactJobOut]") -> Iterator[list[str]]:
    """An attempt a row, its nodes folded."""
    for (job, attempt), some in groupby(jobs, key=lambda job: (job.job, job.attempt)):
        those = list(some)
        effects = dict.fromkeys(one.effect.replace("_", " ") for one in those)
        lost = those[0].lost_node_s
        yield [
            str(job),
            str(attempt),
            shown_nodes([one.node for one in those]),
            when(min(one.struck_at for one in those)),
            ", ".join(effects),
            shown_duration(lost) if lost else "",
            those[0].state,
        ]


def _window(since: datetime | None, until: datetime | None) -> str:
    """A window of time in words; an open end is not mentioned."""
    if since and until:
        return f"between {when(since)} and {when(until)}"
    if since:
        return f"since {when(since)}"
    return f"until {when(until)}" if until else "so far"
