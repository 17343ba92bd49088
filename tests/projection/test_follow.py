"""The process that keeps projections: killed, cut off, told to go."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import live
from ledger.follow import rebuild, verify
from ledger.projection.reader import Reader, Unavailable
from ledger.store.log import Log
from ledger.testing.stories import Story
from ledger_projections import jobs
from places import Place
from projection.keeping import PROJECTIONS, behind, close, folder, kept, wandered

PATIENCE_S = 60.0
FOLLOW = """
import sys
from pathlib import Path
from ledger.follow import Stop, follow, run_follow
from ledger.projection.discover import discover
data, url, size = Path(sys.argv[1]), sys.argv[2] or None, int(sys.argv[3])
if size:
    follow(list(discover().projections.values()), data, url, Stop(), size)
else:
    run_follow(data, url)
"""


@contextmanager
def following(place: Place, data: Path, size: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """The real process; with a `size`, taking in so many events at a time."""
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, data, place.url or "", str(size)],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def positions(reader: Reader) -> list[int]:
    """How far each projection has come; 0 where it can't be asked."""
    found = []
    for projection in PROJECTIONS:
        try:
            found.append(reader.checkpoint(projection.name).position)
        except Unavailable:
            found.append(0)
    return found


def until(reader: Reader, process: subprocess.Popen[bytes], position: int) -> None:
    """Wait until every projection has come so far; the process must live."""

    def reached() -> bool:
        assert process.poll() is None, "the process has ended"
        return min(positions(reader)) >= position

    live.until(reached, f"all have come to {position}", PATIENCE_S)


def check(place: Place, log: Log) -> None:
    """Every projection is what the log says."""
    for projection in PROJECTIONS:
        follower = kept(projection, place, log)
        assert follower.checkpoint.position == log.head().position
        assert follower.verify()
        close(follower)


@pytest.mark.fault("H4")
def test_killed_between_batches_and_resumed(place: Place, log: Log, tmp_path: Path) -> None:
    story = wandered(7, 700)
    story.append_to(log)
    head, seen = log.head().position, 0
    reader = Reader({p.name: p for p in PROJECTIONS}, place.data, place.url)
    for _ in range(3):
        with following(place, folder(place, tmp_path), size=3) as process:
            until(reader, process, min(seen + 20, head))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        now = min(positions(reader))
        assert seen < now < head, "killed on the way"
        seen = now
        for projection in PROJECTIONS:
            follower = kept(projection, place, log)
            assert follower.verify(), "what a kill leaves is the fold up to its checkpoint"
            close(follower)
    with following(place, folder(place, tmp_path)) as process:
        until(reader, process, head)
    check(place, log)
    reader.close()


def test_follows_what_is_appended_and_goes_in_order(place: Place, log: Log, tmp_path: Path) -> None:
    story = Story()
    story.node("n1")
    story.append_to(log)
    reader = Reader({p.name: p for p in PROJECTIONS}, place.data, place.url)
    with following(place, folder(place, tmp_path)) as process:
        until(reader, process, log.head().position)
        lags = []
        for _ in range(20):
            story.submit("ann")
            story.append_to(log)
            before = time.monotonic()
            until(reader, process, log.head().position)
            lags.append(time.monotonic() - before)
        assert sorted(lags)[10] < 1.0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
    check(place, log)
    reader.close()


@pytest.mark.fault("C2")
@pytest.mark.parametrize("database", ["postgres"])
def test_outlives_lost_connections(place: Place, tmp_path: Path) -> None:
    """Every connection is cut; the same process goes on by itself."""
    assert place.url is not None
    story = wandered(3, 20)
    log = place.open()
    story.append_to(log)
    head = log.head().position
    log.close()
    reader = Reader({p.name: p for p in PROJECTIONS}, None, place.url)
    with following(place, tmp_path) as process:
        until(reader, process, head)
        for _ in range(3):
            with psycopg.connect(place.url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            story.submit("ann")
            log = place.open()
            story.append_to(log)
            until(reader, process, log.head().position)
            log.close()
    log = place.open()
    check(place, log)
    log.close()
    reader.close()


def test_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    place = Place(tmp_path, None)
    reader = Reader({p.name: p for p in PROJECTIONS}, place.data, None)
    with following(place, tmp_path) as process:
        story = wandered(3, 20)
        log = place.open(create=True)
        story.append_to(log)
        until(reader, process, log.head().position)
        log.close()
    reader.close()


def test_verified_and_rebuilt_beside_the_one_that_follows(
    place: Place, log: Log, tmp_path: Path
) -> None:
    wandered(3, 200).append_to(log)
    data, head = folder(place, tmp_path), log.head().position
    reader = Reader({p.name: p for p in PROJECTIONS}, place.data, place.url)
    with following(place, data) as process:
        until(reader, process, head)
        before = verify("jobs", data, place.url)
        assert before.live == before.folded
        assert before.position == head
        assert rebuild("jobs", data, place.url).position == head
        assert verify("jobs", data, place.url) == before
        table = jobs.JOBS.sql.name
        behind(place, jobs.PROJECTION, f"UPDATE projections.{table} SET name = 'x' WHERE job = 1")  # noqa: S608
        wrong = verify("jobs", data, place.url)
        assert (wrong.folded, wrong.live == before.live) == (before.folded, False)
        with pytest.raises(Unavailable):
            rebuild("nonsense", data, place.url)
    reader.close()
