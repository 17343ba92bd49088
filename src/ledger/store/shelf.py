"""The backups in a folder: which there are, which of them count, how old the newest is."""

import contextlib
import fcntl
import gzip
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ledger.store.backup_file import (
    LABEL_BYTES,
    BackupRefused,
    check_label,
    private,
    read_opening,
    unreadable,
)
from ledger.store.chain import EMPTY, Head

SUFFIX = ".backup"
VERIFIED = ".verified.json"
LOCK = "backup.lock"
LATE = 2
"""Intervals after which the newest backup is too old."""


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


_verified = msgspec.json.Decoder(Verified).decode


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
            created = check_label(path, lines.readline(LABEL_BYTES)).created
            opening = read_opening(lines.readline(LABEL_BYTES))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        broken = str(unreadable(path, error, begun=created > 0))
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
    with alone(folder):
        own = [b for b in listed(folder) if b.incarnation == incarnation and not b.broken]
        last = next((b for b in own if b.verified), None)
        removed = [b.path for b in own[keep:] if b is not last]
        for path in removed:
            path.unlink()
            path.with_name(path.name + VERIFIED).unlink(missing_ok=True)
    return removed


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One at a time writes or prunes in a folder; others wait."""
    with open(folder / LOCK, "ab", opener=private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
