"""What is left: files and directories, and the rows of a log that each of them still has."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ledger.agent.remains import Remains, remains
from ledger.store.backup_file import FORMAT as BACKUP
from ledger.store.backup_file import read_opening
from ledger.store.carve import MAGIC, WAL_MAGICS, Carved
from ledger.store.chain import COMMIT_STREAM, CommitHeader, Row, decode_header
from ledger.store.transfer import read_row

Kind = Literal["log", "export", "backup", "spool", "unknown"]
WAL = "-wal"
GZIP = b"\x1f\x8b"
MAX_LINE = 32 << 20
NOT_OURS = ("projections", "output", "checkpoints")
"""Directories of a service that hold nothing of the log."""

NAMES: tuple[tuple[str, Kind], ...] = ((".db", "log"), (".backup", "backup"), (".ndjson", "spool"))
"""What a file is by the end of its name, where its first bytes don't say."""


class Source:
    """A file, what can be read of it, and what was found out about it.

    `reach` is the last position that it may have, `until` (µs) when that was. `first`, `last` and
    `at` (µs) are of the rows that were read; `trouble` says in words what could not be. `other`:
    the position at which it turned out to tell of another log, or of this one as it never went on;
    0 if it does not.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind
        self.incarnation, self.reach, self.until = "", 0, 0
        self.first = self.last = self.rows_read = self.at = self.other = 0
        self.ended = False
        self.trouble: list[str] = []

    def rows(self) -> Iterator[Row]:
        """The rows that can be read, by position."""
        return iter(())

    def note(self, trouble: str) -> None:
        """Say what could not be read."""
        self.trouble.append(trouble)

    def close(self) -> None:
        """Let go of the file."""


class Log(Source):
    """A log in SQLite: its file, its WAL, or both."""

    def __init__(self, path: Path, wal: Path | None) -> None:
        super().__init__(path, "log")
        self._carved = Carved(path if path != wal else None, wal)
        positions = self._carved.positions
        self.incarnation = self._carved.incarnation
        self.reach = positions[-1] if positions else 0
        self.until = _last_time(self._carved)
        if not positions:
            self.note("it holds no row of a log")
        if self._carved.unreadable:
            self.note(f"the disk did not give {self._carved.unreadable} pages of it")

    def rows(self) -> Iterator[Row]:
        """The rows that can be read, by position."""
        return self._carved.rows()

    def close(self) -> None:
        """Let go of the files."""
        self._carved.close()


def _last_time(carved: Carved) -> int:
    """When the last commit was made whose header can be read, µs; 0: none can."""
    for position in reversed(carved.positions):
        for row in carved.at(position):
            if row.stream == COMMIT_STREAM and (header := said(row)) is not None:
                return header.at
    return 0


def said(header: Row) -> CommitHeader | None:
    """What a header's row says, None if it can't be read."""
    try:
        return decode_header(header.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return None


class Export(Source):
    """Lines of an export, plain or packed, or of a backup."""

    def __init__(self, path: Path, kind: Kind) -> None:
        super().__init__(path, kind)
        for line in _first_lines(path):
            try:
                opening = read_opening(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            self.incarnation = opening.incarnation
            self.reach, self.until = opening.head.position, opening.head.at
            break

    def rows(self) -> Iterator[Row]:
        """The rows that can be read, by position."""
        damaged, first = 0, 0
        for number, line in enumerate(_lines(self.path, self), 1):
            if line.startswith((b'{"blob":', b'{"rows":', b'{"lines":')):
                self.ended = self.ended or line.startswith(b'{"rows":')
            elif not line.startswith(b'{"format":'):
                try:
                    yield read_row(line)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    damaged, first = damaged + 1, first or number
        if damaged:
            self.note(f"{damaged} of its lines can't be read, first line {first}")
        if not self.ended:
            self.note("its end is missing")


class Spool(Source):
    """What an agent remembers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "spool")
        self.remains: Remains = remains(path)
        self.at = self.remains.last
        if not self.remains.lines:
            self.note("it holds no record")
        if self.remains.damaged:
            count = len(self.remains.damaged)
            self.note(f"{count} of its lines can't be read, first line {self.remains.damaged[0]}")


def find(paths: Iterable[Path]) -> list[Source]:
    """What there is in files and, further down, in directories; each once, in their order.

    A file that is named and can't be used is among them, with the reason; of a directory only
    those that look like ours.
    """
    found: dict[Path, Source] = {}
    for path in paths:
        inside = path.is_dir()
        for named in _files(path) if inside else [path]:
            file = _of_wal(named)
            real = file.resolve()
            if real not in found and (source := _source(file, named=not inside)) is not None:
                found[real] = source
    return list(found.values())


def _of_wal(file: Path) -> Path:
    """A WAL belongs to the log beside it; where that is gone, it stands alone."""
    log = file.with_name(file.name.removesuffix(WAL))
    return log if log.is_file() else file


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - set(NOT_OURS))
        for name in sorted(files):
            file = Path(place, name)
            if file.is_file() and not file.is_symlink():
                yield file


def _source(file: Path, *, named: bool) -> Source | None:
    try:
        kind = _kind(file)
        if kind == "log":
            return _log(file)
        if kind in ("export", "backup"):
            return Export(file, kind)
        if kind == "spool":
            return Spool(file)
    except OSError as error:
        kind, reason = "unknown", f"it can't be read: {error.strerror or error}"
    else:
        reason = "it is empty" if file.stat().st_size == 0 else "it is nothing of jobledger's"
    if not named and kind == "unknown" and not _like_ours(file):
        return None
    source = Source(file, kind)
    source.note(reason)
    return source


def _log(file: Path) -> Source:
    """A log with the WAL beside it; a WAL alone."""
    if file.name.endswith(WAL):
        return Log(file, file)
    beside = file.with_name(file.name + WAL)
    return Log(file, beside if beside.is_file() else None)


def _like_ours(file: Path) -> bool:
    return any(file.name.removesuffix(WAL).endswith(end) for end, _ in NAMES)


def _kind(file: Path) -> Kind:
    """What a file is by its first bytes, else by its name. Raises OSError."""
    with open(file, "rb") as opened:
        start = opened.read(64)
    beside = file.with_name(file.name + WAL)
    if not start and not beside.is_file():
        return "unknown"
    if start.startswith(MAGIC) or int.from_bytes(start[:4], "big") in WAL_MAGICS:
        return "log"
    if start.startswith(GZIP):
        start = next(iter(_first_lines(file)), b"")
        if BACKUP.encode() in start:
            return "backup"
    if start.startswith((b'{"format":', b"[")):
        return "export"
    if start.startswith(b'{"c":'):
        return "spool"
    name = file.name.removesuffix(WAL)
    return next((kind for end, kind in NAMES if name.endswith(end)), "unknown")


def _first_lines(path: Path) -> list[bytes]:
    """The first two lines, as far as they can be read."""
    found = []
    for line in _lines(path, None):
        found.append(line)
        if len(found) == 2:
            break
    return found


def _lines(path: Path, source: Source | None) -> Iterator[bytes]:
    """The lines of a file, unpacked if it is packed, up to where it can't be read any more."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if packed else file
        try:
            while line := stream.readline(MAX_LINE):
                yield line
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
            if source is not None:
                source.note(f"it can't be read to its end: {error}")
