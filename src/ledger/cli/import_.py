"""`import sacct` and `import swf`: another system's history as a ledger of its own."""

import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.exits import Stop, say
from ledger.cli.words import BadWord, counted

if TYPE_CHECKING:
    from ledger.importing.past import Past
    from ledger.importing.tally import Tally

import_app = App(name="import")

Data = Annotated[Path, Parameter(help="Where the new ledger is to lie: a directory without one.")]
LINES_BETWEEN = 5_000
SACCT = "sacct --allusers --duplicates --parsable2 --starttime 2020-01-01 --format ALL"


@import_app.command
def sacct(
    file: Annotated[Path, Parameter(help="What `sacct -P` printed, plain or gzipped.")],
    /,
    *,
    data: Data,
    timezone: Annotated[
        str,
        Parameter(help="The zone of its times, such as Europe/Berlin; left out: this machine's."),
    ] = "",
    fields: Annotated[
        str, Parameter(help="Its columns, joined by commas, if its first line does not name them.")
    ] = "",
    delimiter: Annotated[
        str, Parameter(help="What stands between columns; left out: it is found out.")
    ] = "",
    cluster: Annotated[
        str, Parameter(help="Only the jobs of this cluster, where it tells of several.")
    ] = "",
) -> int:
    """Import Slurm's accounting: jobs, array tasks, what was queued again, nodes and processors."""
    from ledger.importing import sacct as slurm
    from ledger.importing.rows import NoHeader, layout
    from ledger.importing.tally import Tally

    zone = _zone(timezone)
    tally = Tally()
    with _lines(file) as lines:
        first = next(lines, "")
        try:
            form = layout(first, [f for f in fields.split(",") if f], delimiter)
        except NoHeader:
            raise Stop(
                exits.DATA,
                f"The first line of {file} does not name sacct's columns.",
                f"Make it with `{SACCT}`, or name them with --fields.",
            ) from None
        if lacking := slurm.missing(form):
            raise Stop(
                exits.DATA,
                f"{file} lacks the columns {', '.join(lacking)}.",
                f"Make it with `{SACCT}`.",
            )
        jobs = slurm.read(_again(first, lines), form, zone, tally, cluster)
    return _make(data, jobs, tally)


@import_app.command
def swf(
    file: Annotated[Path, Parameter(help="A trace, .swf or .swf.gz.")],
    /,
    *,
    data: Data,
) -> int:
    """Import a trace in the Standard Workload Format; with nodes, where it lists them."""
    from ledger.importing import swf as workload
    from ledger.importing.tally import Tally
    from ledger.importing.trace import BadTrace, read, remarks

    tally = Tally()
    try:
        jobs = workload.read(read(file), workload.machine(remarks(file)), tally)
    except BadTrace as bad:
        raise Stop(
            exits.DATA, f"{file} is no trace: {bad}.", "Is it in the Standard Workload Format?"
        ) from None
    return _make(data, jobs, tally)


def _make(data: Path, jobs: "Sequence[Past]", tally: "Tally") -> int:
    """Write the ledger, and say what came of it. Nothing is made where there is nothing to keep."""
    from ledger.importing.past import write
    from ledger.settings import keep_private
    from ledger.store.location import db_version, open_log

    if db_version(data, None) is not None:
        raise Stop(
            exits.USAGE, f"There is a ledger in {data} already.", "Name another --data directory."
        )
    if jobs:
        _tell_jobs(tally, jobs)
    _tell_rest(tally)
    if not jobs:
        raise Stop(exits.DATA, "There is no job in it; no ledger was made.")
    keep_private(data)
    log = open_log(data, None, write=True, create=True)
    try:
        head = write(log, jobs, _progress())
    finally:
        log.close()
    say(f"The ledger in {data} has {head.position:,} rows, chain head {head.hash[:12]}.")
    say(f"Ask it: jobledger usage --by day --data {shlex.quote(str(data))}")
    return exits.OK


def _tell_jobs(tally: "Tally", jobs: "Sequence[Past]") -> None:
    nodes = counted(len(tally.nodes), "named node") if tally.nodes else "nodes without names"
    shown.data(
        f"{counted(tally.jobs, 'job')} of {counted(len(tally.users), 'user')}: "
        f"{tally.ran:,} of them ran, in {counted(tally.tries, 'attempt')} on {nodes}."
    )
    last = max(max([p.submitted_at, *(t.end or t.start for t in p.tries)]) for p in jobs)
    shown.data(f"It is the time from {_day(min(p.submitted_at for p in jobs))} to {_day(last)}.")


def _tell_rest(tally: "Tally") -> None:
    for what, times in tally.noted.most_common():
        shown.data(f"  {'once' if times == 1 else f'{times:,} times'}: {what}")
    for reason, count in tally.skipped.most_common():
        shown.data(
            f"  {counted(count, 'row')} left out: {reason} "
            f"(the first is line {tally.first[reason]})"
        )


def _day(micros: int) -> str:
    return shown.when(datetime.fromtimestamp(micros / 1_000_000, UTC))


def _zone(name: str) -> tzinfo | None:
    """A time zone by its name; None, this machine's own, for none."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadWord(f"{name!r} is not a time zone: write Europe/Berlin, or UTC.") from None


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[str]]:
    """The lines of a plain or gzipped file; a carriage return alone ends none."""
    import gzip
    import zlib

    with open(file, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if packed else raw
        text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="\n")
        try:
            yield _watched(text, raw) if sys.stderr.isatty() else iter(text)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Stop(exits.DATA, f"{file} is broken: {error}.") from None


def _watched(lines: Iterable[str], raw: BinaryIO) -> Iterator[str]:
    """Tells a person at a terminal how much of the file was read."""
    size = max(1, os.fstat(raw.fileno()).st_size)
    for number, text in enumerate(lines):
        if number % LINES_BETWEEN == 0:
            sys.stderr.write(f"\rread {100 * raw.tell() // size} % … ")
            sys.stderr.flush()
        yield text
    sys.stderr.write("\r\033[K")
    sys.stderr.flush()


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _progress() -> Callable[[int, int], None] | None:
    """Tells a person at a terminal how far it is."""
    if not sys.stderr.isatty():
        return None

    def tell(done: int, of: int) -> None:
        sys.stderr.write(f"\rwritten {100 * done // of} % … " if done < of else "\r\033[K")
        sys.stderr.flush()

    return tell
