"""The spool: what an agent must not forget when it is killed, one JSON line a record.

Every record that something hangs on is on disk (fsync) before it is acted on: `begun` before a
process exists, so that no attempt is ever begun twice; a report before it is sent, so that its
number is never given to another; the first sight of an epoch or incarnation, so that a dethroned
master is not obeyed after a restart. A line is `{"c": CRC-32 of the bytes of r, "r": record}`.
A last line without its newline was being written when the power went and is dropped; any other
line that does not read is corruption, and refused: `SpoolCorrupt`.

A full disk ends nothing: what must be on disk is not acted on until it is, and what need not be,
since the master tells it again, goes on in memory. `trouble` says why, until `probe` succeeds.

Records are kept for 30 days (and reports until acknowledged): after a restore from a backup they
still tell which jobs of whom ran here.
"""

import contextlib
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from ledger.agent.spool_file import DiskFile, SpoolFile
from ledger.wire import Order, Report, Seen

KEPT_US = 30 * 86_400 * 1_000_000
COMPACT_BYTES = 8 << 20
Key = tuple[int, int]


class SpoolCorrupt(Exception):
    """A line of the spool does not read: a disk fault, or somebody's editor."""


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="t"):
    at: int = 0


class _Made(_Record, frozen=True, tag="made"):
    id: str
    seq: int = 0  # the highest number ever given to a report


class _Saw(_Record, frozen=True, tag="saw"):
    seen: Seen


class Begun(_Record, frozen=True, tag="begun"):
    """An attempt is about to be started here. `at` is µs since 1970 by this machine's clock."""

    job: int
    attempt: int
    user: str
    nodes: tuple[str, ...]
    boot_id: str
    restartable: bool = False
    request: str = ""

    def order(self) -> Order:
        """As much of the order as is remembered: who and where, not what."""
        return Order(
            job=self.job,
            attempt=self.attempt,
            user=self.user,
            nodes=self.nodes,
            restartable=self.restartable,
            time_limit_s=0,
            kill_grace_s=0,
            request=self.request,
        )


class _Reported(_Record, frozen=True, tag="report"):
    report: Report


class _Acked(_Record, frozen=True, tag="acked"):
    seqs: tuple[int, ...]


class _Reopened(_Record, frozen=True, tag="reopened"):
    seq: int


class _Forgotten(_Record, frozen=True, tag="forgotten"):
    job: int
    attempt: int


_AnyRecord: TypeAlias = _Made | _Saw | Begun | _Reported | _Acked | _Reopened | _Forgotten


_DECODER: msgspec.json.Decoder[_AnyRecord] = msgspec.json.Decoder(_AnyRecord)


class _Line(msgspec.Struct):
    c: int
    r: msgspec.Raw


def _encode(record: _AnyRecord) -> bytes:
    raw = msgspec.json.encode(record)
    return msgspec.json.encode(_Line(zlib.crc32(raw), msgspec.Raw(raw))) + b"\n"


def _decode(line: bytes) -> _AnyRecord:
    outer = msgspec.json.decode(line, type=_Line)
    raw = bytes(outer.r)
    if zlib.crc32(raw) != outer.c:
        raise msgspec.ValidationError("the checksum does not fit")
    return _DECODER.decode(raw)


def wall_us() -> int:
    """Now, in microseconds since 1970, for people who read the spool."""
    return time.time_ns() // 1000


