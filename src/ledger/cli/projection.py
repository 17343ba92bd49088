"""`projection …`: the tables beside the log: how far they are, made again, compared, repaired."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from pydantic import BaseModel

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, OutputFormat, Service
from ledger.cli.exits import Stop, say
from ledger.cli.shown import Column
from ledger.cli.text import line
from ledger.models import ListedOut

if TYPE_CHECKING:
    from ledger.models import ProjectionDetailOut, UnusedOut

projection_app = App(name="projection")

Data = Annotated[
    Path | None,
    Parameter(help="The service's data directory; JOBLEDGER_DATABASE_URL, if set, goes before it."),
]
Name = Annotated[str, Parameter(help="A projection, as `projection list` names it.")]
Names = Annotated[str, Parameter(help="Projections, as `projection list` names them.")]
All = Annotated[bool, Parameter(name="--all", negative="", help="All that are installed.")]


class MadeRow(BaseModel):
    """A projection that was made again."""

    projection: str
    position: int
    seconds: float
    events_per_s: int


class VerdictRow(BaseModel):
    """A projection beside the log folded anew; `differs` is where they first differ, if they do."""

    projection: str
    position: int
    live: str
    folded: str
    differs: str


@projection_app.command(name="list")
def list_(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """List the projections: how far each is, its size, its question, why it stands still."""
    with at.client() as client:
        found = client.projections()
    rows = found.projections
    if form in ("table", "wide"):
        bad = [row.projection for row in rows if row.state in BAD]
        late = [row.projection for row in rows if row.state == "behind"]
        verdict = f"{len(rows)} projections"
        verdict += f", not following: {', '.join(bad)}" if bad else ", all follow"
        verdict += f"; behind: {', '.join(late)}" if late else ""
        shown.sentence(f"{verdict}.")
        shown.data("")
    shown.write(rows, COLUMNS, form, of=ListedOut, name=lambda row: row.projection, tree=found)
    if form in ("table", "wide"):
        shown.data(f"As of position {found.position}.")
        if found.unused:
            _tell_unused(found.unused)
    return exits.OK


@projection_app.command
def show(name: Name, /, *, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Show a projection: its tables, their keys and rows, its queries, what it left out."""
    with at.client() as client:
        found = client.projection(name)
    if not shown.tree(found, form, name=found.projection):
        _tell(found)
    return exits.OK


@projection_app.command
def skip(
    name: Name,
    position: Annotated[int, Parameter(help="The event's position, as `projection list` has it.")],
    /,
    *,
    reason: Annotated[str, Parameter(name=["--reason", "-r"], help="Why, in your own words.")] = "",
    at: Service = NOWHERE,
) -> int:
    """Let a projection leave out one event, for ever: live and in every rebuild. It is recorded."""
    if not reason:
        raise Stop(exits.USAGE, "Say with --reason why: it stands in the log for ever.")
    with at.client() as client:
        done = client.skip_projection(name, position, reason)
    say(f"{name} leaves out position {position}, as recorded at {done.position}.")
    return exits.OK


@projection_app.command
def rebuild(
    *names: Names, all_: All = False, data: Data = None, form: OutputFormat = "table"
) -> int:
    """Make projections again from the log; the old tables answer until the new ones are whole.

    Beside a running service or not. Status 1 if one came to an event that it can't digest: then it
    is as it was.
    """
    from ledger.follow import rebuild as make

    directory, url = _place(data)
    rows, stopped = [], []
    for name in _meant(names, every=all_):
        began = time.monotonic()
        with _bar(name) as tell:
            done = make(name, directory, url, tell)
        if done.stopped_at:
            stopped.append(f"{name} can't digest position {done.stopped_at}: {done.error}")
            continue
        took = time.monotonic() - began
        rows.append(
            MadeRow(
                projection=name,
                position=done.position,
                seconds=round(took, 3),
                events_per_s=round(done.position / max(took, 1e-9)),
            )
        )
    shown.write(rows, MADE, form, of=MadeRow, name=lambda row: row.projection)
    for sentence in stopped:
        say(f"{line(sentence)}. Its tables are as they were.")
    return exits.NOT_NOW_STATE if stopped else exits.OK


@projection_app.command
def verify(
    *names: Names, all_: All = False, data: Data = None, form: OutputFormat = "table"
) -> int:
    """Fold the log anew in memory, and compare. Status 65 if a projection is not what it says."""
    from ledger.follow import verify as check
    from ledger.projection.reader import Unavailable

    directory, url = _place(data)
    rows = []
    for name in _meant(names, every=all_):
        try:
            found = check(name, directory, url)
        except Unavailable as error:
            raise Stop(exits.UNAVAILABLE, f"{error}.") from None
        rows.append(VerdictRow(projection=name, **found._asdict()))
    shown.write(rows, VERDICT, form, of=VerdictRow, name=lambda row: row.projection)
    wrong = [row.projection for row in rows if row.differs]
    if wrong:
        say(f"Make it again: jobledger projection rebuild {' '.join(wrong)}")
    return exits.DATA if wrong else exits.OK


