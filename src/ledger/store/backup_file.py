"""The file of a backup: what is written into it, and whether that is still all there.

A gzip of lines: a label, an export of the log (`transfer`), and a seal.

    {"format":"jobledger-backup","version":1,"schema":…,"created":microseconds}
    …the lines of the export: incarnation, head, rows, blobs, and how many there were
    {"lines":…,"sha256":…}                  how many lines stand before it, and their SHA-256
"""

import gzip
import os
import zlib
from collections.abc import Generator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from ledger.store.chain import Head
from ledger.store.location import REVISIONS
from ledger.store.log import Log, LogFailure
from ledger.store.transfer import Opening, export

FORMAT = "jobledger-backup"
VERSION = 1
LABEL_BYTES = 4096
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


_label = msgspec.json.Decoder(Label).decode
_opening = msgspec.json.Decoder(Opening).decode
_seal = msgspec.json.Decoder(Seal).decode


def write(log: Log, file: BinaryIO, created: int) -> Head:
    """Write a whole backup of the log into a file; the head it has. `created` in microseconds."""
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


def contents(path: Path) -> Generator[bytes]:
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
            check_label(path, last := lines.readline(LABEL_BYTES))
            for line in lines:
                digest.update(last)
                opening = opening or line
                last, count = line, count + 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise unreadable(path, error, begun=bool(last)) from error
    return _sealed(path, last, count, digest.hexdigest(), opening)


def _sealed(path: Path, last: bytes, lines: int, digest: str, opening: bytes) -> Opening:
    try:
        seal, found = _seal(last), _opening(opening)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupRefused(f"{path} is truncated: its last line is missing") from None
    if seal != Seal(lines, digest):
        raise BackupRefused(f"{path} is damaged: its contents are not what was written")
    return found


def check_label(path: Path, line: bytes) -> Label:
    """The first line of a backup that this release can read. Raises `BackupRefused`."""
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


def unreadable(path: Path, error: Exception, *, begun: bool) -> BackupRefused:
    """What an error in unpacking means; `begun`: the first line was read."""
    if isinstance(error, EOFError):
        return BackupRefused(f"{path} is truncated")
    if isinstance(error, gzip.BadGzipFile) and not begun:
        return BackupRefused(f"{path} is not a backup of jobledger")
    return BackupRefused(f"{path} is damaged: {error}")


def read_opening(line: bytes) -> Opening:
    """The second line of a backup. Raises `msgspec.MsgspecError`, UnicodeDecodeError."""
    return _opening(line)


def private(path: str, flags: int) -> int:
    """Opens a file for its owner alone."""
    return os.open(path, flags, 0o600)