class Memory:
    """What the records say. In memory only: the simulated agents' spool, and the real one's fold.

    For one thread. Whoever overrides `_write` makes a record last before it is applied.
    """

    def __init__(self, now: Callable[[], int] = wall_us, made: str = "") -> None:
        """`made`: the id of a new spool; a random one if it is not given."""
        self.now = now
        self.trouble = ""
        self.id = ""
        self.seen = Seen()
        self.begun: dict[Key, Begun] = {}
        self.ended: dict[Key, Report] = {}
        self._incarnations: dict[str, Seen] = {}
        self._ages: dict[Key, int] = {}
        self._seq = 0
        self._reports: dict[int, _Reported] = {}
        self._unacked: set[int] = set()
        self._forgotten: set[Key] = set()
        self._apply(_Made(id=made or secrets.token_hex(16), at=now()))

    # what it knows

    def knows(self, key: Key) -> bool:
        """Was this attempt ever begun, ended or refused here? Then it is never begun again."""
        return key in self._ages

    def forgot(self, key: Key) -> bool:
        """Was it killed here without a report, because the master no longer listed it?"""
        return key in self._forgotten

    def unfinished(self) -> list[Begun]:
        """Attempts begun and not ended: after a restart, those that died with the agent."""
        return [
            b for key, b in self.begun.items() if key not in self.ended and not self.forgot(key)
        ]

    def unacked(self) -> tuple[Report, ...]:
        """The reports that the master has not acknowledged, in the order of their numbers."""
        return tuple(self._reports[n].report for n in sorted(self._unacked))

    def outdated(self, seen: Seen) -> bool:
        """Does a reply with this head come from a reign that is known to be over?

        So is every reign over a log that another copy has taken the place of (a restored one).
        """
        known = self._incarnations.get(seen.incarnation)
        former = seen.incarnation != self.seen.incarnation
        return known is not None and (former or seen.epoch < known.epoch)

    @property
    def incarnations(self) -> frozenset[str]:
        """Those of every log whose master ever spoke to it."""
        return frozenset(self._incarnations)

    # what it is told

    def remember(self, line: bytes) -> int:
        """Take in a line of a spool's file; when it was written, µs. Raises `msgspec.MsgspecError`
        or UnicodeDecodeError for one that does not read."""
        record = _decode(line)
        self._apply(record)
        return record.at

    def see(self, seen: Seen) -> None:
        """Keep the highest head per incarnation; `self.seen` is that of the last one to speak."""
        known = self._incarnations.get(seen.incarnation)
        if known is not None and (seen.epoch, seen.position) <= (known.epoch, known.position):
            self.seen = known
            return
        new_reign = known is None or seen.epoch > known.epoch
        self._write(_Saw(seen=seen, at=self.now()), new_reign)

    def begin(self, order: Order, boot_id: str) -> None:
        """Before any process of the attempt exists."""
        record = Begun(
            job=order.job,
            attempt=order.attempt,
            user=order.user,
            nodes=order.nodes,
            boot_id=boot_id,
            restartable=order.restartable,
            request=order.request,
            at=self.now(),
        )
        self._write(record, True)

    def report(self, draft: Report) -> Report:
        """Give a report its number and keep it until it is acknowledged."""
        report = msgspec.structs.replace(draft, seq=self._seq + 1)
        self._write(_Reported(report=report, at=self.now()), True)
        return report

    def ack(self, seqs: Iterable[int]) -> bool:
        """The master has these reports; True if that is news. Lost in a crash, it is told again."""
        news = tuple(sorted(self._unacked.intersection(seqs)))
        if news:
            self._write(_Acked(seqs=news, at=self.now()), False)
        return bool(news)

    def reopen(self, key: Key) -> bool:
        """Send an end report again: a master whose log was restored no longer has it."""
        report = self.ended.get(key)
        if report is None or report.seq in self._unacked:
            return False
        self._write(_Reopened(seq=report.seq, at=self.now()), False)
        return True

    def forget(self, key: Key) -> None:
        """The attempt is gone and nobody wants to hear of it."""
        self._write(_Forgotten(job=key[0], attempt=key[1], at=self.now()), True)

    def probe(self) -> None:
        """See whether records can be kept again."""

    # how it keeps it

    def _write(self, record: _AnyRecord, sync: bool) -> None:
        self._apply(record)

    def _apply(self, record: _AnyRecord) -> None:
        if isinstance(record, _Made):
            self.id, self._seq = record.id, record.seq
        elif isinstance(record, _Saw):
            self._incarnations[record.seen.incarnation] = self.seen = record.seen
        elif isinstance(record, Begun):
            self.begun[record.job, record.attempt] = record
            self._ages[record.job, record.attempt] = record.at
        elif isinstance(record, _Reported):
            self._apply_report(record)
        elif isinstance(record, _Acked):
            self._unacked.difference_update(record.seqs)
        elif isinstance(record, _Reopened):
            self._unacked.add(record.seq)
        else:
            self._forgotten.add((record.job, record.attempt))
            self._ages[record.job, record.attempt] = record.at

    def _apply_report(self, record: _Reported) -> None:
        report = record.report
        key = (report.job, report.attempt)
        self._seq = max(self._seq, report.seq)
        self._reports[report.seq] = record
        self._unacked.add(report.seq)
        self._ages[key] = record.at
        if report.kind == "ended":
            self.ended[key] = report

    def expire(self, horizon: int) -> None:
        """Drop what is acknowledged and older than `horizon` (µs since 1970)."""
        waiting = {(r.job, r.attempt) for r in self.unacked()}
        waiting |= {(b.job, b.attempt) for b in self.unfinished()}
        old = {key for key, at in self._ages.items() if at < horizon and key not in waiting}
        for key in old:
            del self._ages[key]
            self.begun.pop(key, None)
            self.ended.pop(key, None)
            self._forgotten.discard(key)
        gone = [n for n, r in self._reports.items() if (r.report.job, r.report.attempt) in old]
        for n in gone:
            del self._reports[n]

    def snapshot(self) -> list[_AnyRecord]:
        """Records that say the same in fewer words."""
        records: list[_AnyRecord] = [_Made(id=self.id, seq=self._seq, at=self.now())]
        last = self.seen.incarnation
        heads = sorted(self._incarnations.values(), key=lambda s: s.incarnation == last)
        records.extend(_Saw(seen=seen, at=self.now()) for seen in heads)
        records.extend(self.begun.values())
        records.extend(self._reports[n] for n in sorted(self._reports))
        acked = tuple(sorted(set(self._reports) - self._unacked))
        if acked:
            records.append(_Acked(seqs=acked, at=self.now()))
        records.extend(
            _Forgotten(job=j, attempt=a, at=self._ages[j, a]) for j, a in sorted(self._forgotten)
        )
        return records


