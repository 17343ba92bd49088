"""The contract of `Log`, on both databases: what is appended is there, whole and in order."""

import json
import threading
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import psycopg
import pysqlite3  # type: ignore[import-untyped]
import pytest

from ledger.codec import BrokenEvent
from ledger.events import Fact
from ledger.store.chain import EMPTY
from ledger.store.commits import PAGE
from ledger.store.location import REVISIONS, db_version, open_log
from ledger.store.log import AppendFailed, Draft, Fenced, Log, LogCorrupt, LogUnavailable
from places import ALICE, Place, draft, fill, job_held, raw


def test_an_empty_log_has_no_head_and_nothing_to_read(log: Log) -> None:
    assert log.head() == EMPTY
    assert (list(log.read()), list(log.rows())) == ([], [])
    assert len(log.incarnation) == 32


def test_a_log_that_was_replaced_says_so(log: Log, place: Place) -> None:
    log.append([draft(job_held(1))])
    assert not log.replaced()
    if place.data is None:
        raw(place, "ALTER TABLE meta DISABLE TRIGGER ALL")
        raw(place, "UPDATE meta SET value = 'another' WHERE key = 'incarnation'")
        assert log.replaced()
        return
    copy = place.data / "copy.db"
    raw(place, f"VACUUM INTO '{copy}'")
    copy.rename(place.data / "log.db")
    assert log.replaced()
    (place.data / "log.db").unlink()
    assert log.replaced()


def test_what_is_appended_is_read_back(log: Log) -> None:
    head = log.append([draft(job_held(1), job_held(2), at=5, epoch=3)])
    assert (head.position, head.commit, head.at, head.epoch) == (3, 1, 5, 3)
    assert log.head() == head
    first, second = log.read()
    assert (first.event, first.envelope) == job_held(1)[:2]
    assert (first.position, first.version, first.stream) == (2, 2, "job-1")
    assert (first.commit, first.at, first.epoch) == (1, 5, 3)
    assert first.incarnation == log.incarnation
    assert (second.position, second.event) == (3, job_held(2).event)


def test_commits_appended_together_are_commits_of_their_own(log: Log) -> None:
    head = log.append([draft(job_held(1), at=1), draft(at=2), draft(job_held(2), at=3)])
    assert (head.position, head.commit) == (5, 3)
    assert [(e.position, e.commit, e.at) for e in log.read()] == [(2, 1, 1), (5, 3, 3)]
    assert [log.commit_at(p) is not None for p in range(7)] == [
        False, False, True, True, False, True, False,
    ]  # fmt: skip
    third = log.commit_at(5)
    assert third == head


def test_readers_get_whole_commits_only(log: Log) -> None:
    fill(log, commits=4, size=3)
    assert [e.position for e in log.read(upto=7)] == [2, 3, 4]
    assert [e.position for e in log.read(upto=8)] == [2, 3, 4, 6, 7, 8]
    assert [e.position for e in log.read(after=8, upto=12)] == [10, 11, 12]
    with pytest.raises(ValueError, match="no commit ends at position 7"):
        log.read(after=7)


def test_a_commit_larger_than_a_page_is_read(log: Log) -> None:
    log.append([draft(job_held(1))])
    log.append([draft(*[job_held(i) for i in range(PAGE + 5)])])
    log.append([draft(job_held(7))])
    assert sum(1 for _ in log.read()) == PAGE + 7
    assert [e.commit for e in log.read(after=2 + PAGE + 6)] == [3]


def test_a_slow_reader_holds_nothing_up_and_ends_where_the_log_ended(place: Place) -> None:
    writer, reader = place.open(), place.open(write=False)
    fill(writer, commits=2, size=2)
    events = reader.read()
    next(events)
    writer.append([draft(job_held(9), at=3)])
    assert [e.position for e in events] == [3, 5, 6]
    writer.close()
    reader.close()


def test_one_stream_with_the_time_of_each_commit(log: Log) -> None:
    log.append([draft(job_held(1), job_held(2), at=1, epoch=1)])
    log.append([draft(job_held(2), job_held(1), at=2, epoch=2)])
    found = [(e.position, e.version, e.commit, e.at, e.epoch) for e in log.read_stream("job-2")]
    assert found == [(3, 3, 1, 1, 1), (5, 5, 2, 2, 2)]
    assert [e.position for e in log.read_stream("job-2", after=3)] == [5]
    assert list(log.read_stream("job-3")) == []


