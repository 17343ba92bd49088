"""Two writers: the second one writes nothing, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.store import sqlite
from ledger.store.chain import Head
from ledger.store.location import db_upgrade
from ledger.store.log import AppendFailed, Fenced, LogCorrupt
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
            with pytest.raises(AppendFailed, match="locked"):
                other.append([draft(job_held(2))])
        return found

    monkeypatch.setattr(sqlite, "_head", intruded)
    assert mine.append([draft(job_held(1))]).commit == 1
    assert tried
    mine.close()
    other.close()


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
