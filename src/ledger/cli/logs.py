"""`log …` and `db …`: the log itself, read where it lies, with or without a running master."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

from cyclopts import App, Parameter

from ledger.cli import exits, failures, shown
from ledger.cli.common import OutputFormat
from ledger.cli.exits import Stop, say
from ledger.cli.shown import when

if TYPE_CHECKING:
    from ledger.models import HeadOut
    from ledger.store.chain import Head
    from ledger.store.log import Log

log_app = App(name="log")
db_app = App(name="db")

Data = Annotated[
    Path | None,
    Parameter(help="The service's data directory; JOBLEDGER_DATABASE_URL, if set, goes before it."),
]


@contextmanager
def _log(data: Path | None, *, write: bool = False, create: bool = False) -> Iterator["Log"]:
    """The log that is meant. To write, the master's lock is held: a running master refuses."""
    from ledger.settings import keep_private
    from ledger.store.leadership import leadership
    from ledger.store.location import open_log

    directory, url = _place(data)
    lead = None
    if write:
        keep_private(directory)
        lead = leadership(directory, url, _lost)
        lead.acquire(wait=False)
    try:
        log = open_log(directory, url, write=write, create=create)
        try:
            yield log
        finally:
            log.close()
    finally:
        if lead is not None:
            lead.release()


def _lost(reason: str) -> None:
    raise Stop(exits.UNAVAILABLE, f"The log's lock was lost: {reason}.")


def _place(data: Path | None) -> tuple[Path, str | None]:
    from ledger.settings import Settings

    settings = Settings(data=data) if data is not None else Settings()
    url = settings.database_url.get_secret_value() if settings.database_url else None
    return settings.data_directory().absolute(), url


@log_app.command
def verify(*, data: Data = None, form: OutputFormat = "table") -> int:
    """Check the whole log: the chain, every row, event and text. Status 65 if it is not whole."""
    from ledger.store.log import LogCorrupt
    from ledger.store.verify import verify as check

    with _log(data) as log:
        progress = _progress("verified")
        try:
            found = check(log, progress)
        except LogCorrupt as corrupt:
            raise Stop(exits.DATA, failures.broken(corrupt), failures.BROKEN_HINT) from None
        head = _head_out(found.head, log.incarnation)
    if not shown.tree(head, form, name=str(head.position)):
        shown.data(
            f"The log is whole: {found.events} events in {head.commit} commits, up to position "
            f"{head.position}, chain head {head.hash}."
        )
        for name, count in found.unknown.items():
            shown.data(f"  {count} events are of a newer release: {name}")
    if found.missing:
        digest, position = min(found.missing.items(), key=lambda item: item[1])
        say(
            f"{len(found.missing)} texts are gone, first the one of position {position}: {digest}. "
            f"{failures.BROKEN_HINT}"
        )
        return exits.DATA
    return exits.OK


@log_app.command
def head(*, data: Data = None, form: OutputFormat = "table") -> int:
    """Print the log's head: its position, commit, hash, time and epoch."""
    with _log(data) as log:
        found = _head_out(log.head(), log.incarnation)
    if not shown.tree(found, form, name=str(found.position)):
        shown.pairs(
            [
                ("position", str(found.position)),
                ("commit", str(found.commit)),
                ("hash", found.hash),
                ("at", when(found.at)),
                ("epoch", str(found.epoch)),
                ("incarnation", found.incarnation),
            ]
        )
    return exits.OK


@log_app.command
def export(
    file: Annotated[str, Parameter(help="Where to write it; left out: to stdout.")] = "-",
    /,
    *,
    data: Data = None,
) -> int:
    """Write the whole log as lines of JSON."""
    from ledger.store.transfer import export as write

    with _log(data) as log, _sink(file) as stream:
        found = write(log, stream)
    say(f"Exported the log up to position {found.position}, chain head {found.hash}.")
    return exits.OK


@log_app.command(name="import")
def import_(
    file: Annotated[str, Parameter(help="An export; left out: from stdin.")] = "-",
    /,
    *,
    data: Data = None,
) -> int:
    """Fill a new log from an export, chain checked. No master may run, nor a log be there."""
    from ledger.store.transfer import ImportRefused
    from ledger.store.transfer import import_ as take

    with _source(file) as stream, _log(data, write=True, create=True) as log:
        try:
            found = take(log, stream)
        except ImportRefused as refusal:
            raise Stop(
                exits.DATA,
                f"{file} is no whole export: {refusal}.",
                "The new log holds what came before that line: throw it away.",
            ) from None
    say(f"Imported the log up to position {found.position}, chain head {found.hash}.")
    return exits.OK


@contextmanager
def _sink(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with open(name, "xb") as file:
            yield file


@contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
    else:
        with open(name, "rb") as file:
            yield file


def _progress(verb: str) -> Callable[[int], None] | None:
    """Tells a person at a terminal how far a long work is."""
    if not sys.stderr.isatty():
        return None

    def tell(position: int) -> None:
        sys.stderr.write(f"\r{verb} up to position {position} … ")
        sys.stderr.flush()

    return tell


def _head_out(found: "Head", incarnation: str) -> "HeadOut":
    from datetime import UTC, datetime

    from ledger.models import HeadOut

    return HeadOut(
        position=found.position,
        commit=found.commit,
        hash=found.hash,
        at=datetime.fromtimestamp(found.at / 1_000_000, UTC) if found.at else None,
        epoch=found.epoch,
        incarnation=incarnation,
    )


@db_app.command
def upgrade(*, data: Data = None) -> int:
    """Make the log's tables, or bring them up to this release. No master may run."""
    from ledger.settings import keep_private
    from ledger.store.leadership import leadership
    from ledger.store.location import db_upgrade, db_version

    directory, url = _place(data)
    keep_private(directory)
    lead = leadership(directory, url, _lost)
    lead.acquire(wait=False)
    try:
        before = db_version(directory, url)
        after = db_upgrade(directory, url)
    finally:
        lead.release()
    if before == after:
        say(f"The log's tables are of this release already (schema {after}).")
    else:
        say(f"The log's tables are now of schema {after} (before: {before or 'none'}).")
    return exits.OK


@db_app.command
def version(*, data: Data = None) -> int:
    """Print the version of the log's tables; `none` if there is no log."""
    from ledger.store.location import db_version

    shown.data(db_version(*_place(data)) or "none")
    return exits.OK
