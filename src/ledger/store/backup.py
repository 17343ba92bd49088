"""Backups: the log up to one head as one file, which counts only once it has been restored.

It is made under another name, synced and renamed: a file called `*.backup` was once whole. What
says that it can be restored lies beside it, as `NAME.verified.json`. The log is only read, page by
page, so whoever appends meanwhile is not kept waiting.
"""

import contextlib
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ledger.store.backup_file import BackupRefused, check, contents, private, write
from ledger.store.chain import EMPTY, Head
from ledger.store.leadership import leadership
from ledger.store.location import (
    FILE,
    db_upgrade,
    db_version,
    open_log,
    set_unfinished,
    sync_directory,
)
from ledger.store.log import Log, LogCorrupt, LogUnavailable
from ledger.store.shelf import SUFFIX, VERIFIED, Verified, alone
from ledger.store.transfer import ImportRefused, Opening, import_
from ledger.store.verify import verify as verify_log

UNFINISHED = ".unfinished"


def create(log: Log, folder: Path) -> Path:
    """Write a backup of the log at its head of now into `folder`; durable when this returns.

    An interrupted one leaves nothing that looks like a backup. Raises OSError, `LogUnavailable`
    for a log in which nothing is.
    """
    if log.head() == EMPTY:
        raise LogUnavailable("the log is empty: there is nothing to back up")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(folder):
        for left in folder.glob(f"*{UNFINISHED}"):
            left.unlink()
        created = time.time_ns() // 1000
        unfinished = folder / f"{created}{UNFINISHED}"
        try:
            with open(unfinished, "xb", opener=private) as file:
                head = write(log, file, created)
                file.flush()
                os.fsync(file.fileno())
            path = folder / _name(log.incarnation, head, created)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_directory(folder)
        return path


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
    with open(unfinished, "wb", opener=private) as file:
        file.write(msgspec.json.encode(made) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(beside)
    sync_directory(path.parent)
    return made


def restore(path: Path, data: Path, url: str | None, incarnation: str = "") -> Head:
    """Make a log of a backup, in the directory `data` or the database `url`; the head it has.

    There must be no log, and no master. The log has a new incarnation. In a directory it appears
    whole or not at all; a database in which this is interrupted says so, and is no log. Raises
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
            db_upgrade(data, url)
            set_unfinished(url, unfinished=True)
            head = _restored(path, data, url)
            set_unfinished(url, unfinished=False)
            return head
        with tempfile.TemporaryDirectory(prefix="restore-", dir=data) as folder:
            head = _restored(path, Path(folder), None)
            (Path(folder) / FILE).rename(data / FILE)
        sync_directory(data)
        return head
    finally:
        lead.release()


def _restored(path: Path, data: Path, url: str | None) -> Head:
    with contextlib.closing(open_log(data, url, write=True, create=True, unfinished=True)) as log:
        return _fill(path, log)


def _fill(path: Path, log: Log) -> Head:
    try:
        with contextlib.closing(contents(path)) as lines:
            return import_(log, lines)
    except ImportRefused as error:
        raise BackupRefused(f"{path} holds no whole log: {error}") from error


def _check_incarnation(path: Path, opening: Opening, wanted: str) -> None:
    if wanted and opening.incarnation != wanted:
        raise BackupRefused(
            f"{path} is a backup of another ledger: of incarnation {opening.incarnation}, "
            f"not {wanted}"
        )


def _lost(reason: str) -> None:
    raise LogUnavailable(f"the log's lock was lost: {reason}")