@projection_app.command
def drop(
    name: Name,
    /,
    *,
    version: Annotated[int, Parameter(help="Which; `projection list` names those unused.")],
    data: Data = None,
) -> int:
    """Remove a version of a projection that nothing installed is any more; never one in use."""
    from ledger.projection import inventory
    from ledger.projection.discover import discover
    from ledger.projection.reader import Unavailable

    directory, url = _place(data)
    installed = discover()
    if name in installed.broken:
        why = "It can't be loaded now, so nobody can tell which version is in use."
        raise Stop(exits.NOT_NOW_STATE, f"{line(name)} stays. {why}")
    known = installed.projections.get(name)
    if known is not None and known.version == version:
        raise Stop(
            exits.NOT_NOW_STATE,
            f"{name} version {version} is in use.",
            f"To make it again: jobledger projection rebuild {name}",
        )
    try:
        found = inventory.unused(installed.projections.values(), directory, url)
    except Unavailable as error:
        raise Stop(exits.UNAVAILABLE, f"{error}.") from None
    wanted = next((one for one in found if (one.name, one.version) == (name, version)), None)
    if wanted is None:
        raise Stop(exits.NO_INPUT, f"There is no {line(name)} version {version} here.")
    inventory.drop(name, version, directory, url)
    say(f"{name} version {version} is gone: {_size(wanted.bytes)} are free.")
    return exits.OK


def _meant(names: tuple[str, ...], *, every: bool) -> list[str]:
    from ledger.projection.discover import discover

    known = discover().projections
    if every == bool(names):
        raise Stop(exits.USAGE, "Name projections, or say --all.")
    if unknown := [name for name in names if name not in known]:
        raise Stop(
            exits.NO_INPUT,
            f"There is no projection {line(unknown[0])}.",
            f"There are {', '.join(known)}.",
        )
    return list(known) if every else list(names)


def _place(data: Path | None) -> tuple[Path, str | None]:
    from ledger import logs
    from ledger.settings import Settings

    logs.quiet()
    settings = Settings(data=data) if data is not None else Settings()
    url = settings.database_url.get_secret_value() if settings.database_url else None
    return settings.data_directory().absolute(), url


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Tells a person at a terminal how far it is."""
    if not sys.stderr.isatty():
        yield lambda position, head: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda position, head: progress.update(task, completed=position, total=head)


def _tell(found: "ProjectionDetailOut") -> None:
    about = f"{found.projection} version {found.version}: {found.state}."
    shown.sentence(f"{about} {line(found.question)}")
    shown.data("")
    shown.pairs(
        [
            ("position", f"{found.position} of {found.head}"),
            (
                "behind",
                f"{found.lag_events} events, {found.lag_s:.1f} s" if found.lag_events else "",
            ),
            ("stopped at", str(found.stopped_at or "")),
            ("why", found.error),
            ("size", _size(found.bytes)),
            ("queries", ", ".join(found.queries)),
            ("left out", ", ".join(map(str, found.skipped))),
        ]
    )
    shown.data("")
    titles = ["TABLE", "ROWS", "KEY", "COLUMNS", "LOOKED UP BY"]
    cells = [
        [
            table.table,
            "" if table.rows is None else f"{table.rows:,}",
            ", ".join(table.key),
            str(len(table.columns)),
            "; ".join(",".join(index) for index in table.indexes),
        ]
        for table in found.tables
    ]
    shown.table(titles, cells, right=[False, True, False, True, False])
    shown.data(f"As of position {found.position}.")


def _tell_unused(found: "list[UnusedOut]") -> None:
    """Old versions: what they take, and how to be rid of them."""
    total = _size(sum(one.bytes for one in found))
    what = "1 version is" if len(found) == 1 else f"{len(found)} versions are"
    shown.data("")
    shown.data(f"{what} of no use any more, {total}; remove what you won't go back to:")
    for one in found:
        drop = f"jobledger projection drop {line(one.projection)} --version {one.version}"
        shown.data(f"  {drop}  # {_size(one.bytes)}")


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.1f} MiB"


BAD = ("stopped", "unavailable", "broken")
COLUMNS: list[Column[ListedOut]] = [
    Column("PROJECTION", lambda r: r.projection),
    Column("VERSION", lambda r: str(r.version), right=True),
    Column("STATE", lambda r: r.state),
    Column("POSITION", lambda r: str(r.position), right=True),
    Column("BEHIND", lambda r: f"{r.lag_events} ({r.lag_s:.1f} s)", right=True),
    Column("SIZE", lambda r: _size(r.bytes), right=True),
    Column("STOPPED AT", lambda r: str(r.stopped_at or ""), right=True, wide=True),
    Column("QUESTION, OR WHAT IS WRONG", lambda r: r.error or r.question),
]
MADE: list[Column[MadeRow]] = [
    Column("PROJECTION", lambda r: r.projection),
    Column("POSITION", lambda r: str(r.position), right=True),
    Column("SECONDS", lambda r: f"{r.seconds:.1f}", right=True),
    Column("EVENTS/S", lambda r: f"{r.events_per_s:,}", right=True),
]
VERDICT: list[Column[VerdictRow]] = [
    Column("PROJECTION", lambda r: r.projection),
    Column("POSITION", lambda r: str(r.position), right=True),
    Column("VERDICT", lambda r: r.differs or "is what the log says"),
    Column("SHA-256", lambda r: r.folded, wide=True),
]
