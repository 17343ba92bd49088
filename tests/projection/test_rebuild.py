"""A rebuild fills tables beside the old ones, which answer until one transaction switches."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from ledger.projection.checkpoint import Checkpoint
from ledger.projection.reader import Reader
from ledger.projection.rebuild import rebuild
from ledger.projection.store import Store
from ledger.testing.stories import Story
from ledger_projections import jobs
from ledger_projections.jobs.rows import JOBS
from places import Place
from projection.keeping import Told, behind, close, dump, kept, names, wandered

PROJECTION = jobs.PROJECTION


class Killed(Exception):
    """Stands for SIGKILL: nothing of the rebuild's own runs after it but what lets go."""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.projection.rebuild.AT_ONCE", 20)


@pytest.fixture
def reader(place: Place) -> Iterator[Reader]:
    with closing(Reader({"jobs": PROJECTION}, place.data, place.url)) as made:
        yield made


def count(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(JOBS.sql)).scalar())  # type: ignore[arg-type]


def tables(place: Place) -> set[str]:
    """All tables and indexes of projections that lie there, but those of their keys."""
    query = "SELECT name FROM sqlite_schema WHERE sql IS NOT NULL"
    if place.url:
        query = (
            "SELECT relname FROM pg_class WHERE relnamespace = 'projections'::regnamespace "
            "AND relkind IN ('r', 'i') AND relname NOT LIKE '%_pkey%'"
        )
    return {name for (name,) in behind(place, PROJECTION, query)}


@pytest.mark.fault("H9")
def test_the_old_rows_answer_and_follow_until_the_new_ones_are_whole(
    place: Place, reader: Reader
) -> None:
    story = wandered(1, 200)
    source = Told(story)
    follower = kept(PROJECTION, place, source)
    follower.catch_up()
    before, seen = tables(place), []

    def meanwhile(position: int, head: int) -> None:
        if position < head:
            story.submit("ann")
        follower.catch_up()
        answer = reader.ask("jobs", count)
        assert answer.position == source.head().position, "the old ones follow"
        seen.append((position, answer.value))

    done = rebuild(PROJECTION, place.data, place.url, source, meanwhile)
    assert len(seen) > 5
    assert [rows for _, rows in seen] == sorted(rows for _, rows in seen), "none was ever gone"
    assert seen[0][1] > 0
    assert done.position == follower.checkpoint.position == source.head().position
    assert follower.verify()
    story.submit("bob")
    follower.catch_up()
    assert follower.checkpoint.position == source.head().position
    assert follower.verify()
    assert reader.ask("jobs", count).position == source.head().position
    assert len(tables(place)) == len(before)
    for _ in range(2):
        rebuild(PROJECTION, place.data, place.url, source)
        assert len(tables(place)) == len(before), "every index is there again"
    close(follower)


@pytest.mark.fault("H9")
@pytest.mark.parametrize("after", [1, 4])
def test_killed_halfway_the_old_ones_serve_and_the_next_clears_up(
    after: int, place: Place, reader: Reader
) -> None:
    source = Told(wandered(2, 200))
    follower = kept(PROJECTION, place, source)
    follower.catch_up()
    whole, before, portions = dump(follower), tables(place), iter(range(1, 1000))

    def killed(position: int, head: int) -> None:
        if next(portions) == after:
            raise Killed

    with pytest.raises(Killed):
        rebuild(PROJECTION, place.data, place.url, source, killed)
    assert tables(place) > before, "it was under way"
    assert reader.ask("jobs", count).position == source.head().position
    assert dump(follower) == whole
    source.story.submit("ann")
    follower.catch_up()
    assert follower.verify()
    rebuild(PROJECTION, place.data, place.url, source)
    assert len(tables(place)) == len(before)
    follower.catch_up()
    assert follower.verify()
    close(follower)


def test_killed_before_the_switch_nothing_has_changed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Told(wandered(2, 120))
    follower = kept(PROJECTION, place, source)
    follower.catch_up()
    behind(place, PROJECTION, f"DELETE FROM projections.{JOBS.sql.name}")  # noqa: S608
    whole = dump(follower)

    def fails(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("ledger.projection.checkpoint.forget", fails)
    monkeypatch.setattr(Store, "discard", lambda self: None)
    with pytest.raises(Killed):
        rebuild(PROJECTION, place.data, place.url, source)
    assert dump(follower) == whole
    monkeypatch.undo()
    rebuild(PROJECTION, place.data, place.url, source)
    follower.catch_up()
    assert follower.verify()
    close(follower)


def test_no_reader_ever_finds_less(place: Place, reader: Reader) -> None:
    """Read without a pause while it is switched: the whole old rows, then the whole new ones."""
    source = Told(wandered(3, 200))
    follower = kept(PROJECTION, place, source)
    follower.catch_up()
    wanted = (reader.ask("jobs", count).value, source.head().position)
    found: set[tuple[int, int]] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            answer = reader.ask("jobs", count)
            found.add((answer.value, answer.position))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for _ in range(5):
        rebuild(PROJECTION, place.data, place.url, source)
    over.set()
    for thread in readers:
        thread.join()
    assert found == {wanted}
    close(follower)


def test_what_it_can_not_digest_leaves_the_old_ones(place: Place) -> None:
    """Code was changed under the same version: what it makes is not switched to."""
    story = Story()
    story.node("n1")
    for name in ("one", "poison", "three"):
        story.submit("ann", name=name)
    source = Told(story)
    follower = kept(names(), place, source)
    follower.catch_up()
    whole = dump(follower)
    done = rebuild(names("poison"), place.data, place.url, source)
    assert done.stopped_at == next(r.position for r in story.events if r.stream == "job-2")
    assert "hard to digest" in done.error
    assert dump(follower) == whole
    follower.catch_up()
    assert follower.checkpoint == Store(names(), place.data, place.url).open()
    close(follower)


def test_what_was_changed_behind_its_back_comes_right(place: Place) -> None:
    source = Told(wandered(4, 150))
    follower = kept(PROJECTION, place, source)
    follower.catch_up()
    whole = dump(follower)
    behind(place, PROJECTION, f"DELETE FROM projections.{JOBS.sql.name} WHERE job > 3")  # noqa: S608
    assert not follower.verify()
    rebuild(PROJECTION, place.data, place.url, source)
    assert follower.verify()
    assert dump(follower) == whole
    close(follower)


def test_two_rebuilds_at_once_come_to_one_whole_table(place: Place) -> None:
    source = Told(wandered(5, 150))
    kept_ = kept(PROJECTION, place, source)
    kept_.catch_up()
    inner: list[Checkpoint] = []

    def another(position: int, head: int) -> None:
        if not inner:
            inner.append(Checkpoint())
            inner[0] = rebuild(PROJECTION, place.data, place.url, source)

    done = rebuild(PROJECTION, place.data, place.url, source, another)
    assert done.position == inner[0].position == source.head().position
    kept_.catch_up()
    assert kept_.verify()
    assert not TABLES & tables(place)
    close(kept_)


TABLES = {f"{PROJECTION.twin().id}_{table.name}" for table in PROJECTION.tables}