def test_a_stream_longer_than_a_page_is_read_whole(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(log), "page", 2)
    log.append([draft(*[job_held(7)] * 5)])
    assert [e.position for e in log.read_stream("job-7")] == [2, 3, 4, 5, 6]


def test_any_position_lies_in_a_commit_or_behind_one(log: Log) -> None:
    ends = [0] + [log.append([draft(*[job_held(1)] * n)]).position for n in (1, 3, 2)]
    for position in range(ends[-1] + 3):
        before = max(end for end in ends if end <= position)
        assert log.commit_before(position) == before
        at = log.commit_at(position)
        assert (at.position if at else None) == (position if position in ends[1:] else None)


def test_blobs_are_stored_once_and_may_be_erased(log: Log, place: Place) -> None:
    text, other = b"#!/bin/sh\n", b"\xff\x00"
    digest, second = sha256(text).hexdigest(), sha256(other).hexdigest()
    for _ in range(2):
        log.append([Draft(1, 1, [job_held(1)], {digest: text, second: other})])
    assert log.blobs([digest, "0" * 64, second]) == {digest: text, second: other}
    assert list(log.all_blobs()) == sorted({digest: text, second: other}.items())
    raw(place, f"DELETE FROM blobs WHERE sha256 = '{digest}'")  # noqa: S608
    assert log.blobs([digest, second]) == {second: other}
    with pytest.raises((pysqlite3.Error, psycopg.Error), match="never changed"):
        raw(place, "UPDATE blobs SET bytes = bytes")


def test_a_blob_that_is_not_its_digest_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="not what its digest"):
        log.append([Draft(1, 1, [job_held(1)], {"0" * 64: b"x"})])
    assert log.head() == EMPTY


@pytest.mark.fault("B12")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state = state",
        "DELETE FROM stored_events",
        "TRUNCATE stored_events",
    ],
)
def test_rows_can_be_neither_changed_nor_deleted(log: Log, place: Place, statement: str) -> None:
    log.append([draft(job_held(1))])
    before = list(log.rows())
    with pytest.raises((pysqlite3.Error, psycopg.Error), match=r"append-only|syntax error"):
        raw(place, statement)
    assert list(log.rows()) == before


def test_an_event_that_cannot_be_stored_leaves_the_log_as_it_was(log: Log) -> None:
    log.append([draft(job_held(1))])
    head = log.head()
    for broken in (job_held("1"), job_held(1, user="\ud800")):
        with pytest.raises(BrokenEvent):
            log.append([draft(job_held(2), broken)])
    assert log.head() == head
    assert log.append([draft(job_held(2))]).commit == 2


@pytest.mark.parametrize(
    "text", ["žluťoučký 🐎", "\u0000", "a\nb", "\u2028", "\u202eabc", "\x7f", "'\"\\"]
)
def test_text_of_all_kinds_survives(log: Log, text: str) -> None:
    log.append([draft(job_held(1, user=text))])
    assert next(log.read()).event == job_held(1, user=text).event


def test_a_commit_may_not_turn_back_clock_or_epoch(log: Log) -> None:
    log.append([draft(job_held(1), at=10, epoch=2)])
    for at, epoch in ((9, 2), (10, 1)):
        with pytest.raises(ValueError, match="can't follow"):
            log.append([draft(job_held(1), at=at, epoch=epoch)])
    assert log.append([draft(job_held(1), at=10, epoch=2)]).commit == 2


def test_the_log_goes_on_after_a_restart(place: Place) -> None:
    log = place.open()
    head = fill(log, commits=3, size=2)
    incarnation = log.incarnation
    log.close()
    again = place.open()
    assert (again.head(), again.incarnation) == (head, incarnation)
    assert again.append([draft(job_held(1), at=99)]).commit == 4
    assert [e.commit for e in again.read()] == [1, 1, 2, 2, 3, 3, 4]
    again.close()


