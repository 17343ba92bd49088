"""`usage`: what was used, when and by whom, and how much of it came to nothing."""

import csv
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, OutputFormat, Service, now
from ledger.cli.words import BadWord, moment
from ledger.models import UsedOut

if TYPE_CHECKING:
    from ledger.models import UsageOut

GROUPS = ("day", "user", "account", "pool")
HOUR_S = 3600
WASTE = {
    "failed": ("failed", "timeout", "out_of_memory", "deadline"),
    "outages": ("node_fail",),
    "cancelled": ("cancelled", "preempted", "requeued"),
}
"""What people ask after, and the ends of attempts that it is made of."""


def usage(
    *,
    by: Annotated[str, Parameter(help="Group by day, user, account, pool, joined by commas.")] = "",
    since: Annotated[
        str, Parameter(help="From when: -7d, 2026-11-20.", allow_leading_hyphen=True)
    ] = "",
    until: Annotated[
        str, Parameter(help="Until when; left out: now.", allow_leading_hyphen=True)
    ] = "",
    zone: Annotated[str, Parameter(help="Where a day begins at midnight, such as UTC.")] = "UTC",
    user: Annotated[str, Parameter(help="Only what this user used.")] = "",
    account: Annotated[str, Parameter(help="Only what this account used.")] = "",
    pool: Annotated[str, Parameter(help="Only what was used of this pool.")] = "",
    waste: Annotated[bool, Parameter(negative="", help="Show what came to nothing, too.")] = False,
    measured: Annotated[
        bool, Parameter(negative="", help="Show measured processor time in CSV, too.")
    ] = False,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Say what was used, when and by whom, and how much of it came to nothing.

    Node time is counted from placement to end, exactly; an attempt over midnight is split there.
    So is the time of processors that were given, which imported histories know. Processor time
    that agents measured is counted when an attempt has ended, whole on that day.
    """
    groups = [word for word in by.replace(" ", "").split(",") if word]
    if unknown := [word for word in groups if word not in GROUPS]:
        raise BadWord(f"{unknown[0]!r} is nothing to group by: write {', '.join(GROUPS)}.")
    window = [moment(t, now()).isoformat() if t else "" for t in (since, until)]
    asked = {"since": window[0], "until": window[1], "zone": zone}
    with at.client() as client:
        whose = {"user": user, "account": account, "pool": pool}
        found = past.of(client).usage(",".join(groups), **asked, **whose)
    if form == "csv":
        _csv(found, groups, waste=waste, measured=measured)
    elif form in ("json", "jsonl", "name"):
        shown.write(
            found.rows, [], form, of=UsedOut, name=lambda row: _key(row, groups)[0], tree=found
        )
    else:
        _table(found, groups, waste=waste)
    return exits.OK


def _key(row: "UsedOut", groups: list[str]) -> list[str]:
    return [str(getattr(row, group)) for group in groups] or ["all"]


def _wasted(row: "UsedOut") -> list[float]:
    return [sum(row.wasted.get(end, 0.0) for end in ends) for ends in WASTE.values()]


def _csv(found: "UsageOut", groups: list[str], *, waste: bool, measured: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    more = ["measured_cpu_seconds"] * measured
    more += [f"{name}_node_seconds" for name in WASTE] if waste else []
    writer.writerow([*groups, "jobs_ended", "node_seconds", "cpu_seconds", *more])
    for row in found.rows:
        numbers = [row.node_seconds, row.cpu_seconds, *[row.measured_cpu_seconds] * measured]
        numbers += _wasted(row) if waste else []
        cells = [f"{number:.6f}".rstrip("0").rstrip(".") for number in numbers]
        key = _key(row, groups) if groups else []
        writer.writerow([*key, row.jobs_ended, *cells])


def _table(found: "UsageOut", groups: list[str], *, waste: bool) -> None:
    if not found.rows:
        shown.data("Nothing was used.")
        return
    cpus = any(row.cpu_seconds for row in found.rows)  # kept by imported histories only
    measured = any(row.measured_cpu_seconds for row in found.rows)
    titles = [*(group.upper() for group in groups or ["of"]), "JOBS ENDED", "NODE HOURS"]
    titles += ["CPU HOURS"] * cpus + ["CPU HOURS MEASURED"] * measured
    titles += [f"OF THEM {name.upper()}" for name in (WASTE if waste else ())]
    rows = []
    for row in found.rows:
        numbers = [row.node_seconds, *[row.cpu_seconds] * cpus]
        numbers += [row.measured_cpu_seconds] * measured + (_wasted(row) if waste else [])
        hours = [f"{number / HOUR_S:,.2f}" for number in numbers]
        rows.append([*_key(row, groups), f"{row.jobs_ended:,}", *hours])
    keys = len(groups) or 1
    shown.table(titles, rows, right=[*[False] * keys, *[True] * (len(titles) - keys)])
    shown.data(f"As of position {found.position}; days begin at midnight in {found.zone}.")
