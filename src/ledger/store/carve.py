"""Rows out of the bytes of a log in SQLite, whatever is left of its file and its WAL.

Nothing is opened as a database, so nothing is written, no lock is taken, and no index, header or
tree need be whole: every page that looks like one of a table is searched for rows of the log, in
the file and in every frame of the WAL, also in frames that SQLite would no longer read. A row is
never changed once it is written, so any copy of it will do; which rows belong to one log, and are
as they were written, the chain tells.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ledger.store.chain import Row

MAGIC = b"SQLite format 3\0"
WAL_MAGICS = (0x377F0682, 0x377F0683)
WAL_HEADER, FRAME_HEADER = 32, 24
PAGE_SIZES = {1 << n for n in range(9, 17)}
USUAL_PAGE = 4096
LEAF_OF_TABLE = 0x0D
MAX_PAYLOAD = 64 << 20
INT_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
"""Bytes of an integer by its serial type; 8 and 9 are the numbers 0 and 1 themselves."""

_u16 = struct.Struct(">H").unpack_from
_u32 = struct.Struct(">I").unpack_from


class _Broken(Exception):
    """What should be a cell of a table is none."""


class _Image(NamedTuple):
    """A copy of a page: the file it lies in (0 the log, 1 its WAL), where, and its number."""

    file: int
    offset: int
    number: int


class _Cell(NamedTuple):
    """Where the payload of a row begins within its page, how long it is, and the row's number."""

    start: int
    size: int
    rowid: int


