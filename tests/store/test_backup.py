"""Backups: made under load, restored elsewhere the same, and nothing broken is taken for one."""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.domain.cluster import evolve
from ledger.domain.snapshot import to_bytes
from ledger.domain.state import Cluster
from ledger.store import backup, backup_file, shelf
from ledger.store.backup_file import BackupRefused
from ledger.store.leadership import FileLeadership, RowLeadership
from ledger.store.log import Draft, Log, LogBusy, LogUnavailable
from ledger.store.verify import verify
from ledger.testing.evidence import Evidence
from places import Place, draft, fill, fresh_database, job_held

TEXTS = [b"#!/bin/sh\nsleep 1\n", b"\xff\x00\xfe", b""]


def fold(log: Log, upto: int) -> bytes:
    """The state that the log makes up to a position."""
    cluster = Cluster()
    for recorded in log.read(upto=upto):
        evolve(cluster, recorded)
    return to_bytes(cluster)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the backups go."""
    return tmp_path / "backups"


@pytest.fixture
def made(log: Log, folder: Path) -> Path:
    """A backup of a log with commits and odd texts."""
    fill(log, commits=3, size=2)
    log.append([Draft(900, 2, [job_held(1)], {sha256(t).hexdigest(): t for t in TEXTS})])
    return backup.create(log, folder)


@pytest.fixture
def elsewhere(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where there is no log yet, on each database in turn."""
    if database == "sqlite":
        yield Place(tmp_path / "elsewhere", None)
    else:
        with fresh_database(request.getfixturevalue("pg_server")) as url:
            yield Place(tmp_path / "elsewhere", url)


def restored(path: Path, where: Place, incarnation: str = "") -> Log:
    """The log of a backup, restored there."""
    assert where.data is not None
    backup.restore(path, where.data, where.url, incarnation)
    return where.open(write=False)


@pytest.mark.fault("J1")
def test_a_backup_made_under_load_restores_as_the_prefix_it_was(
    place: Place, elsewhere: Place, folder: Path, database: str, full: bool, evidence: Evidence
) -> None:
    enough, end = threading.Event(), threading.Event()
    size = 200_000 if full else 10_000

    def load() -> None:
        with closing(place.open()) as log:
            at = 0
            while not end.is_set():
                at += 1
                text = str(at).encode()
                jobs = [job_held(at * 100 + i) for i in range(100)]
                log.append([Draft(at, 1, jobs, {sha256(text).hexdigest(): text})])
                if at * 101 >= size:
                    enough.set()

    appending = threading.Thread(target=load)
    appending.start()
    try:
        assert enough.wait(100)
        with closing(place.open(write=False)) as reading:
            began = time.monotonic()
            path = backup.create(reading, folder)
            took = time.monotonic() - began
            verdict = backup.verify(path)
            assert reading.head().position > verdict.head.position, "nothing was appended meanwhile"
            began = time.monotonic()
            with closing(restored(path, elsewhere)) as copy:
                drill = time.monotonic() - began
                head = copy.head()
                assert head == verdict.head == verify(copy).head
                assert list(copy.rows()) == list(reading.rows(upto=head.position))
                assert fold(copy, head.position) == fold(reading, head.position)
                wanted = [sha256(str(n + 1).encode()).hexdigest() for n in range(head.commit)]
                assert len(copy.blobs(wanted)) == head.commit
                assert copy.incarnation != reading.incarnation == verdict.incarnation
    finally:
        end.set()
        appending.join()
    evidence(
        f"backup under load, {database}",
        f"{verdict.events} events, {verdict.size / 1e6:.1f} MB: made in {took:.2f} s, verified in "
        f"{verdict.seconds:.2f} s, restored in {drill:.2f} s; rows and fold the same",
    )