def test_stored_rows_are_appended_as_they_are(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = open_log(tmp_path_factory.mktemp("source"), None, write=True, create=True)
    head = fill(source, commits=3, size=2)
    rows = list(source.rows())
    log = place.open()
    with pytest.raises(LogCorrupt, match="not whole"):
        log.append_rows(rows[:-1], {})
    with pytest.raises(LogCorrupt) as caught:
        log.append_rows(rows[3:], {})
    assert caught.value.position == 1
    assert log.append_rows(rows, {}) == head
    assert list(log.rows()) == rows
    source.close()
    log.close()


def test_a_log_open_for_reading_refuses_to_append(log: Log, place: Place) -> None:
    reader = place.open(write=False)
    with pytest.raises(AppendFailed, match="reading only"):
        reader.append([draft(job_held(1))])
    reader.close()


class TestWaiting:
    def test_it_returns_at_once_when_the_head_is_behind(self, log: Log) -> None:
        log.append([draft(job_held(1))])
        assert log.wait(1, 0)
        assert not log.wait(2, 0)

    def test_an_append_of_this_process_wakes_it(self, log: Log) -> None:
        woken = threading.Event()
        waiter = threading.Thread(target=lambda: woken.set() if log.wait(0, 60) else None)
        waiter.start()
        log.append([draft(job_held(1))])
        assert woken.wait(10)
        waiter.join()

    def test_an_append_through_another_connection_wakes_it(self, log: Log, place: Place) -> None:
        reader = place.open(write=False)
        assert not reader.wait(0, 0.05)
        woken = threading.Event()
        waiter = threading.Thread(target=lambda: woken.set() if reader.wait(0, 60) else None)
        waiter.start()
        log.append([draft(job_held(1))])
        assert woken.wait(10)
        waiter.join()
        reader.close()

    def test_it_can_be_interrupted(self, log: Log) -> None:
        answers: list[bool] = []
        waiter = threading.Thread(target=lambda: answers.append(log.wait(0, 60)))
        waiter.start()
        log.interrupt()
        waiter.join(10)
        assert answers == [False]


@pytest.mark.fault("B9")
class TestPlaces:
    def test_an_empty_place_is_refused_unless_it_may_be_made(
        self, database: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        url = request.getfixturevalue("pg_url") if database == "postgres" else None
        data = None if url else request.getfixturevalue("tmp_path") / "new"
        assert db_version(data, url) is None
        with pytest.raises(LogUnavailable, match="there is no log"):
            open_log(data, url, write=True)
        assert data is None or not data.exists()
        open_log(data, url, write=True, create=True).close()
        assert db_version(data, url) == "0001"
        open_log(data, url, write=True, create=True).close()

    def test_a_newer_schema_is_refused_with_advice(self, place: Place) -> None:
        raw(place, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(LogUnavailable, match=r"newer release .*install that release"):
            place.open(write=False)

    def test_an_older_schema_may_be_read_but_not_written(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ledger.store.location.REVISIONS", ("0001", "0002"))
        place.open(write=False).close()
        with pytest.raises(LogUnavailable, match="jobledger db upgrade"):
            place.open()

    def test_something_else_is_no_log(self, database: str, request: pytest.FixtureRequest) -> None:
        if database == "sqlite":
            data = request.getfixturevalue("tmp_path")
            (data / "log.db").write_bytes(b"not a database, " * 100)
            with pytest.raises(LogUnavailable, match="not a jobledger log"):
                open_log(data, None, write=True, create=True)
        else:
            with pytest.raises(LogUnavailable, match="can't reach"):
                open_log(None, "postgresql://127.0.0.1:1/x?connect_timeout=2", write=True)


def test_positions_have_no_gaps_and_versions_are_positions(log: Log) -> None:
    fill(log, commits=5, size=4)
    rows = list(log.rows())
    assert all(b.position == a.position + 1 for a, b in pairwise(rows))
    assert all(r.version == r.position for r in rows if r.stream != "commit")
    headers = [json.loads(r.data) for r in rows if r.stream == "commit"]
    assert [h["n"] for h in headers] == [1, 2, 3, 4, 5]
    assert [h["first"] for h in headers] == [1, 6, 11, 16, 21]


def test_the_envelope_is_kept(log: Log) -> None:
    log.append([Draft(1, 1, [Fact(job_held(1).event, ALICE)])])
    assert next(log.read()).envelope == ALICE


def test_a_fenced_writer_stays_fenced(place: Place) -> None:
    old, new = place.open(), place.open()
    new.append([draft(job_held(1))])
    with pytest.raises(Fenced):
        old.append([draft(job_held(2))])
    with pytest.raises(AppendFailed, match="failed before"):
        old.append([draft(job_held(2))])
    old.close()
    new.close()


def test_the_migrations_are_those_this_release_knows() -> None:
    folder = Path(__file__).parents[2] / "alembic" / "versions"
    names = sorted(path.name.partition("_")[0] for path in folder.glob("*.py"))
    assert tuple(names) == REVISIONS
