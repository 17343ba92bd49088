"""`queue` and `demand`: what waits and runs now, and what was asked for over time."""

import csv
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, OutputFormat, Service, now
from ledger.cli.exits import say
from ledger.cli.shown import Column, Row, when
from ledger.cli.text import line
from ledger.cli.words import BadWord, counted, moment
from ledger.models import DemandedOut, QueuedOut

if TYPE_CHECKING:
    from ledger.models import DemandOut

WHOSE = ("pool", "user", "account")
PERIODS = ("hour", "day")
GROUPS = (*PERIODS, *WHOSE)
HOUR_S = 3600
COUNTED = ("asked", "started", "withdrawn", "refused")
LASTED = ("queued_job", "queued_node", "held_job", "held_node", "running_job", "in_use_node",
          "in_service_node", "unmet_node")  # fmt: skip

User = Annotated[str, Parameter(name=["--user", "-u"], help="Only this user's.")]
Account = Annotated[str, Parameter(help="Only this account's.")]
Pool = Annotated[str, Parameter(name=["--pool", "-p"], help="Only what is about this pool.")]


def queue(
    *,
    by: Annotated[str, Parameter(help="Group by pool, user, account, joined by commas.")] = (
        "pool,user,account"
    ),
    user: User = "",
    account: Account = "",
    pool: Pool = "",
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Say how long the queue is and how many nodes are in use now, by pool, user and account."""
    groups = _groups(by, WHOSE) or list(WHOSE)
    with at.client() as client:
        found = past.of(client).queue(",".join(groups), user=user, account=account, pool=pool)
    if form not in ("table", "wide"):
        shown.write(
            found.rows, [], form, of=QueuedOut, name=lambda row: _named(row, groups), tree=found
        )
        return exits.OK
    whole = found.whole
    held = f", {whole.held_jobs:,} of them held" if whole.held_jobs else ""
    of = "" if whole.nodes_in_service is None else f" of {whole.nodes_in_service:,} in service"
    shown.sentence(
        f"{_waits(whole.queued_jobs)} for {counted(whole.queued_nodes, 'node')}{held}; "
        f"{_runs(whole.running_jobs)} on {counted(whole.nodes_in_use, 'node')}{of}."
    )
    if found.rows:
        columns = [*_whose(groups), *(c for c in QUEUE if form == "wide" or not c.wide)]
        if all(row.nodes_in_service is None for row in found.rows):
            columns = columns[:-1]
        _table(columns, found.rows, fit=form == "table")
    shown.data(f"As of position {found.position}, {when(found.at)}.")
    return exits.OK


QUEUE: list[Column[QueuedOut]] = [
    Column("WAITING", lambda r: f"{r.queued_jobs:,}", right=True),
    Column("NODES WANTED", lambda r: f"{r.queued_nodes:,}", right=True),
    Column("HELD", lambda r: f"{r.held_jobs:,}", right=True),
    Column("NODES HELD", lambda r: f"{r.held_nodes:,}", wide=True, right=True),
    Column("RUNNING", lambda r: f"{r.running_jobs:,}", right=True),
    Column("NODES IN USE", lambda r: f"{r.nodes_in_use:,}", right=True),
    Column("IN SERVICE", lambda r: f"{r.nodes_in_service:,}", right=True),
]


def demand(
    *,
    by: Annotated[
        str, Parameter(help="Group by hour or day, pool, user, account, joined by commas.")
    ] = "",
    since: Annotated[
        str, Parameter(help="From when: -7d, 2026-11-20.", allow_leading_hyphen=True)
    ] = "",
    until: Annotated[
        str, Parameter(help="Until when; left out: now.", allow_leading_hyphen=True)
    ] = "",
    zone: Annotated[str, Parameter(help="Where days and hours begin, such as UTC.")] = "UTC",
    user: User = "",
    account: Account = "",
    pool: Pool = "",
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Say what was asked for, refused, withdrawn and unmet, and how long queues were, over time.

    Queue lengths and nodes in use are exact averages over each period. Unmet is what waited and was
    not held, as far as it and what was in use were more than the nodes in service.
    """
    groups = _groups(by, GROUPS)
    if {*PERIODS} <= {*groups}:
        raise BadWord("Group by hour or by day, not by both.")
    window = [moment(t, now()).isoformat() if t else "" for t in (since, until)]
    asked = {"since": window[0], "until": window[1], "zone": zone}
    with at.client() as client:
        found = past.of(client).demand(
            ",".join(groups), **asked, user=user, account=account, pool=pool
        )
    if form == "csv":
        _csv(found, groups)
    elif form in ("json", "jsonl", "name"):
        shown.write(
            found.rows, [], form, of=DemandedOut, name=lambda row: _named(row, groups), tree=found
        )
    elif not found.rows:
        say("Nothing was asked for.")
    else:
        _tell(found, groups, wide=form == "wide")
    return exits.OK


def _groups(by: str, known: tuple[str, ...]) -> list[str]:
    groups = [word for word in by.replace(" ", "").split(",") if word]
    if unknown := [word for word in groups if word not in known]:
        raise BadWord(f"{unknown[0]!r} is nothing to group by: write {', '.join(known)}.")
    return groups


def _named(row: QueuedOut, groups: list[str]) -> str:
    """What a row is grouped by first."""
    if not groups:
        return "all"
    if isinstance(row, DemandedOut) and groups[0] in PERIODS:
        return row.since.isoformat().replace("+00:00", "Z")
    return str(getattr(row, groups[0]))


def _whose(groups: list[str]) -> list[Column[QueuedOut]]:
    def column(group: str) -> Column[QueuedOut]:
        return Column(group.upper(), lambda row: str(getattr(row, group)))

    return [column(group) for group in groups if group in WHOSE]


def _waits(jobs: int) -> str:
    return f"{counted(jobs, 'job')} {'waits' if jobs == 1 else 'wait'}"


def _runs(jobs: int) -> str:
    return f"{counted(jobs, 'job')} {'runs' if jobs == 1 else 'run'}"


# ── demand over time ─────────────────────────────────────────────────────────────────────────────


def _average(row: DemandedOut, seconds: float | None) -> str:
    length = (row.until - row.since).total_seconds()
    return "" if seconds is None or not length else f"{seconds / length:,.1f}"


def _hours(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / HOUR_S:,.1f}"


DEMAND: list[Column[DemandedOut]] = [
    Column("ASKED", lambda r: f"{r.asked_jobs:,}", right=True),
    Column("NODE HOURS", lambda r: _hours(r.asked_node_seconds), wide=True, right=True),
    Column("REFUSED", lambda r: f"{r.refused_jobs:,}", right=True),
    Column("NODE HOURS", lambda r: _hours(r.refused_node_seconds), wide=True, right=True),
    Column("WITHDRAWN", lambda r: f"{r.withdrawn_jobs:,}", right=True),
    Column("NODE HOURS", lambda r: _hours(r.withdrawn_node_seconds), wide=True, right=True),
    Column("STARTED", lambda r: f"{r.started_jobs:,}", right=True),
    Column("NODE HOURS", lambda r: _hours(r.started_node_seconds), wide=True, right=True),
    Column("QUEUED", lambda r: _average(r, r.queued_job_seconds), right=True),
    Column("WANTED", lambda r: _average(r, r.queued_node_seconds), right=True),
    Column("HELD", lambda r: _average(r, r.held_node_seconds), wide=True, right=True),
    Column("IN USE", lambda r: _average(r, r.in_use_node_seconds), right=True),
    Column("SERVING", lambda r: _average(r, r.in_service_node_seconds), right=True),
    Column("UNMET", lambda r: _hours(r.unmet_node_seconds), right=True),
]
NOBODYS = ("SERVING", "UNMET")


def _tell(found: "DemandOut", groups: list[str], *, wide: bool) -> None:
    assert found.since is not None
    assert found.until is not None
    zone = ZoneInfo(found.zone)
    kinds = {kind: sum(getattr(r, f"{kind}_jobs") for r in found.rows) for kind in COUNTED}
    hours = _hours(sum(row.asked_node_seconds for row in found.rows))
    shown.sentence(
        f"Between {when(found.since)} and {when(found.until)}, "
        f"{counted(kinds['asked'], 'job')} asked for {hours} node hours; "
        f"{kinds['refused']:,} {'was' if kinds['refused'] == 1 else 'were'} refused, "
        f"{kinds['withdrawn']:,} withdrawn, {kinds['started']:,} started."
    )
    columns: list[Column[DemandedOut]] = []
    if period := next((group for group in groups if group in PERIODS), ""):
        form = "%Y-%m-%d" if period == "day" else "%Y-%m-%d %H:%M"
        columns.append(Column(period.upper(), lambda r: r.since.astimezone(zone).strftime(form)))
    columns += [Column(c.title, c.text) for c in _whose(groups)]
    columns += [c for c in DEMAND if wide or not c.wide]
    if all(row.unmet_node_seconds is None for row in found.rows):
        columns = [c for c in columns if c.title not in NOBODYS]
    _table(columns, found.rows, fit=not wide)
    shown.sentence(
        "QUEUED: jobs on average; WANTED, IN USE, SERVING: nodes on average; UNMET: node hours."
        if columns[-1].title in NOBODYS
        else "QUEUED: jobs on average; WANTED, IN USE: nodes on average."
    )
    begins = f"; {period}s begin in {found.zone}" if period else ""
    shown.data(f"As of position {found.position}{begins}.")


def _table(columns: Sequence[Column[Row]], rows: Sequence[Row], *, fit: bool) -> None:
    shown.table(
        [c.title for c in columns],
        [[c.text(row) for c in columns] for row in rows],
        right=[c.right for c in columns],
        fit=fit,
    )


def _csv(found: "DemandOut", groups: list[str]) -> None:
    """One line a row; times are RFC 3339, numbers exact."""
    zone = ZoneInfo(found.zone)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    levels = [f"{name}_seconds" for name in LASTED]
    counts = [f"{kind}_{what}" for kind in COUNTED for what in ("jobs", "node_seconds")]
    writer.writerow([*groups, *counts, *levels])
    for row in found.rows:
        names: list[object] = []
        for group in groups:
            if group == "day":
                names.append(row.since.astimezone(zone).date())
            elif group == "hour":
                names.append(_named(row, ["hour"]))
            else:
                names.append(line(getattr(row, group)))
        cells = [getattr(row, name) for name in (*counts, *levels)]
        writer.writerow([*names, *("" if c is None else _number(c) for c in cells)])


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
