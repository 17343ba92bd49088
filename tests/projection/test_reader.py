"""What another process sees of a projection: answers with the position they are true at."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.projection.reader import Reader, Unavailable
from ledger_projections import jobs
from ledger_projections.jobs.rows import JOBS
from places import Place
from projection.keeping import PROJECTIONS, Told, behind, close, dump, kept, names, wandered

ALL = {p.name: p for p in PROJECTIONS}


def reader_of(place: Place) -> Reader:
    return Reader(ALL, place.data, place.url)


def test_an_answer_tells_its_position_and_how_far_it_lags(place: Place) -> None:
    source = Told(wandered(1, 60))
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    head = source.head().position
    reader = reader_of(place)
    answer = reader.ask("jobs", jobs.show_job, 1)
    assert answer.value is not None
    assert (answer.value[0].job, answer.position, answer.lag) == (1, head, 0)
    late = reader.at_least("jobs", head + 5, 0.05, jobs.list_jobs, user="ann")
    assert (late.position, late.lag) == (head, 5)
    assert reader.query("jobs", "list_jobs") is jobs.list_jobs
    reader.close()
    close(follower)


def test_waiting_ends_when_the_projection_is_there(place: Place) -> None:
    source = Told(wandered(1, 30))
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    reader = reader_of(place)
    wanted = source.head().position + 2
    before = time.monotonic()
    assert reader.wait("jobs", wanted, 0.05) == wanted - 2
    assert 0.05 <= time.monotonic() - before < 2
    source.story.record(source.story.events[0].event)
    other = threading.Timer(0.05, follower.catch_up)
    other.start()
    assert reader.wait("jobs", wanted, 30) == wanted
    other.join()
    reader.close()
    close(follower)


def test_a_reader_writes_nothing(place: Place) -> None:
    follower = kept(jobs.PROJECTION, place, Told(wandered(1, 10)))
    follower.catch_up()
    reader = reader_of(place)
    with pytest.raises(Unavailable, match=r"read-?\s?only"):
        reader.ask("jobs", lambda connection: connection.execute(JOBS.sql.delete()))
    assert follower.verify()
    reader.close()
    close(follower)


def test_what_is_not_there_says_so(place: Place) -> None:
    reader = reader_of(place)
    with pytest.raises(Unavailable, match="jobs"):
        reader.ask("jobs", jobs.show_job, 1)
    with pytest.raises(Unavailable, match="no projection"):
        reader.ask("nonsense", jobs.show_job, 1)
    with pytest.raises(Unavailable, match="no query"):
        reader.query("jobs", "nonsense")
    assert {status.position for status in reader.status()} == {0}
    assert all(status.error for status in reader.status())
    reader.close()


def test_rows_of_another_log_answer_nothing(place: Place) -> None:
    source = Told(wandered(1, 20))
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    reader = Reader({"jobs": jobs.PROJECTION}, place.data, place.url, source.incarnation)
    assert reader.ask("jobs", jobs.show_job, 1).value is not None
    source.name = reader.incarnation = "restored"
    for asked in (
        lambda: reader.ask("jobs", jobs.show_job, 1),
        lambda: reader.wait("jobs", 1, 0.05),
        lambda: reader.dump("jobs"),
    ):
        with pytest.raises(Unavailable, match=r"jobs is still of another log.*`jobledger follow`"):
            asked()
    (told,) = reader.status()
    assert (told.state(0), told.position) == ("unavailable", 0)
    follower.catch_up()
    assert reader.dump("jobs")[1] == dump(follower)
    assert reader.status()[0].state(0) == "up to date"
    reader.close()
    close(follower)


def test_status_tells_of_the_one_that_stopped(place: Place) -> None:
    story = wandered(1, 5)
    story.submit("ann", name="poison")
    position = story.events[-1].position
    projection = names("poison")
    follower = kept(projection, place, Told(story))
    follower.catch_up()
    reader = Reader({"names": projection}, place.data, place.url)
    (status,) = reader.status()
    assert (status.name, status.version, status.stopped_at) == ("names", 1, position)
    assert status.at == max(r.at for r in story.events if r.position <= status.position)
    assert "hard to digest" in status.error
    before = time.monotonic()
    assert reader.wait("names", position + 100, 30) == status.position
    assert time.monotonic() - before < 10, "nobody waits for one that stands still"
    assert reader.dump("names")[1] == dump(follower)
    reader.close()
    close(follower)


def test_a_file_made_again_is_read_again(tmp_path: Path) -> None:
    place, source = Place(tmp_path, None), Told(wandered(1, 20))
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    close(follower)
    reader = reader_of(place)
    assert reader.checkpoint("jobs").position == source.head().position
    for file in (tmp_path / "projections").iterdir():
        file.unlink()
    follower = kept(jobs.PROJECTION, place, source)
    assert reader.checkpoint("jobs").position == 0
    follower.catch_up()
    assert reader.checkpoint("jobs").position == source.head().position
    reader.close()
    close(follower)


def test_pages_of_jobs(place: Place) -> None:
    story = wandered(1, 0)
    first = story.submit("ann", array="0-24", name="a")
    story.submit("bob", count=5, name="b", account="physics")
    story.tick(10)
    story.cancel(first)
    source = Told(story)
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    reader = reader_of(place)

    def ids(**asked: Any) -> list[int]:
        found, cursor = [], ""
        while True:
            rows, more = reader.ask("jobs", jobs.list_jobs, cursor=cursor, limit=7, **asked).value
            found += [row.job for row in rows]
            if more is None:
                return found
            assert len(rows) == 7
            cursor = more

    assert ids() == list(range(30, 0, -1))
    assert ids(ascending=True, user="ann") == list(range(1, 26))
    assert ids(account="physics") == ids(name="b") == [30, 29, 28, 27, 26]
    assert ids(states=["cancelled"]) == [1]
    assert ids(states=["cancelled", "pending"], pool="default", ascending=True)[:3] == [1, 2, 3]
    assert 1 not in ids(since=story.now + 1)
    assert len(ids(since=story.now + 1)) == 29
    assert 1 in ids(since=story.now)
    assert ids(until=story.now - 10_000_000) == []
    assert ids(node="n1") == ids(pool="other") == []
    with pytest.raises(ValueError, match="invalid literal"):
        reader.ask("jobs", jobs.list_jobs, cursor="x")
    assert reader.ask("jobs", jobs.task, first, 24).value == 25
    assert reader.ask("jobs", jobs.task, first, 25).value is None
    assert reader.ask("jobs", jobs.show_job, 99).value is None
    if not place.url:
        table = JOBS.sql.name
        query = f"SELECT job FROM {table} WHERE \"user\" = 'ann'"  # noqa: S608
        query += " ORDER BY job DESC LIMIT 7"
        plan = behind(place, jobs.PROJECTION, f"EXPLAIN QUERY PLAN {query}")
        assert f"USING COVERING INDEX {table}_user_job" in str(plan)
    reader.close()
    close(follower)
