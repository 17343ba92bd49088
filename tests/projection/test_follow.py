"""The process that keeps projections: killed, cut off, told to go."""

import signal
import time
from pathlib import Path

import psycopg
import pytest

from ledger.follow import rebuild, verify
from ledger.projection.reader import Reader, Unavailable
from ledger.store.log import Log
from ledger.testing.stories import Story
from ledger_projections import jobs
from ledger_projections.jobs.rows import JOBS
from places import Place
from projection.followed import PATIENCE_S, check, following, until
from projection.keeping import PROJECTIONS, behind, folder, wandered


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
        table = JOBS.sql.name
        behind(place, jobs.PROJECTION, f"UPDATE projections.{table} SET name = 'x' WHERE job = 1")  # noqa: S608
        wrong = verify("jobs", data, place.url)
        assert (wrong.folded, wrong.live == before.live) == (before.folded, False)
        with pytest.raises(Unavailable):
            rebuild("nonsense", data, place.url)
    reader.close()
