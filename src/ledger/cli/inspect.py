"""`inspect`: the master's inner state, without a database's client and without being in its way."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, get_args

from cyclopts import Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, OutputFormat, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.text import line
from ledger.cli.words import BadWord, shown_duration
from ledger.models import InnerOut, InnerPart

if TYPE_CHECKING:
    pass

MOST = 1_000
UNITS = ("at", "s", "bytes")


def inspect(
    part: Annotated[
        InnerPart | None, Parameter(help="Which part; left out: each in a line.")
    ] = None,
    /,
    *,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="How many rows at most.")] = 100,
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """Look inside the running master (operators): what waits, who was told what, how far all is.

    queue: jobs and requests that wait. leases: nodes, the longest silent first. outbox: orders not
    yet obeyed, reports not yet recorded. checkpoints, projections, plan (the planner's last pass),
    keys (of submissions), timers (what is due next), log, memory.
    """
    if not 0 <= limit <= MOST:
        raise BadWord(f"--limit: between 0 and {MOST}.")
    with at.client() as client:
        if part is None:
            parts = [client.inner(name, 1) for name in get_args(InnerPart)]
            shown.write(parts, SUMMARY, form, of=InnerOut, name=lambda p: p.part)
            return exits.OK
        found = client.inner(part, limit)
    if form == "json":
        shown.tree(found, form)
    elif form in ("table", "wide"):
        _tell(found, fit=form == "table")
    else:
        shown.plain(found.rows or [found.facts], form)
    return exits.OK


SUMMARY: list[Column[InnerOut]] = [
    Column("PART", lambda p: p.part),
    Column("STATE", lambda p: p.sentence),
]


def _tell(found: InnerOut, *, fit: bool) -> None:
    shown.sentence(line(found.sentence))
    shown.data("")
    shown.pairs((_title(name), _cell(name, value)) for name, value in found.facts.items())
    if found.rows:
        shown.data("")
        titles = [_title(name).upper() for name in found.rows[0]]
        cells = [[_cell(name, value) for name, value in row.items()] for row in found.rows]
        numbers = [isinstance(value, int | float) for value in found.rows[0].values()]
        shown.table(titles, cells, right=numbers, fit=fit)
    if found.more:
        say(f"… and {found.more} more; --limit shows up to {MOST}.")
    say(f"As of position {found.position}, {when(found.at)}.")


def _title(name: str) -> str:
    """`last_took_s` is a number of seconds called `last took`."""
    stem, _, unit = name.rpartition("_")
    return (stem if unit in UNITS and stem else name).replace("_", " ")


def _cell(name: str, value: object) -> str:
    """A value as people read it, by what its name says it is."""
    unit = name.rpartition("_")[2]
    if value is None or value == "":
        return ""
    if unit == "at":
        return when(datetime.fromisoformat(str(value)))
    if isinstance(value, bool | str):
        return str(value)
    if unit == "bytes":
        return f"{float(str(value)) / 2**20:.1f} MiB"
    if unit == "s":
        seconds = float(str(value))
        return f"{seconds * 1000:.1f} ms" if abs(seconds) < 1 else shown_duration(seconds)
    return str(value)