def test_a_restored_log_is_gone_on_with(made: Path, elsewhere: Place, log: Log) -> None:
    restored(made, elsewhere).close()
    with closing(elsewhere.open()) as copy:
        assert list(copy.all_blobs()) == list(log.all_blobs())
        assert copy.append([draft(job_held(2), at=1000, epoch=3)]).commit == 5


def test_a_second_restore_into_the_same_place_is_refused(made: Path, elsewhere: Place) -> None:
    with closing(restored(made, elsewhere)) as copy:
        before = copy.incarnation
    with pytest.raises(BackupRefused, match="there is a log already"):
        restored(made, elsewhere)
    with closing(elsewhere.open(write=False)) as copy:
        assert copy.incarnation == before


def test_a_restore_where_a_master_holds_the_lock_is_refused(made: Path, elsewhere: Place) -> None:
    assert elsewhere.data is not None
    lead = RowLeadership(elsewhere.url, print) if elsewhere.url else FileLeadership(elsewhere.data)
    lead.acquire(wait=False)
    try:
        with pytest.raises(LogBusy):
            restored(made, elsewhere)
    finally:
        lead.release()


def repacked(path: Path, change: Callable[[list[bytes]], None]) -> None:
    """Change the lines of a backup, with a seal that fits."""
    with gzip.open(path) as packed:
        lines = packed.readlines()[:-1]
    change(lines)
    seal = {"lines": len(lines), "sha256": sha256(b"".join(lines)).hexdigest()}
    with gzip.open(path, "wb") as packed:
        packed.writelines([*lines, json.dumps(seal).encode() + b"\n"])


def swap_rows(lines: list[bytes]) -> None:
    """Another order of events."""
    lines[3], lines[4] = lines[4], lines[3]


def other_version(lines: list[bytes]) -> None:
    """A release to come."""
    lines[0] = lines[0].replace(b'"version":1', b'"version":2')


def other_schema(lines: list[bytes]) -> None:
    """Tables to come."""
    lines[0] = lines[0].replace(b'"schema":"0001"', b'"schema":"0999"')


