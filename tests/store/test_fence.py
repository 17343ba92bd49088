"""Two writers: the second one writes nothing, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pysqlite3  # type: ignore[import-untyped]
import pytest

from ledger.store import sqlite
from ledger.store.chain import Head
from ledger.store.location import db_upgrade
from ledger.store.log import AppendFailed, Fenced, LogCorrupt, LogLocked
from ledger.store.verify import verify
from places import Place, draft, job_held


@pytest.mark.fault("D2")
def test_a_writer_that_was_overtaken_writes_nothing(place: Place) -> None:
    old, new = place.open(), place.open()
    old.append([draft(job_held(1), epoch=1)])
    newer = place.open()
    newer.append([draft(job_held(2), epoch=2)])
    before = list(newer.rows())
    for overtaken in (old, new):
        with pytest.raises(Fenced, match="another writer has appended"):
            overtaken.append([draft(job_held(3), epoch=2)])
    assert list(newer.rows()) == before
    assert newer.append([draft(job_held(4), epoch=2)]).commit == 3
    for log in (old, new, newer):
        log.close()


def test_nobody_can_append_between_the_look_at_the_fence_and_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence is read under the write lock: what was true when it was read is so at the end."""
    db_upgrade(tmp_path, None)
    monkeypatch.setattr("ledger.store.sqlite.BUSY_TIMEOUT_S", 0.05)
    place = Place(tmp_path, None)
    mine, other = place.open(), place.open()
    read, tried = sqlite._head, list[int]()

    def intruded(cursor: object) -> Head:
        found = read(cursor)
        if not tried:
            tried.append(1)
            with pytest.raises(LogLocked):
                other.append([draft(job_held(2))])
        return found

    monkeypatch.setattr(sqlite, "_head", intruded)
    assert mine.append([draft(job_held(1))]).commit == 1
    assert tried
    mine.close()
    other.close()


def test_the_second_fence_is_the_number_of_the_commit(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even were the head not looked at, no two writers can insert one header; and the one who
    fails holds no lock afterwards."""
    old, new = place.open(), place.open()
    new.append([draft(job_held(1))])
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"ledger.store.{module}.check_fence", lambda fence, now: None)
    with pytest.raises(Fenced, match="these positions"):
        old.append([draft(job_held(2))])
    assert new.append([draft(job_held(3))]).commit == 2
    old.close()
    new.close()


def test_a_writer_that_is_overtaken_right_after_its_commit_is_fenced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fence is the commit that it wrote, and not whatever the log ends with by then."""
    old = place.open()
    insert = old._insert  # type: ignore[attr-defined]

    def overtaken(*args: object) -> None:
        insert(*args)
        with closing(place.open()) as new:
            new.append([draft(job_held(2))])

    monkeypatch.setattr(old, "_insert", overtaken)
    assert old.append([draft(job_held(1))]).commit == 1
    monkeypatch.undo()
    with pytest.raises(Fenced):
        old.append([draft(job_held(3))])
    old.close()


def full_disk(database: str) -> Any:
    """What the driver raises when the disk is full."""
    if database == "postgres":
        return psycopg.errors.DiskFull("no room")
    error = pysqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = pysqlite3.SQLITE_FULL
    return error


def test_a_full_disk_is_believed_only_if_the_commit_is_absent(
    place: Place, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the log that proves that nothing was written, and not the sound of the error."""
    log = place.open()
    transact = log._transact  # type: ignore[attr-defined]

    def written_and_yet(*args: object) -> None:
        transact(*args)
        raise full_disk(database)

    monkeypatch.setattr(log, "_transact", written_and_yet)
    with pytest.raises(AppendFailed):
        log.append([draft(job_held(1))])
    monkeypatch.undo()
    with pytest.raises(AppendFailed, match="failed before"):
        log.append([draft(job_held(1))])
    log.close()


def test_stored_rows_are_fenced_too(place: Place) -> None:
    source = place.open()
    source.append([draft(job_held(1))])
    rows = list(source.rows())
    with pytest.raises(LogCorrupt):
        source.append_rows(rows, {})
    source.close()


def test_a_writer_that_was_overtaken_stores_no_blobs_either(place: Place) -> None:
    old, new = place.open(), place.open()
    new.append([draft(job_held(1))])
    with pytest.raises(Fenced):
        old.append_rows([], {sha256(b"x").hexdigest(): b"x"})
    assert list(new.all_blobs()) == []
    old.close()
    new.close()


@pytest.mark.fault("C3")
def test_writers_that_race_leave_one_unbroken_chain(place: Place) -> None:
    def write(number: int) -> int:
        log = place.open()
        done = 0
        try:
            for _ in range(20):
                log.append([draft(job_held(number))])
                done += 1
        except (Fenced, AppendFailed):
            pass
        log.close()
        return done

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(write, range(4)))
    log = place.open(write=False)
    assert verify(log).head.commit == sum(done) >= 20
    assert [sum(e.stream == f"job-{n}" for e in log.read()) for n in range(4)] == done
    log.close()
