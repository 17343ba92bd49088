"""`backup …`: copies of the log that are known to restore, made while the service works."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from pydantic import BaseModel

from ledger.cli import exits, shown
from ledger.cli.common import OutputFormat
from ledger.cli.exits import Stop, say
from ledger.cli.shown import Column, when

if TYPE_CHECKING:
    from ledger.settings import Settings
    from ledger.store.shelf import Backup, Verified

backup_app = App(name="backup")

Data = Annotated[
    Path | None,
    Parameter(help="The service's data directory; JOBLEDGER_DATABASE_URL, if set, goes before it."),
]
To = Annotated[
    Path | None,
    Parameter(help="The folder of the backups; left out: JOBLEDGER_BACKUP_DIR, else DIR/backups."),
]
Incarnation = Annotated[
    str, Parameter(help="Refuse a backup of any other log than that of this incarnation.")
]


class BackupRow(BaseModel):
    """A backup, as `backup list` shows it."""

    file: str
    created: datetime | None
    age_s: int
    position: int
    commit: int
    incarnation: str
    bytes: int
    verified: bool
    broken: str = ""


class LostRow(BaseModel):
    """An attempt of the lost range, as `backup lost` shows it."""

    job: int
    attempt: int
    user: str
    nodes: list[str]
    began: datetime
    end: str


@backup_app.command
def create(
    *,
    to: To = None,
    verify: Annotated[
        bool, Parameter(help="Restore it as a test: before that it does not count.")
    ] = True,
    data: Data = None,
) -> int:
    """Make a backup of the log, restore it as a test, and remove those no longer kept."""
    from ledger.store import backup, shelf
    from ledger.store.location import open_log

    settings = _settings(data)
    folder = to or settings.backup_directory()
    url = settings.database_url.get_secret_value() if settings.database_url else None
    with closing(open_log(settings.data_directory().absolute(), url, write=False)) as log:
        incarnation = log.incarnation
        path = backup.create(log, folder)
    shown.data(str(path))
    if not verify:
        say("It counts once `jobledger backup verify` has restored it.")
        return exits.OK
    _told(_checked(path, incarnation))
    for removed in shelf.prune(folder, incarnation, settings.backup_keep):
        say(f"Removed {removed}: the newest {settings.backup_keep} are kept.")
    return exits.OK


@backup_app.command
def verify(
    file: Annotated[
        Path | None, Parameter(help="A backup; left out: the newest one in the folder.")
    ] = None,
    /,
    *,
    to: To = None,
    incarnation: Incarnation = "",
    data: Data = None,
) -> int:
    """Restore a backup into a temporary directory and check every event. Status 65 if it is bad."""
    from ledger.store.shelf import listed

    if file is None:
        folder = to or _settings(data).backup_directory()
        found = listed(folder)
        if not found:
            raise Stop(exits.NO_INPUT, f"There is no backup in {folder}.")
        file = found[0].path
    _told(_checked(file, incarnation))
    return exits.OK


@backup_app.command(name="list")
def list_(*, to: To = None, data: Data = None, form: OutputFormat = "table") -> int:
    """List the backups in a folder, newest first, and say which of them count."""
    from ledger.store.shelf import listed

    folder = to or _settings(data).backup_directory()
    rows = [_row(found) for found in listed(folder)]
    empty = f"There is no backup in {folder}."
    shown.write(rows, COLUMNS, form, of=BackupRow, name=lambda r: r.file, empty=empty)
    return exits.OK


@backup_app.command
def restore(
    file: Annotated[Path, Parameter(help="The backup.")],
    /,
    *,
    data: Annotated[
        Path | None, Parameter(help="The new data directory, in which there is no log.")
    ] = None,
    database_url: Annotated[
        str,
        Parameter(help="Restore into this empty PostgreSQL database; better as the setting."),
    ] = "",
    incarnation: Incarnation = "",
) -> int:
    """Make a new log of a backup, where there is none. No master may run there."""
    from ledger.store import backup
    from ledger.store.backup_file import BackupRefused

    if data is None:
        raise Stop(exits.USAGE, "Say with --data where to restore.")
    settings = _settings(data)
    known = settings.database_url.get_secret_value() if settings.database_url else None
    try:
        head = backup.restore(file, data.absolute(), database_url or known, incarnation)
    except BackupRefused as refusal:
        raise _refused(refusal) from None
    say(f"Restored the log up to position {head.position}, chain head {head.hash}.")
    say("It has a new incarnation: the first master that starts on it records `LogRestored`.")
    return exits.OK


@backup_app.command
def lost(
    spools: Annotated[
        list[Path], Parameter(help="Agents' spools: STATE/spool.ndjson of each node, or copies.")
    ],
    /,
    *,
    data: Data = None,
    form: OutputFormat = "table",
) -> int:
    """List what agents ran behind the end of the backup that this log was restored from."""
    from ledger.agent.lost import lost as find
    from ledger.agent.spool import SpoolCorrupt
    from ledger.store.location import open_log

    settings = _settings(data)
    url = settings.database_url.get_secret_value() if settings.database_url else None
    with closing(open_log(settings.data_directory().absolute(), url, write=False)) as log:
        try:
            found = find(log, spools)
        except SpoolCorrupt as corrupt:
            raise Stop(exits.DATA, str(corrupt)) from None
    rows = [
        LostRow(
            job=one.job,
            attempt=one.attempt,
            user=one.user,
            nodes=list(one.nodes),
            began=datetime.fromtimestamp(one.began_at / 1e6, UTC),
            end=one.end,
        )
        for one in found
    ]
    empty = "These spools name nothing that the log does not know."
    shown.write(rows, LOST_COLUMNS, form, of=LostRow, name=lambda r: str(r.job), empty=empty)
    return exits.OK


def _checked(path: Path, incarnation: str) -> "Verified":
    from ledger.store import backup
    from ledger.store.backup_file import BackupRefused

    try:
        return backup.verify(path, incarnation)
    except BackupRefused as refusal:
        raise _refused(refusal) from None


def _refused(refusal: Exception) -> Stop:
    return Stop(
        exits.DATA,
        str(refusal)[:1].upper() + str(refusal)[1:] + ".",
        "`jobledger backup list` shows which backups count.",
    )


def _told(found: "Verified") -> None:
    say(
        f"Verified: restored in {found.seconds:.1f} s, {found.events} events up to position "
        f"{found.head.position}, chain head {found.head.hash}."
    )


def _row(found: "Backup") -> BackupRow:
    present = datetime.now(UTC)
    created = datetime.fromtimestamp(found.created / 1e6, UTC) if found.created else None
    return BackupRow(
        file=found.path.name,
        created=created,
        age_s=int((present - created).total_seconds()) if created else 0,
        position=found.head.position,
        commit=found.head.commit,
        incarnation=found.incarnation,
        bytes=found.size,
        verified=found.verified is not None,
        broken=found.broken,
    )


def _settings(data: Path | None) -> "Settings":
    from ledger.settings import Settings

    return Settings(data=data) if data is not None else Settings()


def _age(row: BackupRow) -> str:
    days, rest = divmod(row.age_s, 86_400)
    hours, rest = divmod(rest, 3600)
    return f"{days}d{hours:02}h" if days else f"{hours}h{rest // 60:02}m"


COLUMNS = [
    Column[BackupRow]("BACKUP", lambda r: r.file),
    Column[BackupRow]("AGE", _age, right=True),
    Column[BackupRow]("POSITION", lambda r: str(r.position), right=True),
    Column[BackupRow]("BYTES", lambda r: str(r.bytes), right=True),
    Column[BackupRow](
        "COUNTS", lambda r: "broken" if r.broken else "yes" if r.verified else "not verified"
    ),
    Column[BackupRow]("CREATED", lambda r: when(r.created), wide=True),
    Column[BackupRow]("INCARNATION", lambda r: r.incarnation, wide=True),
    Column[BackupRow]("REASON", lambda r: r.broken, wide=True),
]

LOST_COLUMNS = [
    Column[LostRow]("JOB", lambda r: str(r.job), right=True),
    Column[LostRow]("ATTEMPT", lambda r: str(r.attempt), right=True),
    Column[LostRow]("USER", lambda r: r.user),
    Column[LostRow]("NODES", lambda r: ",".join(r.nodes)),
    Column[LostRow]("BEGAN", lambda r: when(r.began)),
    Column[LostRow]("END", lambda r: r.end or "not known"),
]
