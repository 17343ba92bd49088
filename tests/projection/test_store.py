"""Rows and checkpoint change together, or neither: whatever fails, and whoever else writes."""

from pathlib import Path

import msgspec
import psycopg
import pysqlite3  # type: ignore[import-untyped]
import pytest
from structlog.testing import capture_logs

from ledger.events import Envelope, JobEnded, JobHeld, JobsSubmitted, Recorded
from ledger.projection import Projection, Table
from ledger.projection.checkpoint import Checkpoint
from ledger.projection.database import file_of
from ledger.projection.source import Batch, batch
from ledger.projection.store import Overtaken, Store
from ledger.testing.stories import Story
from places import Place
from projection.keeping import NameRow, Told, behind, close, dump, kept, names

CHECKPOINT_FAILS = (
    "CREATE TRIGGER no_checkpoint BEFORE UPDATE ON checkpoints WHEN NEW.position > OLD.position "
    "BEGIN SELECT RAISE(ABORT, 'not now'); END"
)
ROWS_FAIL = (
    "CREATE TRIGGER no_rows BEFORE INSERT ON names_v1_names "
    "BEGIN SELECT RAISE(ABORT, 'not now'); END"
)
REFUSE = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE integrity_constraint_violation USING MESSAGE = 'not now'; END $$; "
)
PG_CHECKPOINT_FAILS = (
    f"{REFUSE} CREATE TRIGGER no_checkpoint BEFORE UPDATE ON projections.checkpoints "
    "FOR EACH ROW WHEN (NEW.position > OLD.position) EXECUTE FUNCTION refuse()"
)
PG_ROWS_FAIL = (
    f"{REFUSE} CREATE TRIGGER no_rows BEFORE INSERT ON projections.names_v1_names "
    "FOR EACH ROW EXECUTE FUNCTION refuse()"
)
ROWS = 'SELECT count(*) FROM projections."names_v1_names"'
POSITION = "SELECT position FROM projections.checkpoints WHERE projection = 'names_v1'"


def some_jobs(jobs: int) -> Story:
    story = Story()
    story.node("n1")
    for number in range(jobs):
        story.submit("ann", name=f"job-{number}")
    return story


def while_pending() -> Projection:
    """A row for each job, as long as it has not ended."""

    def keys(r: Recorded) -> list[tuple[int]]:
        e = r.event
        if isinstance(e, JobsSubmitted):
            return [(e.first_job + i,) for i in range(e.count)]
        return [(e.job,)] if isinstance(e, JobEnded) else []

    def evolve(key: tuple[int], row: NameRow | None, r: Recorded) -> NameRow | None:
        return NameRow(key[0], "") if isinstance(r.event, JobsSubmitted) else None

    events = (JobsSubmitted, JobEnded)
    table = Table("pending", NameRow, key=1, events=events, keys=keys, evolve=evolve)
    return Projection("pending", version=1, tables=(table,))


def test_no_rows_without_their_checkpoint(place: Place) -> None:
    """The checkpoint can't be written: the rows of its transaction are not there."""
    projection = names()
    follower = kept(projection, place, Told(some_jobs(3)))
    behind(place, projection, PG_CHECKPOINT_FAILS if place.url else CHECKPOINT_FAILS)
    assert not follower.step()
    assert behind(place, projection, ROWS) == [(0,)]
    assert behind(place, projection, POSITION) == [(0,)]
    assert "not now" in follower.checkpoint.error
    close(follower)


def test_no_checkpoint_without_its_rows(place: Place) -> None:
    """The rows can't be written: the checkpoint stays where it was."""
    projection = names()
    follower = kept(projection, place, Told(some_jobs(3)))
    behind(place, projection, PG_ROWS_FAIL if place.url else ROWS_FAIL)
    follower.catch_up()
    assert behind(place, projection, ROWS) == [(0,)]
    first = next(r for r in follower._source.read() if r.stream == "job-1")
    assert behind(place, projection, POSITION)[0][0] < first.position
    assert follower.checkpoint.stopped_at == first.position
    close(follower)


def test_a_row_that_an_event_takes_away_is_gone(place: Place) -> None:
    """Whether it is remembered from a former batch, loaded again, or came in the same one."""
    projection = while_pending()
    story = some_jobs(2)
    source = Told(story)
    follower = kept(projection, place, source)
    follower.catch_up()
    story.cancel(1)
    follower.catch_up()
    assert behind(place, projection, "SELECT job FROM projections.pending_v1_pending") == [(2,)]
    close(follower)
    follower = kept(projection, place, source)
    story.cancel(2)
    story.cancel(story.submit("ann"))
    follower.catch_up()
    assert behind(place, projection, "SELECT job FROM projections.pending_v1_pending") == []
    assert follower.verify()
    close(follower)


def test_a_writer_that_was_overtaken_notices(place: Place) -> None:
    projection, source = names(), Told(some_jobs(3))
    one, other = kept(projection, place, source), kept(projection, place, source)
    one.catch_up()
    with pytest.raises(Overtaken):
        other._store.write(Checkpoint(shape=projection.shape), one.checkpoint, ())
    other.catch_up()
    assert other.checkpoint == one.checkpoint
    source.story.submit("bob")
    other.catch_up()
    one.catch_up()
    assert one.verify()
    close(one, other)


def test_rebuilt_by_another_process_under_way(place: Place) -> None:
    projection, source = names(), Told(some_jobs(3))
    one, other = kept(projection, place, source), kept(projection, place, source)
    one.catch_up()
    other.catch_up()
    other.rebuild()
    source.story.submit("bob")
    one.catch_up()
    assert one.checkpoint.position == source.head().position
    assert one.verify()
    close(one, other)


