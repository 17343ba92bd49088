"""A log as lines of JSON: exported from any database, imported into any empty one.

    {"format":"jobledger-log","version":1,"incarnation":…,"head":[position,commit,hash,at,epoch]}
    [position,stream,version,name,data]     every row up to that head, headers included
    {"blob":sha256,"data":data}             every text beside the log, in the order of digests
    {"rows":…,"blobs":…}

`data` is a string, or `{"base64":string}` where the bytes are not UTF-8. But for the incarnation,
the same log gives the same bytes from any database.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, TypeVar

import msgspec

from ledger.store.chain import COMMIT_STREAM, EMPTY, Head, Row
from ledger.store.commits import PAGE, check_blobs
from ledger.store.log import Log, LogCorrupt, LogFailure, LogUnavailable

FORMAT = "jobledger-log"
VERSION = 1
BLOB_BYTES_AT_ONCE = 1 << 22


class ImportRefused(LogFailure):
    """What should be imported is no whole export. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class Base64(msgspec.Struct, frozen=True):
    """Bytes that are no text."""

    base64: bytes


class Opening(msgspec.Struct, frozen=True):
    """The first line."""

    format: str
    version: int
    incarnation: str
    head: Head


class BlobLine(msgspec.Struct, frozen=True):
    """A text beside the log."""

    blob: str
    data: str | Base64


class Closing(msgspec.Struct, frozen=True):
    """The last line: how much there was."""

    rows: int
    blobs: int


T = TypeVar("T")
RowLine = tuple[int, str, int, str, str | Base64]

_encode = msgspec.json.Encoder().encode
_opening = msgspec.json.Decoder(Opening).decode
_row = msgspec.json.Decoder(RowLine).decode
_blob = msgspec.json.Decoder(BlobLine).decode
_closing = msgspec.json.Decoder(Closing).decode


def export(log: Log, stream: BinaryIO) -> Head:
    """Write the log up to its head of now; that head. What the chain says is not checked."""
    head = log.head()
    blobs = 0
    _put(stream, Opening(FORMAT, VERSION, log.incarnation, head))
    for position, name, version, topic, data in log.rows(upto=head.position):
        _put(stream, (position, name, version, topic, _text(data)))
    for digest, text in log.all_blobs():
        _put(stream, BlobLine(digest, _text(text)))
        blobs += 1
    _put(stream, Closing(head.position, blobs))
    return head


def read_row(line: bytes) -> Row:
    """A row's line. Raises `msgspec.MsgspecError`, UnicodeDecodeError for any other line."""
    position, stream, version, name, data = _row(line)
    return Row(position, stream, version, name, _bytes(data))


def import_(log: Log, lines: Iterable[bytes]) -> Head:
    """Append an export to an empty log, row for row, chain checked; the head it then has.

    Raises `ImportRefused` where the lines are not a whole, unbroken export. What came before that
    line may then be in the log, in whole commits: throw that log away. The log keeps the
    incarnation it was created with.
    """
    if log.head() != EMPTY:
        raise LogUnavailable("only an empty log can take an import")
    numbered = enumerate(lines, 1)
    number, line = next(numbered, (1, b""))
    opening = _decoded(_opening, line, number)
    if (opening.format, opening.version) != (FORMAT, VERSION):
        raise ImportRefused(f"not a {FORMAT} of version {VERSION}", number)
    number, line = _import_rows(log, numbered, opening.head)
    blobs = 0
    while not line.startswith(b'{"rows":'):
        number, line, taken = _import_blobs(log, number, line, numbered)
        blobs += taken
    closing = _decoded(_closing, line, number)
    if closing != Closing(opening.head.position, blobs) or next(numbered, None):
        raise ImportRefused("the export does not hold what its last line says", number)
    return log.head()


def _import_rows(
    log: Log, numbered: Iterator[tuple[int, bytes]], promised: Head
) -> tuple[int, bytes]:
    """Append the rows; the first line that is none, and its number."""
    rows: list[Row] = []
    number, line = 1, b""
    for number, line in numbered:
        if line.startswith((b'{"blob":', b'{"rows":')):
            break
        position, stream, version, name, data = _decoded(_row, line, number)
        if position != number - 1:
            raise ImportRefused(f"position {number - 1} should stand here, not {position}", number)
        if stream == COMMIT_STREAM and len(rows) >= PAGE:
            _append(log, rows)
            rows = []
        rows.append(Row(position, stream, version, name, _bytes(data)))
    _append(log, rows)
    if log.head() != promised:
        raise ImportRefused(f"the rows end at {log.head().position}: not what was promised", number)
    return number, line


def _append(log: Log, rows: list[Row]) -> None:
    try:
        log.append_rows(rows, {})
    except LogCorrupt as error:
        raise ImportRefused(str(error), error.position + 1) from error


def _import_blobs(
    log: Log, number: int, line: bytes, numbered: Iterator[tuple[int, bytes]]
) -> tuple[int, bytes, int]:
    """Store some megabytes of blobs; the next line, its number, and how many there were."""
    blobs: dict[str, bytes] = {}
    size = 0
    while line.startswith(b'{"blob":') and size < BLOB_BYTES_AT_ONCE:
        found = _decoded(_blob, line, number)
        blobs[found.blob] = _bytes(found.data)
        try:
            check_blobs({found.blob: blobs[found.blob]})
        except ValueError as error:
            raise ImportRefused(str(error), number) from error
        size += len(blobs[found.blob])
        number, line = next(numbered, (number + 1, b""))
    if not blobs:
        raise ImportRefused("neither a blob nor the end", number)
    log.append_rows([], blobs)
    return number, line, len(blobs)


def _decoded(decode: Callable[[bytes], T], line: bytes, number: int) -> T:
    try:
        return decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ImportRefused(f"not a line of an export: {error}", number) from error


def _put(stream: BinaryIO, line: object) -> None:
    stream.write(_encode(line) + b"\n")


def _text(data: bytes) -> str | Base64:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(data)


def _bytes(data: str | Base64) -> bytes:
    return data.base64 if isinstance(data, Base64) else data.encode()
