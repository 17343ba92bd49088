"""One master at a time: a lock on a file, or a row that its holder keeps fresh.

Leadership only keeps two masters from fencing each other in turns; what makes a second writer
harmless is the fence (`Fenced`), always.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread, current_thread
from typing import Any, LiteralString, Protocol

import msgspec
import psycopg
from psycopg import Connection

from ledger.store.log import LogBusy, LogUnavailable
from ledger.store.session import connect

LEASE_S = 10.0
LOCK = "master.lock"
HOLDER_BYTES = 400
BOOT = Path("/proc/sys/kernel/random/boot_id")
OnLost = Callable[[str], None]


class Leadership(Protocol):
    """The right to append. Held by at most one process, as far as clocks and locks can tell.

    A holder that reigns leaves marks, so that the next one knows how long no master was there.
    """

    def acquire(self, *, wait: bool) -> None:
        """Take it; if somebody has it, wait until it is free or raise `LogBusy`."""

    def reign(self, epoch: int) -> None:
        """Tell whoever asks which epoch this holder's commits carry."""

    def mark(self) -> None:
        """Say that the holder reigns. Never fails: what is not marked is not known."""

    def away_us(self) -> int | None:
        """How long, until now, no other master has been seen to reign, µs; None if nobody knows.
        What else may have held this meanwhile was no master."""

    def fresh(self) -> bool:
        """May the holder still speak for the log? Asked before every answer to an agent."""

    def release(self) -> None:
        """Give it back: the next one may take it at once."""


class Mark(msgspec.Struct, frozen=True):
    """When a master was seen to reign: by a clock that only this start of the machine knows, and by
    the wall clock, which somebody may have set since (µs)."""

    boot: str
    steady: int
    wall: int


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock file, since when; the epoch is a master's, the mark the last one's."""

    pid: int
    since: str
    epoch: int = 0
    mark: Mark | None = None


class FileLeadership:
    """`flock` on DIR/master.lock, held until released or until the process ends."""

    def __init__(self, data: Path) -> None:
        self._path = data / LOCK
        self._file: int | None = None
        self._since = ""
        self._epoch = 0
        self._before: Mark | None = None

    def acquire(self, *, wait: bool) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(file, wait=wait)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        self._before = _last_mark(file)
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self.reign(0)

    def _lock(self, file: int, *, wait: bool) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise _busy(self._path.parent, os.pread(file, 1000, 0)) from None
            fcntl.flock(file, fcntl.LOCK_EX)

    def reign(self, epoch: int) -> None:
        self._epoch = epoch
        self.mark()

    def mark(self) -> None:
        if self._file is None:
            return
        mark = _mark() if self._epoch else self._before
        text = msgspec.json.encode(Holder(os.getpid(), self._since, self._epoch, mark))
        with contextlib.suppress(OSError):  # a full disk: the lock holds, whatever is in the file
            os.pwrite(self._file, text.ljust(HOLDER_BYTES), 0)  # in one piece, for who reads it

    def away_us(self) -> int | None:
        if (before := self._before) is None:
            return None
        now = _mark()
        steady = now.boot == before.boot
        away = now.steady - before.steady if steady else now.wall - before.wall
        return away if away >= 0 else None

    def fresh(self) -> bool:
        return self._file is not None

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _mark() -> Mark:
    return Mark(BOOT.read_text().strip(), round(_now() * 1_000_000), time.time_ns() // 1000)


def _last_mark(file: int) -> Mark | None:
    try:
        return msgspec.json.decode(os.pread(file, 1000, 0), type=Holder).mark
    except msgspec.MsgspecError:
        return None


def _busy(data: Path, text: bytes) -> LogBusy:
    try:
        holder = msgspec.json.decode(text, type=Holder)
    except msgspec.MsgspecError:
        return LogBusy(f"another process is taking the log in {data} right now")
    name = f"process {holder.pid}"
    return LogBusy(
        f"the log in {data} is held by {name} since {holder.since}{_condition(holder.pid)}", name
    )


def _condition(pid: int) -> str:
    """What keeps a holder from answering, in words; empty if nothing does."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ", which is gone but left a child that holds it"
    state = stat.rpartition(")")[2].split()[0]
    if state == "T":
        return f", which is stopped: continue it (kill -CONT {pid}) or end it (kill -KILL {pid})"
    return ""


