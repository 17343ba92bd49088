"""Reading a long log with two processes: one reads ahead and checks, the other decodes and folds.

Fetching rows and checking them against the chain is nearly half of the work of a long read, and
needs nothing of what becomes of them. So a process of its own does it, on another processor, and
hands over whole commits. It takes a while to begin: until then, whoever reads does everything.

Nothing depends on it. Where it can't begin, is killed, hangs, or finds something wrong, whoever
reads goes on by himself behind the last commit that he was given, and comes to whatever is wrong,
with the error that says so. What it gives must be of the same copy of the log, and each commit must
go on where the one before it ended.

It gets its orders over a pipe, not as arguments, which everybody may read: a database's URL may
hold a password. When the pipe that it writes to is closed, it ends, however its reader ended.
"""

import contextlib
import fcntl
import gc
import logging
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import takewhile
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, cast

import msgspec

from ledger.store.chain import Head
from ledger.store.commits import Commit, commits
from ledger.store.log import LogFailure

if TYPE_CHECKING:
    from ledger.store.stored import StoredLog

MANY = 100_000
"""Rows that are worth a second process: in half of the time that they take, it has begun."""

AT_ONCE = 300
"""Rows that are handed over together, or one commit: so many stay in a processor's cache."""

MOST_BYTES = 1 << 30
"""No page, and no commit, comes near it."""

PIPE_BYTES = 1 << 20
STUCK_S = 90.0
"""So long nothing is heard of a process that hangs: longer than a database may take to answer."""

PATIENCE_S = 0.0
"""How long it is waited for, rather than read without it, at each look whether it has begun."""

CHILD = "from ledger.store.ahead import main; main()"

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a log lies: a file, or a database's URL."""

    kind: Literal["sqlite", "postgres"]
    where: str


class _Order(NamedTuple):
    """Read behind a commit, up to a position."""

    head: Head
    last: int


_Checked = tuple[Head, list[tuple[int, str, int, str, bytes]]]
"""A `Commit`, of plain tuples: making `Row`s of them costs a tenth."""


class _Said(msgspec.Struct, array_like=True):
    """What comes from the process: first which log it has opened, then commits, at the end none;
    or why it can't go on."""

    incarnation: str = ""
    commits: list[_Checked] = []
    error: str = ""


class _Useless(Exception):
    """No more is to be had of the process."""


_size = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder().encode
_place = msgspec.msgpack.Decoder(Place).decode
_order = msgspec.msgpack.Decoder(_Order).decode
_said = msgspec.msgpack.Decoder(_Said).decode


def worth(count: int) -> bool:
    """Are so many rows worth a second process, and is there a processor for it?"""
    return count >= MANY and len(os.sched_getaffinity(0)) > 1


def read_ahead(log: "StoredLog", head: Head, last: int) -> Iterator[Commit]:
    """The commits of a log behind one, up to a position, each checked against the chain; all of
    them, or the first so many. Raises `LogCorrupt`."""
    try:
        process = _Process(log.place, log.incarnation)
    except OSError as error:
        logger.warning("no process can be started that reads the log ahead: %s", error)
        return
    with closing(process):
        alone = takewhile(lambda _: not process.begun(), log.pages(head.position, last))
        for commit in commits(head, alone):
            yield commit
            head = commit.head
        if head.position < last:
            yield from process.commits(head, last)


class _Process:
    """The process that reads ahead, as its reader sees it."""

    def __init__(self, place: Place, incarnation: str) -> None:
        self._incarnation = incarnation
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = cast("BinaryIO", self._process.stdin), self._process.stdout
        self._news = select.poll()  # `select` knows no descriptor beyond 1023
        self._news.register(self._out, select.POLLIN)
        with contextlib.suppress(OSError):  # a user's pipes have a limit: then it is a small one
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._buffer = bytearray()
        with contextlib.suppress(OSError):  # it has died, which is noticed when it is listened to
            _put(self._in, place)

    def begun(self) -> bool:
        """Has it opened the log, or died?"""
        return bool(self._news.poll(PATIENCE_S * 1000))

    def commits(self, head: Head, last: int) -> Iterator[Commit]:
        """The commits that it gives."""
        try:
            if self._hear().incarnation != self._incarnation:
                raise _Useless("it has opened another log")
            _put(self._in, _Order(head, last))
            while found := self._hear().commits:
                for after, rows in found:
                    if after[:2] != (head.position + 1 + len(rows), head.commit + 1):
                        raise _Useless(f"behind commit {head.commit} it gives {after.commit}")
                    yield Commit(after, cast("list[Any]", rows))
                    head = after
        except (_Useless, OSError, msgspec.MsgspecError) as error:
            logger.warning("the process that read the log ahead is not gone on with: %s", error)

    def _hear(self) -> _Said:
        (size,) = _size.unpack(self._read(_size.size))
        if size > MOST_BYTES:
            raise _Useless(f"it begins to say {size} bytes")
        said = _said(self._read(size))
        if said.error:
            raise _Useless(said.error)
        return said

    def _read(self, count: int) -> memoryview:
        """So many bytes, until the next are read: memory that is new each time costs more."""
        if count > len(self._buffer):
            self._buffer = bytearray(count)
        left = found = memoryview(self._buffer)[:count]
        while left:
            if not self._news.poll(STUCK_S * 1000):
                raise _Useless(f"it has said nothing for {STUCK_S:.0f} s")
            got = os.readv(self._out.fileno(), [left])
            if not got:
                raise _Useless("it has ended")
            left = left[got:]
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()


def _put(file: BinaryIO, value: object) -> None:
    data = _encode(value)
    file.write(_size.pack(len(data)))
    file.write(data)
    file.flush()


def _get(file: BinaryIO) -> bytes:
    (size,) = _size.unpack(file.read(_size.size))
    return file.read(size)


def main() -> None:
    """Read a log ahead, as the standard input says, for whoever reads the standard output."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody reads any more: end
    gc.disable()  # rows make no cycles
    orders, out = sys.stdin.buffer, sys.stdout.buffer
    try:
        with closing(_opened(_place(_get(orders)))) as log:
            _put(out, _Said(incarnation=log.incarnation))
            head, last = _order(_get(orders))
            for some in _gathered(commits(head, log.pages(head.position, last))):
                _put(out, _Said(commits=some))
        _put(out, _Said())
    except LogFailure as error:
        _put(out, _Said(error=str(error)))


def _opened(place: Place) -> "StoredLog":
    # both know this module
    if place.kind == "sqlite":
        from pathlib import Path

        from ledger.store.sqlite import SQLiteLog

        return SQLiteLog(Path(place.where), write=False)
    from ledger.store.postgres import PostgresLog

    return PostgresLog(place.where, write=False)


def _gathered(found: Iterator[Commit]) -> Iterator[list[Any]]:
    """Commits, some at a time."""
    some, count = list[Any](), 0
    for commit in found:
        some.append(commit)
        count += len(commit.rows)
        if count >= AT_ONCE:
            yield some
            some, count = [], 0
    if some:
        yield some
