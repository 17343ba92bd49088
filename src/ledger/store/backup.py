"""Backups: the log up to one head as one file, which counts only once it has been restored.

A backup is a gzip of lines: a label, an export of the log (`transfer`), and a seal.

    {"format":"jobledger-backup","version":1,"schema":…,"created":microseconds}
    …the lines of the export: incarnation, head, rows, blobs, and how many there were
    {"lines":…,"sha256":…}                  how many lines stand before it, and their SHA-256

It is made under another name, synced and renamed: a file called `*.backup` was once whole. What
says that it can be restored lies beside it, as `NAME.verified.json`. The log is only read, page by
page, so whoever appends meanwhile is not kept waiting.
"""

import contextlib
import fcntl
import gzip
import os
import tempfile
import time
import zlib
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec

from ledger.store.chain import EMPTY, Head
from ledger.store.leadership import leadership
from ledger.store.location import FILE, REVISIONS, db_version, open_log, sync_directory
from ledger.store.log import Log, LogCorrupt, LogFailure, LogUnavailable
from ledger.store.transfer import ImportRefused, Opening, export, import_
from ledger.store.verify import verify as verify_log

FORMAT = "jobledger-backup"
VERSION = 1
SUFFIX = ".backup"
VERIFIED = ".verified.json"
UNFINISHED = ".unfinished"
LOCK = "backup.lock"
LABEL_BYTES = 4096
LATE = 2
"""Intervals after which the newest backup is too old."""

LEVEL = 5
"""Of gzip: at the levels above it, a few percent of size cost as much time again."""


class BackupRefused(LogFailure):
    """A file is no backup that could be restored, or not there. The message is a sentence."""


class Label(msgspec.Struct, frozen=True):
    """The first line. `created` in microseconds since 1970 UTC."""

    format: str
    version: int
    schema: str
    created: int


class Seal(msgspec.Struct, frozen=True):
    """The last line: how many lines stand before it, and the SHA-256 of their bytes."""

    lines: int
    sha256: str


class Verified(msgspec.Struct, frozen=True):
    """What is kept beside a backup that was restored as a test: when, how long it took, and what.

    `at` in microseconds since 1970 UTC; `size` of the file in bytes, `head` and `incarnation` of
    the log in it.
    """

    at: int
    seconds: float
    size: int
    incarnation: str
    head: Head
    events: int


class Backup(NamedTuple):
    """A backup as its first lines and what lies beside it describe it; its rest was not read.

    `verified` is None until a test restore, and when the file has another size than it had then.
    `broken` says why the first lines can't be read.
    """

    path: Path
    size: int
    created: int
    incarnation: str
    head: Head
    verified: Verified | None
    broken: str = ""


_label = msgspec.json.Decoder(Label).decode
_opening = msgspec.json.Decoder(Opening).decode
_seal = msgspec.json.Decoder(Seal).decode
_verified = msgspec.json.Decoder(Verified).decode


def create(log: Log, folder: Path) -> Path:
    """Write a backup of the log at its head of now into `folder`; durable when this returns.

    An interrupted one leaves nothing that looks like a backup. Raises OSError, `LogUnavailable`
    for a log in which nothing is.
    """
    if log.head() == EMPTY:
        raise LogUnavailable("the log is empty: there is nothing to back up")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder):
        for left in folder.glob(f"*{UNFINISHED}"):
            left.unlink()
        created = time.time_ns() // 1000
        unfinished = folder / f"{created}{UNFINISHED}"
        try:
            with open(unfinished, "xb", opener=_private) as file:
                head = _write(log, file, created)
                file.flush()
                os.fsync(file.fileno())
            path = folder / _name(log.incarnation, head, created)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_directory(folder)
        return path


def _write(log: Log, file: BinaryIO, created: int) -> Head:
    with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
        lines = _Counted(cast("BinaryIO", packed))
        lines.write(msgspec.json.encode(Label(FORMAT, VERSION, REVISIONS[-1], created)) + b"\n")
        head = export(log, cast("BinaryIO", lines))
        packed.write(msgspec.json.encode(Seal(lines.count, lines.digest.hexdigest())) + b"\n")
    return head