class RowLeadership:
    """The row `leader` in the log's database, renewed every quarter lease by the database's clock.

    It may be taken when it is absent or a lease old. `on_lost` is called once, with the reason,
    from a thread of its own, when somebody else has taken it or when it could not be renewed for
    half a lease: the process must then end without appending anything more. The table is made
    here, not by a migration: it holds nothing that could be lost.
    """

    def __init__(self, url: str, on_lost: OnLost, *, lease_s: float = LEASE_S) -> None:
        self._url, self._on_lost, self._lease_s = url, on_lost, lease_s
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._connection: Connection[Any] | None = None
        self._renewed = 0.0
        self._away_since: float | None = None
        self._ended = Event()
        self._losing = Lock()
        self._threads: list[Thread] = []

    def acquire(self, *, wait: bool) -> None:
        while not self._try(wait=wait):
            time.sleep(self._lease_s / 20)
        for run in (self._renew, self._watch):
            thread = Thread(target=run, name=f"leadership{run.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _try(self, *, wait: bool) -> bool:
        asked = _now()
        try:
            if self._connection is None:
                self._connection = connect(self._url)
                _make_table(self._connection)
            self._look_back(self._connection)
            if self._change(TAKE, (self._holder, self._lease_s)):
                self._renewed = asked
                return True
            if not wait:
                raise _held(self._connection)
        except psycopg.Error as error:
            self._drop()
            if not wait:
                raise LogUnavailable(f"can't take the leadership: {error}") from error
        except LogUnavailable:
            if not wait:
                raise
        return False

    def _look_back(self, connection: Connection[Any]) -> None:
        found = connection.execute(AWAY).fetchone()
        known = found is not None and found[0] is not None
        self._away_since = _now() - float(found[0]) if known and found is not None else None

    def mark(self) -> None:
        """`_renew` does."""

    def away_us(self) -> int | None:
        since = self._away_since
        return None if since is None else max(0, round((_now() - since) * 1_000_000))

    def reign(self, epoch: int) -> None:
        with connect(self._url) as connection:
            connection.execute(
                "UPDATE leader SET epoch = %s, alive = clock_timestamp() WHERE holder = %s",
                (epoch, self._holder),
            )

    def fresh(self) -> bool:
        return not self._ended.is_set() and _now() - self._renewed <= self._lease_s / 2

    def release(self) -> None:
        self._ended.set()
        others = [thread for thread in self._threads if thread is not current_thread()]
        for thread in others:
            thread.join(self._lease_s)
        if self._connection is not None and not any(thread.is_alive() for thread in others):
            with contextlib.suppress(psycopg.Error):  # the row grows old by itself
                self._change(RELEASE, (self._holder,))
        self._drop()

    def _change(self, query: LiteralString, parameters: Sequence[Any]) -> bool:
        """Whether the query changed the row."""
        assert self._connection is not None
        return self._connection.execute(query, parameters).fetchone() is not None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / 4):
            asked = _now()
            try:
                self._connection = self._connection or connect(self._url)
                if self._change(RENEW, (self._holder,)):
                    self._renewed = asked
                else:
                    self._lose("another master has taken over")
            except (psycopg.Error, LogUnavailable):
                self._drop()  # the next round connects again; `_watch` counts the time

    def _watch(self) -> None:
        """Counts the time apart from `_renew`, which may hang in a call to a frozen database."""
        while not self._ended.wait(max(self._renewed + self._lease_s / 2 - _now(), 0.01)):
            if _now() - self._renewed > self._lease_s / 2:
                self._lose(f"the leadership was not renewed for {self._lease_s / 2:g} s")

    def _lose(self, reason: str) -> None:
        with self._losing:
            if self._ended.is_set():
                return
            self._ended.set()
        self._on_lost(reason)


def leadership(
    data: Path | None, url: str | None, on_lost: OnLost, *, lease_s: float = LEASE_S
) -> Leadership:
    """The leadership of the log in the database `url`, or else in the directory `data`."""
    if url:
        return RowLeadership(url, on_lost, lease_s=lease_s)
    if data is None:
        raise LogUnavailable("neither a data directory nor a database is given")
    return FileLeadership(data)


def _now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _make_table(connection: Connection[Any]) -> None:
    made_meanwhile = (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable)
    with contextlib.suppress(*made_meanwhile):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS leader ("
            "one boolean PRIMARY KEY DEFAULT true CHECK (one), epoch bigint NOT NULL, "
            "holder text NOT NULL, since timestamptz NOT NULL, renewed timestamptz NOT NULL, "
            "alive timestamptz)"
        )
        if connection.execute(OLDER).fetchone() is None:
            connection.execute("ALTER TABLE leader ADD COLUMN IF NOT EXISTS alive timestamptz")


def _held(connection: Connection[Any]) -> LogBusy:
    found = connection.execute(
        "SELECT holder, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
        "round(extract(epoch FROM clock_timestamp() - renewed), 1) FROM leader WHERE holder <> ''"
    ).fetchone()
    if found is None:
        return LogBusy("another process has given the log back this moment: try again")
    host, pid, _ = found[0].split(":")
    name = f"process {pid} on {host}"
    return LogBusy(f"the log is held by {name} since {found[1]}, renewed {found[2]} s ago", name)


OLDER: LiteralString = (
    "SELECT 1 FROM pg_attribute WHERE attrelid = 'leader'::regclass AND attname = 'alive'"
)
AWAY: LiteralString = "SELECT extract(epoch FROM clock_timestamp() - alive) FROM leader"
TAKE: LiteralString = (
    "INSERT INTO leader AS l (epoch, holder, since, renewed) "
    "VALUES (0, %s, clock_timestamp(), clock_timestamp()) "
    "ON CONFLICT (one) DO UPDATE SET epoch = 0, holder = excluded.holder, "
    "since = excluded.since, renewed = excluded.renewed "
    "WHERE l.holder = '' OR l.renewed < clock_timestamp() - make_interval(secs => %s) "
    "RETURNING holder"
)
RENEW: LiteralString = (
    "UPDATE leader SET renewed = clock_timestamp(), "
    "alive = CASE WHEN epoch > 0 THEN clock_timestamp() ELSE alive END "
    "WHERE holder = %s RETURNING holder"
)
RELEASE: LiteralString = "UPDATE leader SET holder = '' WHERE holder = %s RETURNING holder"