def _records(file: SpoolFile) -> Iterator[_AnyRecord]:
    """The records in a file; none if it is not there. Raises `SpoolCorrupt`."""
    *lines, _torn = file.read().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            yield _decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as e:
            raise SpoolCorrupt(
                f"{file.name}, line {number} of {len(lines)} does not read: {e}. Keep a copy, "
                "then move the file away: the agent starts with an empty memory, and the "
                "master ends the attempts that it had here."
            ) from e


def recall(path: Path) -> Memory:
    """What a spool says, which somebody else may be writing: it is only read.

    Raises `SpoolCorrupt`, FileNotFoundError.
    """
    path.stat()
    memory = Memory()
    for record in _records(DiskFile(path)):
        memory._apply(record)
    return memory


class Spool(Memory):
    """The spool in a file, on disk if a path is given. Its methods block for an fsync; an OSError
    means: not written, not so. To be made it needs an old file, or room for a new one: OSError."""

    def __init__(
        self, file: Path | SpoolFile, now: Callable[[], int] = wall_us, made: str = ""
    ) -> None:
        super().__init__(now, made)
        self._file = DiskFile(file) if isinstance(file, Path) else file
        for record in _records(self._file):
            self._apply(record)
        self._compact_at = 0
        if not self._compact():
            self._file.keep()

    def see(self, seen: Seen) -> None:
        """As `Memory.see`. Where a new reign can't be recorded it is known all the same, and so
        are the orders of an older one refused; OSError says that nothing may be begun on it."""
        try:
            super().see(seen)
        except OSError:
            self._apply(_Saw(seen=seen, at=self.now()))
            raise

    def probe(self) -> None:
        """See whether records can be kept again, if one could not: with some room to spare."""
        with contextlib.suppress(OSError):
            if self.trouble and self._file.has_room():
                self._write(_Saw(seen=self.seen, at=self.now()), True)
                self.trouble = ""

    def _write(self, record: _AnyRecord, sync: bool) -> None:
        if self._file.size > self._compact_at:
            self._compact()
        try:
            self._file.append(_encode(record), sync)
        except OSError as e:
            self.trouble = e.strerror or str(e)
            if sync:
                raise
        self._apply(record)

    def _compact(self) -> bool:
        """Say the same in a new file, without what is old; whether there was room for one."""
        self.expire(self.now() - KEPT_US)
        try:
            self._file.replace(b"".join(map(_encode, self.snapshot())))
        except OSError as e:
            self._compact_at = self._file.size + COMPACT_BYTES
            self.trouble = e.strerror or str(e)
            return False
        self._compact_at = COMPACT_BYTES
        return True

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