class _Counted:
    """A stream that counts and digests the lines that go into it, one a call."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count, self.digest = 0, sha256()

    def write(self, line: bytes) -> int:
        """Pass a line on."""
        self.count += 1
        self.digest.update(line)
        return self._stream.write(line)


def _name(incarnation: str, head: Head, created: int) -> str:
    moment = datetime.fromtimestamp(created / 1_000_000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"jobledger-{incarnation[:8]}-{moment}-{head.position}{SUFFIX}"


def verify(path: Path, incarnation: str = "") -> Verified:
    """Restore a backup into a temporary directory, check every event, and keep the verdict.

    Raises `BackupRefused` for one that can't be restored, which then counts no longer, or whose
    log is not of the `incarnation` that was asked for.
    """
    beside = path.with_name(path.name + VERIFIED)
    began = time.monotonic()
    try:
        opening = check(path)
        with tempfile.TemporaryDirectory(prefix="jobledger-verify-") as folder:
            restored = open_log(Path(folder), None, write=True, create=True)
            try:
                _fill(path, restored)
                found = verify_log(restored)
            except LogCorrupt as error:
                raise BackupRefused(f"the log in {path} is broken: {error}") from error
            finally:
                restored.close()
    except BackupRefused:
        beside.unlink(missing_ok=True)
        raise
    _check_incarnation(path, opening, incarnation)
    took = round(time.monotonic() - began, 3)
    made = Verified(
        time.time_ns() // 1000, took, path.stat().st_size, opening.incarnation, found.head,
        found.events,
    )  # fmt: skip
    unfinished = path.with_name(path.name + ".verdict")
    with open(unfinished, "wb", opener=_private) as file:
        file.write(msgspec.json.encode(made) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(beside)
    sync_directory(path.parent)
    return made


def restore(path: Path, data: Path, url: str | None, incarnation: str = "") -> Head:
    """Make a log of a backup, in the directory `data` or the database `url`; the head it has.

    There must be no log, and no master. The log has a new incarnation. In a directory it appears
    whole or not at all; a database in which this is interrupted is to be thrown away. Raises
    `BackupRefused`, before anything is made; `LogUnavailable`, `LogBusy`.
    """
    _check_incarnation(path, check(path), incarnation)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lead = leadership(data, url, _lost)
    lead.acquire(wait=False)
    try:
        if db_version(data, url) is not None:
            with contextlib.closing(open_log(data, url, write=False)) as present:
                if present.head() != EMPTY or not url:
                    raise BackupRefused(
                        "there is a log already where the backup should be restored; "
                        "nothing was changed"
                    )
        if url:
            return _restored(path, data, url)
        with tempfile.TemporaryDirectory(prefix="restore-", dir=data) as folder:
            head = _restored(path, Path(folder), None)
            (Path(folder) / FILE).rename(data / FILE)
        sync_directory(data)
        return head
    finally:
        lead.release()


def _restored(path: Path, data: Path, url: str | None) -> Head:
    with contextlib.closing(open_log(data, url, write=True, create=True)) as log:
        return _fill(path, log)


def _fill(path: Path, log: Log) -> Head:
    try:
        with contextlib.closing(_contents(path)) as lines:
            return import_(log, lines)
    except ImportRefused as error:
        raise BackupRefused(f"{path} holds no whole log: {error}") from error


def _contents(path: Path) -> Generator[bytes]:
    """The lines of the export in a backup that was checked."""
    with gzip.open(path) as lines:
        next(lines)
        before = next(lines)
        for line in lines:
            yield before
            before = line


def check(path: Path) -> Opening:
    """Read a backup to its end: is it whole, and as it was written? What its export begins with.

    What the chain says is not looked at. Raises `BackupRefused`.
    """
    digest, count, last, opening = sha256(), 0, b"", b""
    try:
        if path.stat().st_size == 0:
            raise BackupRefused(f"{path} is empty")
        with gzip.open(path) as lines:
            _check_label(path, last := lines.readline(LABEL_BYTES))
            for line in lines:
                digest.update(last)
                opening = opening or line
                last, count = line, count + 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _unreadable(path, error, begun=bool(last)) from error
    return _sealed(path, last, count, digest.hexdigest(), opening)


def _sealed(path: Path, last: bytes, lines: int, digest: str, opening: bytes) -> Opening:
    try:
        seal, found = _seal(last), _opening(opening)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupRefused(f"{path} is truncated: its last line is missing") from None
    if seal != Seal(lines, digest):
        raise BackupRefused(f"{path} is damaged: its contents are not what was written")
    return found


def _check_label(path: Path, line: bytes) -> Label:
    try:
        label = _label(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupRefused(f"{path} is not a backup of jobledger") from None
    if label.format != FORMAT:
        raise BackupRefused(f"{path} is not a backup of jobledger")
    if label.version != VERSION or label.schema not in REVISIONS:
        raise BackupRefused(
            f"{path} was made by another release (version {label.version}, schema {label.schema}; "
            f"this one reads version {VERSION}, schema {REVISIONS[-1]}): install that release"
        )
    return label


def _check_incarnation(path: Path, opening: Opening, wanted: str) -> None:
    if wanted and opening.incarnation != wanted:
        raise BackupRefused(
            f"{path} is a backup of another ledger: of incarnation {opening.incarnation}, "
            f"not {wanted}"
        )


def _unreadable(path: Path, error: Exception, *, begun: bool) -> BackupRefused:
    if isinstance(error, EOFError):
        return BackupRefused(f"{path} is truncated")
    if isinstance(error, gzip.BadGzipFile) and not begun:
        return BackupRefused(f"{path} is not a backup of jobledger")
    return BackupRefused(f"{path} is damaged: {error}")


def listed(folder: Path) -> list[Backup]:
    """The backups in a folder, newest first; a broken one is among them, with the reason."""
    found = [_described(path) for path in folder.glob(f"*{SUFFIX}")]
    return sorted(found, key=lambda b: (b.created, b.path.name), reverse=True)


def _described(path: Path) -> Backup:
    size, created = 0, 0
    try:
        size = path.stat().st_size
        if size == 0:
            raise BackupRefused(f"{path} is empty")
        with gzip.open(path) as lines:
            created = _check_label(path, lines.readline(LABEL_BYTES)).created
            opening = _opening(lines.readline(LABEL_BYTES))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        broken = str(_unreadable(path, error, begun=created > 0))
        return Backup(path, size, created, "", EMPTY, None, broken)
    except (BackupRefused, OSError) as refused:
        return Backup(path, size, created, "", EMPTY, None, str(refused))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Backup(path, size, created, "", EMPTY, None, f"{path} is truncated")
    return Backup(path, size, created, opening.incarnation, opening.head, _verdict(path, size))


def _verdict(path: Path, size: int) -> Verified | None:
    try:
        verdict = _verified(path.with_name(path.name + VERIFIED).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return verdict if verdict.size == size else None


def newest(folder: Path, incarnation: str) -> Backup | None:
    """The newest verified backup of this log in a folder; None if there is none."""
    own = (b for b in listed(folder) if b.incarnation == incarnation and b.verified)
    return next(own, None)


class Freshness(NamedTuple):
    """How old the newest verified backup of a log is, None without one; and what is wrong, if so.

    `every_s` is how often one should be made, 0 for never by itself.
    """

    age_s: float | None
    every_s: int
    warning: str


def freshness(folder: Path, incarnation: str, every_s: int) -> Freshness:
    """Look at what lies beside the backups in a folder. A backup is late after twice its time."""
    last = newest(folder, incarnation)
    if last is None:
        text = f"no verified backup of this log lies in {folder}"
        return Freshness(None, every_s, text if every_s else "")
    age = max(0.0, time.time() - last.created / 1_000_000)
    late = every_s and age > LATE * every_s
    text = f"the newest verified backup is {age / 3600:.1f} h old, and one is due every "
    return Freshness(age, every_s, f"{text}{every_s / 3600:.1f} h" if late else "")


def prune(folder: Path, incarnation: str, keep: int) -> list[Path]:
    """Remove all but the newest `keep` backups of this log; those that were removed.

    The newest verified one always stays, and so do backups of other logs. `keep` 0 keeps all.
    """
    if keep <= 0:
        return []
    with _alone(folder):
        own = [b for b in listed(folder) if b.incarnation == incarnation and not b.broken]
        last = next((b for b in own if b.verified), None)
        removed = [b.path for b in own[keep:] if b is not last]
        for path in removed:
            path.unlink()
            path.with_name(path.name + VERIFIED).unlink(missing_ok=True)
    return removed


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time writes or prunes in a folder; others wait."""
    with open(folder / LOCK, "ab", opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lost(reason: str) -> None:
    raise LogUnavailable(f"the log's lock was lost: {reason}")