class Carved:
    """What can be read of a log: `positions` in order. `unreadable`: pages the disk refused."""

    def __init__(self, file: Path | None, wal: Path | None) -> None:
        """Look through `file` and `wal`, either of which may be missing. Raises OSError."""
        self._fds = [os.open(path, os.O_RDONLY) if path else -1 for path in (file, wal)]
        self.size = USUAL_PAGE
        self.incarnation = ""
        self.unreadable = 0
        self._where: dict[int, list[tuple[_Image, int]]] = {}
        self._frames: dict[int, list[int]] = {}
        self._kept: tuple[_Image | None, bytes] = (None, b"")
        self._find_size()
        for image in self._images():
            self._look_through(image)
        self.positions = sorted(self._where)

    def rows(self, after: int = 0) -> Iterator[Row]:
        """The rows behind a position, by position; more than one where copies of it differ."""
        for position in self.positions:
            if position > after:
                yield from self.at(position)

    def at(self, position: int) -> list[Row]:
        """The copies of the row at a position that differ; none where none is whole."""
        found = (self._row(*place) for place in self._where.get(position, ()))
        return list(dict.fromkeys(row for row in found if row is not None))

    def close(self) -> None:
        """Let the files go."""
        for fd in self._fds:
            if fd >= 0:
                os.close(fd)

    # pages

    def _find_size(self) -> None:
        file, wal = (self._read(n, 0, 100) if fd >= 0 else b"" for n, fd in enumerate(self._fds))
        if len(wal) >= WAL_HEADER and _u32(wal)[0] in WAL_MAGICS:
            self._take_size(_u32(wal, 8)[0])
        if file.startswith(MAGIC) and len(file) >= 18:
            size = _u16(file, 16)[0]
            self._take_size(65_536 if size == 1 else size)

    def _take_size(self, size: int) -> None:
        if size in PAGE_SIZES:
            self.size = size

    def _read(self, file: int, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._fds[file], size, offset)
        except OSError:
            self.unreadable += 1
            return b""

    def _images(self) -> Iterator[_Image]:
        """Every copy of a page there is, the newest first: those of the WAL, from its end."""
        size = self.size
        if self._fds[1] >= 0:
            length = os.fstat(self._fds[1]).st_size
            starts = range(WAL_HEADER, max(WAL_HEADER, length - FRAME_HEADER), FRAME_HEADER + size)
            for start in reversed(starts):
                head = self._read(1, start, FRAME_HEADER)
                number = _u32(head)[0] if len(head) == FRAME_HEADER else 0
                self._frames.setdefault(number, []).append(start + FRAME_HEADER)
                yield _Image(1, start + FRAME_HEADER, number)
        if self._fds[0] >= 0:
            for offset in range(0, os.fstat(self._fds[0]).st_size, size):
                yield _Image(0, offset, offset // size + 1)

    def _page(self, image: _Image) -> bytes:
        """The bytes of a copy of a page; fewer than a page where the file ends."""
        if self._kept[0] != image:
            self._kept = (image, self._read(image.file, image.offset, self.size))
        return self._kept[1]

    # rows

    def _look_through(self, image: _Image) -> None:
        page = self._page(image)
        start = 100 if image.number == 1 else 0
        if len(page) < start + 8 or page[start] != LEAF_OF_TABLE:
            return
        for place in range(_u16(page, start + 3)[0]):
            pointer = start + 8 + 2 * place
            if pointer + 2 > len(page):
                return
            cell = _u16(page, pointer)[0]
            try:
                self._note(image, page, cell)
            except (_Broken, IndexError, UnicodeDecodeError):
                continue

    def _note(self, image: _Image, page: bytes, start: int) -> None:
        """Remember where a row of the log lies; the incarnation, where that is the row."""
        cell = _cell(page, start)
        types, _ = _types(page, cell.start)
        if len(types) == 2 and types[0] == _text_type("incarnation"):
            values = _values(page[cell.start : cell.start + cell.size])
            if values[0] == "incarnation" and isinstance(values[1], str) and not self.incarnation:
                self.incarnation = values[1]
        elif _is_row(types):
            known = self._where.setdefault(cell.rowid, [])
            length = cell.size + cell.start - start
            mine = page[start : start + min(length, self.size)]
            if all(not self._same(mine, *other) for other in known):
                known.append((image, start))

    def _same(self, mine: bytes, image: _Image, start: int) -> bool:
        """Are these the bytes of a cell that is known already? Then it is the same row."""
        kept = self._kept
        page = self._page(image)
        self._kept = kept
        return page[start : start + len(mine)] == mine

    def _row(self, image: _Image, start: int) -> Row | None:
        page = self._page(image)
        try:
            cell = _cell(page, start)
            values = _values(self._payload(page, cell))
        except (_Broken, IndexError, UnicodeDecodeError):
            return None
        _, stream, version, name, data = values
        if isinstance(stream, str) and isinstance(version, int) and isinstance(name, str):
            return Row(cell.rowid, stream, version, name, data if isinstance(data, bytes) else b"")
        return None

    def _payload(self, page: bytes, cell: _Cell) -> bytes:
        """All of a row's bytes, those of its overflow pages included."""
        usable = self.size
        if cell.size <= usable - 35:
            local, rest = cell.size, 0
        else:
            least = (usable - 12) * 32 // 255 - 23
            most = least + (cell.size - least) % (usable - 4)
            local = most if most <= usable - 35 else least
            rest = cell.size - local
        parts = [page[cell.start : cell.start + local]]
        if len(parts[0]) < local:
            raise _Broken
        following = (
            _u32(page, cell.start + local)[0]
            if rest and len(page) >= (cell.start + local + 4)
            else 0
        )
        while rest > 0:
            more = self._overflow(following)
            parts.append(more[4 : 4 + rest])
            if len(more) < 4 or len(parts[-1]) < min(rest, usable - 4):
                raise _Broken
            rest -= usable - 4
            following = _u32(more)[0]
        return b"".join(parts)

    def _overflow(self, number: int) -> bytes:
        """A page that rows go on in: its newest copy."""
        if frames := self._frames.get(number):
            return self._read(1, frames[0], self.size)
        if number < 1 or self._fds[0] < 0:
            raise _Broken
        return self._read(0, (number - 1) * self.size, self.size)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where what follows it begins. Raises IndexError."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for place in range(at + 1, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


def _cell(page: bytes, start: int) -> _Cell:
    size, at = _varint(page, start)
    rowid, at = _varint(page, at)
    if not 0 < size <= MAX_PAYLOAD or not 0 < rowid < 2**62:
        raise _Broken
    return _Cell(at, size, rowid)


def _types(data: bytes, at: int) -> tuple[list[int], int]:
    """The serial types of a record that begins there, and where its values begin."""
    length, place = _varint(data, at)
    end = at + length
    if length > 5 * 9:
        raise _Broken
    types = []
    while place < end:
        kind = data[place]
        place += 1
        if kind >= 0x80:
            kind, place = _varint(data, place - 1)
        types.append(kind)
    return types, end


def _is_row(types: list[int]) -> bool:
    """Is this the shape of a stored event: no rowid of its own, stream, version, name, bytes?"""
    if len(types) != 5:
        return False
    rowid, stream, version, name, data = types
    texts = stream >= 13 and stream % 2 == 1 and name >= 13 and name % 2 == 1
    return rowid == 0 and texts and version in INT_BYTES and data >= 12 and data % 2 == 0


def _text_type(text: str) -> int:
    return 13 + 2 * len(text)


def _values(payload: bytes) -> list[int | str | bytes | None]:
    """The values of a record. Raises `_Broken` where they are not all there."""
    types, at = _types(payload, 0)
    found: list[int | str | bytes | None] = []
    for kind in types:
        if kind >= 12:
            end = at + (kind - 12) // 2
            piece = payload[at:end]
            found.append(piece.decode() if kind % 2 else piece)
        else:
            end = at + INT_BYTES.get(kind, 0)
            number = int.from_bytes(payload[at:end], "big", signed=True)
            found.append(kind - 8 if kind >= 8 else number if kind in INT_BYTES else None)
        at = end
    if at > len(payload):
        raise _Broken
    return found