def other_text(lines: list[bytes]) -> None:
    """An event that nobody wrote."""
    lines[3] = lines[3].replace(b"alice", b"mallo")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "half": (lambda p: os.truncate(p, p.stat().st_size // 2), "is truncated"),
    "one byte short": (lambda p: os.truncate(p, p.stat().st_size - 1), "is truncated"),
    "something else": (lambda p: p.write_bytes(b"SQLite format 3\0"), "is not a backup"),
    "another gzip": (lambda p: p.write_bytes(gzip.compress(b"hello\n")), "is not a backup"),
    "a gzip of nothing": (lambda p: p.write_bytes(gzip.compress(b"")), "is not a backup"),
    "more behind it": (lambda p: p.write_bytes(p.read_bytes() + b"more"), "is damaged"),
    "another version": (lambda p: repacked(p, other_version), "made by another release"),
    "another schema": (lambda p: repacked(p, other_schema), "made by another release"),
    "rows swapped": (lambda p: repacked(p, swap_rows), "holds no whole log"),
    "an event changed": (lambda p: repacked(p, other_text), "holds no whole log"),
    "rows missing": (lambda p: repacked(p, lambda lines: lines.__delitem__(3)), "no whole log"),
    "no end": (lambda p: repacked(p, lambda lines: lines.__delitem__(-1)), "no whole log"),
}


@pytest.mark.fault("J2")
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", BROKEN)
def test_every_broken_backup_is_refused_with_its_word(
    made: Path, elsewhere: Place, how: str
) -> None:
    backup.verify(made)
    assert elsewhere.data is not None
    spoil, word = BROKEN[how]
    spoil(made)
    with pytest.raises(BackupRefused, match=word):
        backup.restore(made, elsewhere.data, None)
    assert not (elsewhere.data / "log.db").exists()
    with pytest.raises(BackupRefused, match=word):
        backup.verify(made)
    (found,) = shelf.listed(made.parent)
    assert found.verified is None


@pytest.mark.fault("J2")
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_truncation_and_every_flipped_bit_is_found(
    made: Path, full: bool, evidence: Evidence
) -> None:
    whole = made.read_bytes()
    for length in range(len(whole)):
        made.write_bytes(whole[:length])
        with pytest.raises(BackupRefused):
            backup_file.check(made)
    contents, flips, harmless = gzip.decompress(whole), 0, 0
    for place in range(10, len(whole)):  # before them stand what gzip does not protect: its flags
        for bit in range(8) if full else (place % 8,):
            made.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            flips += 1
            try:
                backup_file.check(made)
            except BackupRefused:
                continue
            harmless += 1  # the last byte of the compressed data is filled up with bits of no use
            assert gzip.decompress(made.read_bytes()) == contents
    assert harmless < 8
    evidence(
        "backup tampered with",
        f"{len(whole)} truncations, {flips} flipped bits: all found, "
        f"but for {harmless} bits that mean nothing",
    )


@pytest.mark.fault("J2")
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_backup_of_another_ledger_is_refused(made: Path, elsewhere: Place, log: Log) -> None:
    with pytest.raises(BackupRefused, match="another ledger"):
        restored(made, elsewhere, "0" * 32)
    assert elsewhere.data is not None
    assert not elsewhere.data.exists()
    with pytest.raises(BackupRefused, match="another ledger"):
        backup.verify(made, "0" * 32)
    restored(made, elsewhere, log.incarnation).close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_empty_log_is_not_backed_up(log: Log, folder: Path) -> None:
    with pytest.raises(LogUnavailable, match="nothing to back up"):
        backup.create(log, folder)
    assert not folder.exists()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_backup_counts_once_it_was_verified_and_its_age_is_told(
    made: Path, folder: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shelf.newest(folder, log.incarnation) is None
    assert "no verified backup" in shelf.freshness(folder, log.incarnation, 3600).warning
    assert shelf.freshness(folder, log.incarnation, 0) == (None, 0, "")
    verdict = backup.verify(made)
    (found,) = shelf.listed(folder)
    assert found.verified == verdict
    assert (verdict.head, verdict.size) == (log.head(), made.stat().st_size)
    assert shelf.newest(folder, log.incarnation) == found
    assert shelf.newest(folder, "0" * 32) is None
    assert shelf.freshness(folder, log.incarnation, 3600).warning == ""
    present = time.time()
    monkeypatch.setattr(time, "time", lambda: present + 7300)
    late = shelf.freshness(folder, log.incarnation, 3600)
    assert late.warning.endswith("2.0 h old, and one is due every 1.0 h")
    assert late.age_s == pytest.approx(7300, abs=5)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_newest_are_kept_and_always_the_newest_verified_one(
    made: Path, folder: Path, log: Log, tmp_path: Path
) -> None:
    backup.verify(made)
    rest = [backup.create(log, folder) for _ in range(4)]
    with closing(Place(tmp_path / "other", None).open(create=True)) as other:
        fill(other, 1, 1)
        foreign = backup.create(other, folder)
    assert shelf.prune(folder, log.incarnation, 0) == []
    removed = shelf.prune(folder, log.incarnation, 2)
    assert sorted(removed) == sorted(rest[:2])
    assert {found.path for found in shelf.listed(folder)} == {made, *rest[2:], foreign}
    backup.verify(rest[3])
    assert set(shelf.prune(folder, log.incarnation, 1)) == {made, rest[2]}
    left = {path.name for path in folder.iterdir() if path.suffix == ".json"}
    assert left == {rest[3].name + ".verified.json"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_fails_while_it_is_written_leaves_nothing(
    log: Log, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log, 1, 1)
    folder.mkdir()
    (folder / "1.unfinished").touch()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_file, "export", full_disk)
    with pytest.raises(OSError, match="No space"):
        backup.create(log, folder)
    assert [path.name for path in folder.iterdir()] == ["backup.lock"]
