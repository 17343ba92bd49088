"""What only SQLite can do to a log: full disks, failing writes and syncs, an old library."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import eventsourcing.sqlite
import pysqlite3  # type: ignore[import-untyped]
import pytest

from ledger.store.location import db_upgrade
from ledger.store.log import LogLocked, LogUnavailable, StorageFull
from ledger.store.sqlite import Datastore, SQLiteLog, make_durable
from ledger.store.stored import HEADER_BEFORE, PAGE_OF_STREAM
from ledger.store.verify import verify
from places import draft, job_held


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of an empty log."""
    db_upgrade(tmp_path, None)
    return tmp_path / "log.db"


def test_the_library_uses_a_sqlite_without_the_wal_bug() -> None:
    assert eventsourcing.sqlite.sqlite3 is pysqlite3  # type: ignore[attr-defined]
    assert pysqlite3.sqlite_version_info >= (3, 51, 3)


def test_the_writing_connection_syncs_every_commit(file: Path) -> None:
    datastore = Datastore(file)
    with datastore.get_connection(commit=True) as connection:
        cursor = connection.cursor().sqlite_cursor
        assert cursor.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert cursor.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    datastore.close()


@pytest.mark.fault("B2")
def test_what_cannot_be_durable_is_refused() -> None:
    with (
        closing(pysqlite3.connect(":memory:")) as connection,
        pytest.raises(LogUnavailable, match="refuses to be durable"),
    ):
        make_durable(connection)


def test_readers_cannot_write(file: Path) -> None:
    with closing(SQLiteLog(file, write=False)) as log, pytest.raises(pysqlite3.OperationalError):
        log._reader.execute("DELETE FROM meta")


@pytest.mark.fault("B3")
def test_a_full_disk_before_commit_drops_the_draft_and_the_log_lives(file: Path) -> None:
    with closing(SQLiteLog(file, write=True)) as log:
        head = log.append([draft(job_held(1))])
        assert log._recorder is not None
        with log._recorder.datastore.get_connection(commit=True) as connection:
            cursor = connection.cursor().sqlite_cursor
            pages = cursor.execute("PRAGMA page_count").fetchone()[0]
            cursor.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFull):
            log.append([draft(*[job_held(i) for i in range(1000)])])
        assert log.head() == head
        with log._recorder.datastore.get_connection(commit=True) as connection:
            connection.cursor().execute("PRAGMA max_page_count = 1000000")
        assert log.append([draft(job_held(2))]).commit == 2
        assert verify(log).head.commit == 2


APPENDING = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from ledger.store.log import AppendFailed, StorageFull
from ledger.store.sqlite import SQLiteLog
from places import draft, job_held
log = SQLiteLog(Path(sys.argv[1]), write=True)
for n in range(20):
    try:
        log.append([draft(job_held(n))])
        print("ok", flush=True)
    except (AppendFailed, StorageFull) as error:
        print(type(error).__name__, flush=True)
"""


def appending(file: Path, calls: str, fault: str) -> list[str]:
    """What became of twenty appends while the system fails one call on the log's WAL."""
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", "/dev/null", "-P", f"{file}-wal"),
            *("-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"),
            *(sys.executable, "-c", APPENDING, str(file), tests),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


@pytest.mark.fault("B3")
@pytest.mark.parametrize("when", [5, 6, 7, 8, 9, 10, 11, 12])
def test_a_full_disk_while_committing_drops_the_draft_and_the_log_lives(
    file: Path, when: int
) -> None:
    said = appending(file, "pwrite64", f"error=ENOSPC:when={when}")
    assert (said.count("StorageFull"), said.count("ok")) == (1, 19)
    with closing(SQLiteLog(file, write=False)) as log:
        assert verify(log).head.commit == 19


@pytest.mark.fault("B5")
@pytest.mark.parametrize(
    ("calls", "fault"),
    [("fsync,fdatasync", "EIO"), ("fsync,fdatasync", "ENOSPC"), ("pwrite64", "EIO")],
)
def test_a_failed_sync_or_write_ends_the_writer(file: Path, calls: str, fault: str) -> None:
    said = appending(file, calls, f"error={fault}:when=3")
    done = said.index("AppendFailed")
    assert said == ["ok"] * done + ["AppendFailed"] * (20 - done)
    with closing(SQLiteLog(file, write=True)) as log:
        assert done <= verify(log).head.commit <= done + 1
        log.append([draft(job_held(99))])


@pytest.mark.fault("B14")
def test_a_file_that_others_lock_is_left_alone_and_the_log_lives(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.store.sqlite.BUSY_TIMEOUT_S", 0.1)
    with (
        closing(pysqlite3.connect(file, isolation_level=None)) as other,
        closing(SQLiteLog(file, write=True)) as log,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogLocked, match="locked"):
            log.append([draft(job_held(1))])
        other.execute("ROLLBACK")
        assert log.append([draft(job_held(2))]).commit == 1


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_300_000, resource.RLIM_INFINITY))
"""
FREED = """
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append([draft(job_held(n))])
print("ok")
"""


@pytest.mark.fault("B4")
def test_a_file_at_its_size_limit_drops_the_draft_and_the_log_lives(file: Path) -> None:
    tests = str(Path(__file__).parents[1])
    fifty = "draft(*[job_held(i) for i in range(50)])"
    program = APPENDING.replace("range(20)", "range(40)").replace("draft(job_held(n))", fifty)
    words = [sys.executable, "-c", LIMITED + program + FREED, str(file), tests]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    said = done.stdout.split()
    held = said.index("StorageFull")
    assert 0 < held < 40
    assert said == ["ok"] * held + ["StorageFull"] * (40 - held) + ["ok"]
    with closing(SQLiteLog(file, write=False)) as log:
        assert verify(log).head.commit == held + 1


def test_a_writer_begins_by_writing_back_what_it_can_only_read(file: Path) -> None:
    with closing(SQLiteLog(file, write=False)) as reader:  # else the last one out would do it
        with closing(SQLiteLog(file, write=True)) as log:
            log.append([draft(job_held(1))])
        assert waiting_frames(reader) > 0
        with closing(SQLiteLog(file, write=True)):
            assert waiting_frames(reader) == 0


def waiting_frames(log: SQLiteLog) -> int:
    """How many frames of the WAL have not been copied into the file."""
    with closing(pysqlite3.connect(log._path, isolation_level=None)) as connection:
        _, frames, done = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    return int(frames - done)


@pytest.mark.parametrize(
    ("query", "parameters"), [(HEADER_BEFORE, (5,)), (PAGE_OF_STREAM, ("job-1", 0, 10))]
)
def test_finding_a_header_is_a_look_into_an_index(
    file: Path, query: str, parameters: tuple[int | str, ...]
) -> None:
    with closing(SQLiteLog(file, write=False)) as log:
        plan = [str(step[3]) for step in log._fetch(f"EXPLAIN QUERY PLAN {query}", parameters)]
        assert any("USING INDEX stored_events_headers (rowid<?)" in step for step in plan)
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan)