class WiderRow(msgspec.Struct, frozen=True):
    job: int
    name: str
    length: int


@pytest.mark.parametrize("columns", [None, 2])
def test_other_fields_under_the_same_version_are_made_again(
    columns: int | None, place: Place
) -> None:
    source = Told(some_jobs(3))
    follower = kept(names(), place, source)
    follower.catch_up()
    close(follower)
    narrow = names()

    def widened(key: tuple[int], row: WiderRow | None, r: Recorded) -> WiderRow | None:
        assert isinstance(r.event, JobsSubmitted)
        return WiderRow(key[0], r.event.specs[0].name, 5)

    table = Table(
        "names",
        WiderRow,
        key=1,
        events=narrow.tables[0].events,
        keys=narrow.tables[0].keys,
        evolve=widened,
        columns=columns,
    )
    follower = kept(Projection("names", version=1, tables=(table,)), place, source)
    assert follower.checkpoint.position == 0
    follower.catch_up()
    assert follower.verify()
    assert dump(follower).count(b",5]") == 3
    close(follower)


def test_two_versions_side_by_side(place: Place) -> None:
    source = Told(some_jobs(3))
    old, new = kept(names(), place, source), kept(names(version=2), place, source)
    old.catch_up()
    assert new.checkpoint.position == 0
    new.catch_up()
    assert dump(new) == dump(old)
    close(old, new)


@pytest.mark.fault("J4")
def test_a_file_that_is_no_database_is_made_again(tmp_path: Path) -> None:
    projection = names()
    file = file_of(tmp_path, projection)
    file.parent.mkdir()
    file.write_bytes(b"this is not a database, whatever its name may say" * 100)
    follower = kept(projection, Place(tmp_path, None), Told(some_jobs(2)))
    follower.catch_up()
    assert follower.verify()
    close(follower)


@pytest.mark.fault("J4")
@pytest.mark.parametrize("when", ["idle", "news", "after it was looked for"])
def test_a_file_deleted_under_the_one_that_keeps_it_is_made_again(
    when: str, tmp_path: Path
) -> None:
    """Also while nothing happens: nothing is written to a file that nobody finds."""
    projection, place, source = names(), Place(tmp_path, None), Told(some_jobs(3))
    follower = kept(projection, place, source)
    follower.catch_up()
    wanted = dump(follower)

    def lost(after: int) -> Batch | None:
        for file in file_of(tmp_path, projection).parent.iterdir():
            file.unlink()
        return batch(source, after)

    news = when != "idle"
    if news:
        source.story.submit("bob")
    with capture_logs() as said:
        if when == "after it was looked for":
            follower.step(lost)
        else:
            lost(0)
        follower.catch_up()
    assert [one["event"] for one in said] == ["the file is gone: projection is made again"]
    found = behind(place, projection, ROWS.replace("projections.", ""))
    assert found == [(4 if news else 3,)]
    assert follower.checkpoint.position == source.head().position
    assert follower.verify()
    assert news or dump(follower) == wanted
    close(follower)


def test_a_table_that_was_dropped_is_made_again(place: Place) -> None:
    """Who keeps it begins anew after the database's error, as `follow` does."""
    projection, source = names(), Told(some_jobs(3))
    follower = kept(projection, place, source)
    follower.catch_up()
    behind(place, projection, "DROP TABLE projections.names_v1_names")
    source.story.submit("bob")
    with pytest.raises((pysqlite3.Error, psycopg.Error)):
        follower.catch_up()
    close(follower)
    follower = kept(projection, place, source)
    follower.catch_up()
    assert follower.checkpoint.position == source.head().position
    assert follower.verify()
    assert behind(place, projection, ROWS) == [(4,)]
    close(follower)


class TextRow(msgspec.Struct, frozen=True):
    key: str
    part: int
    yes: bool
    maybe: int | None
    words: tuple[str, ...]


@pytest.mark.parametrize("columns", [None, 2, 4])
def test_every_kind_of_field_comes_back_as_it_was_in_the_order_of_bytes(
    columns: int | None, place: Place
) -> None:
    keys = ["", "B", "a", "é", "\U0001f600", "\ue000", "a b", "Z\t", "ß"]

    def evolve(key: tuple[str, int], row: TextRow | None, r: object) -> TextRow:
        return TextRow(*key, len(key[0]) > 1, None if key[1] else 2**63 - 1, (key[0], "x"))

    table = Table(
        "texts",
        TextRow,
        key=2,
        events=[JobHeld],
        keys=lambda r: [(key, part) for key in keys for part in (1, 0)],
        evolve=evolve,
        columns=columns,
    )
    projection = Projection("texts", version=1, tables=(table,))
    story = Story()
    story.record(JobHeld(job=1, user="ann", account="", pool="", kind="user"), by=Envelope().by)
    follower = kept(projection, place, Told(story))
    follower.catch_up()
    assert follower.verify()
    with follower._store._engine.begin() as connection:
        query = table.select().order_by(table.c.key, table.c.part)
        rows = table.rows(connection, query)
    assert [row.key for row in rows] == [key for key in sorted(keys) for _ in range(2)]
    assert rows == [evolve((row.key, row.part), None, None) for row in rows]
    loaded = Store(projection, place.data, place.url)
    assert loaded.load(table, [("é", 0), ("nowhere", 1)]) == {
        ("é", 0): evolve(("é", 0), None, None)
    }
    loaded.close()
    close(follower)
