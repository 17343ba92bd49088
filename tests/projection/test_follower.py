"""A projection and its log: what it can't digest, what it is to skip, and logs that are another."""

from collections.abc import Iterator
from random import Random

import pytest

from ledger.codec import UnknownEvent
from ledger.events import JobHeld, ProjectionSkipped, Recorded
from ledger.projection.fold import dump as canonical
from ledger.projection.fold import fold, in_order
from ledger.projection.source import Batch, Batches, batch
from ledger.testing.stories import Story, Wanderer
from ledger_projections import jobs
from ledger_projections.jobs.rows import JOBS
from places import Place
from projection.keeping import Told, behind, close, dump, in_batches, kept, names, wandered


def poisoned() -> tuple[Story, int]:
    """Jobs, one of which is hard to digest, and its event's position."""
    story = Story()
    story.node("n1")
    for name in ("one", "two", "poison", "three"):
        story.submit("ann", name=name)
    event = next(r for r in story.events if getattr(r.event, "first_job", 0) == 3)
    return story, event.position


def skip(story: Story, position: int) -> None:
    story.record(
        ProjectionSkipped(projection="names", position=position, reason="known"), by="root"
    )


@pytest.mark.fault("H1")
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_poison_stops_one_projection_at_its_place(size: int, place: Place) -> None:
    story, position = poisoned()
    source = Told(story)
    sick, well = kept(names("poison"), place, source), kept(jobs.PROJECTION, place, source)
    in_batches(sick, source, size)
    in_batches(well, source, size)
    assert well.checkpoint.position == source.head().position
    assert sick.stopped
    assert sick.checkpoint.stopped_at == position
    assert "poison is hard to digest" in sick.checkpoint.error
    assert sick.checkpoint.position == position - 2
    assert dump(sick).count(b'"one"') + dump(sick).count(b'"two"') == 2
    assert sick.verify()
    close(sick)
    sick = kept(names("poison"), place, source)
    sick.catch_up()
    assert sick.checkpoint.stopped_at == position
    close(sick, well)


@pytest.mark.fault("H1")
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_recorded_skip_is_obeyed_live_and_in_rebuilds(size: int, place: Place) -> None:
    story, position = poisoned()
    source = Told(story)
    follower = kept(names("poison"), place, source)
    in_batches(follower, source, size)
    skip(story, position + 1)
    in_batches(follower, source, size)
    assert follower.stopped, "another event is to be skipped, not this one"
    skip(story, position)
    in_batches(follower, source, size)
    assert not follower.stopped
    assert follower.checkpoint.position == source.head().position
    assert follower.checkpoint.error == ""
    live = dump(follower)
    assert b"poison" not in live
    assert b"three" in live
    follower.rebuild()
    in_batches(follower, source, size)
    assert dump(follower) == live
    assert follower.verify()
    close(follower)


def test_a_skip_of_what_was_taken_in_rebuilds(place: Place) -> None:
    story, position = poisoned()
    source = Told(story)
    follower = kept(names(), place, source)
    follower.catch_up()
    assert b"poison" in dump(follower)
    skip(story, position)
    close(follower)
    follower = kept(names(), place, source)
    follower.catch_up()
    assert b"poison" not in dump(follower)
    assert follower.checkpoint.position == source.head().position
    projection = names()
    anew = fold(projection, source.read(), frozenset({position}))
    assert dump(follower) == canonical(projection, in_order(anew))
    assert not follower.step()
    close(follower)


def test_a_skip_that_names_no_event_changes_nothing(place: Place) -> None:
    story, position = poisoned()
    source = Told(story)
    follower = kept(names(), place, source)
    follower.catch_up()
    skip(story, position - 1)
    for _ in range(10):
        if not follower.step():
            break
    assert follower.checkpoint.position == source.head().position
    assert b"poison" in dump(follower)
    close(follower)


@pytest.mark.fault("H3")
def test_what_a_database_can_not_hold_is_named(place: Place) -> None:
    """SQLite takes a text with a NUL, PostgreSQL does not: it stops at exactly that event."""
    story = Story()
    story.node("n1")
    for name in ("one", "t\0wo", "three"):
        story.submit("ann", name=name)
    position = next(r.position for r in story.events if r.stream == "job-2")
    source = Told(story)
    follower = kept(names(), place, source)
    follower.catch_up()
    if place.url:
        assert follower.checkpoint.stopped_at == position
        assert dump(follower).count(b'"one"') == 1
        skip(story, position)
        follower.catch_up()
    assert follower.checkpoint.position == source.head().position
    assert follower.verify()
    close(follower)


class Newer(Told):
    """A log that holds an event of a newer release."""

    def __init__(self, story: Story, at: int) -> None:
        super().__init__(story)
        self.at = at

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        for r in super().read(after, upto):
            if r.position == self.at:
                raise UnknownEvent("job.teleported.v1")
            yield r


@pytest.mark.fault("H6")
@pytest.mark.parametrize("size", [1, 1000])
def test_an_event_of_a_newer_release_stops_it_after_the_last_whole_commit(
    size: int, place: Place
) -> None:
    story, _ = poisoned()
    two = [JobHeld(job=n, user="ann", account="", pool="", kind="user") for n in (1, 2)]
    second = story.record(*two)[1].position
    story.submit("ann", name="later")
    source = Newer(story, second)
    follower = kept(names(), place, source)
    in_batches(follower, source, size)
    assert follower.checkpoint.stopped_at == second
    assert follower.checkpoint.position == second - 3
    assert "job.teleported.v1" in follower.checkpoint.error
    close(follower)
    source.at = 0
    follower = kept(names(), place, source)
    follower.catch_up()
    assert b"later" in dump(follower)
    close(follower)


@pytest.mark.fault("H5")
@pytest.mark.parametrize("what", ["incarnation", "hash", "shorter"])
def test_a_log_that_does_not_confirm_the_checkpoint_means_rebuild(what: str, place: Place) -> None:
    follower = kept(jobs.PROJECTION, place, Told(wandered(1, 80)))
    follower.catch_up()
    before = follower.checkpoint
    close(follower)
    other = Told(wandered(2 if what == "hash" else 1, 80 if what != "shorter" else 40))
    if what == "incarnation":
        other.name = "restored"
    if what == "hash":
        other.prefix = "other"
    follower = kept(jobs.PROJECTION, place, other)
    assert follower.checkpoint == before
    follower.catch_up()
    head = other.head()
    assert follower.checkpoint.position == head.position
    assert follower.checkpoint.hash == head.hash
    assert follower.checkpoint.incarnation == other.name
    assert dump(follower) == canonical(
        jobs.PROJECTION, in_order(fold(jobs.PROJECTION, other.read()))
    )
    close(follower)


def test_another_commit_at_the_same_place_means_rebuild(place: Place) -> None:
    """As after a failover that lost the log's end: the position is there, what it holds is not."""
    source = Told(wandered(1, 80))
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    behind(place, jobs.PROJECTION, f"DELETE FROM projections.{JOBS.sql.name}")  # noqa: S608
    source.prefix = "other"
    follower.catch_up()
    assert follower.checkpoint.hash == source.head().hash
    assert follower.verify()
    close(follower)


def test_a_skip_for_one_projection_is_none_for_another(place: Place) -> None:
    story, position = poisoned()
    event = ProjectionSkipped(projection="others", position=position, reason="known")
    story.record(event, by="root")
    source = Told(story)
    follower = kept(names(), place, source)
    follower.catch_up()
    assert b"poison" in dump(follower)
    story.record(event, by="root")
    follower.catch_up()
    assert b"poison" in dump(follower)
    assert follower.checkpoint.skipped == ()
    close(follower)


def test_rows_that_could_not_be_written_are_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try begins from the rows that are there, not from those that should have been."""
    story = wandered(1, 60)
    source = Told(story)
    follower = kept(jobs.PROJECTION, place, source)
    in_batches(follower, source, 20)
    Wanderer(story, Random(2), nodes=0).walk(40)  # noqa: S311

    def fails(*_: object) -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(follower._store, "write", fails)
    with pytest.raises(OSError, match="away"):
        follower.step()
    monkeypatch.undo()
    follower.catch_up()
    assert follower.checkpoint.position == source.head().position
    assert follower.verify()
    close(follower)


def test_rows_that_are_remembered_no_more_are_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.projection.fold.KEPT_ROWS", 3)
    source = Told(wandered(1, 80))
    follower = kept(jobs.PROJECTION, place, source)
    in_batches(follower, source, 10)
    assert follower.verify()
    close(follower)


def test_batches_end_with_commits() -> None:
    source = Told(wandered(4, 60))
    for size in (1, 5, 50):
        position, seen = 0, []
        while found := batch(source, position, size):
            assert source.commit_at(found.end.position)
            assert found.end.position > position
            position = found.end.position
            seen += found.events
        assert seen == source.story.events
    assert batch(source, source.head().position) is None


def in_one_read(batches: Batches, position: int) -> tuple[list[Recorded], Batch | None]:
    """All events that the batches hold, and the batch that tells what can't be read."""
    seen: list[Recorded] = []
    while (found := batches.next(position)) is not None:
        assert found.end.position > position or found.unreadable
        seen, position = seen + found.events, found.end.position
        if found.unreadable:
            return seen, found
    return seen, None


def test_batches_of_one_read_are_whole_commits_and_all_events() -> None:
    story = wandered(4, 60)
    source = Told(story)
    for size in (1, 5, 50, 10_000):
        assert in_one_read(Batches(source, size), 0) == (story.events, None)
    batches = Batches(source, 5)
    first = batches.next(0)
    assert first is not None
    assert len(first.events) >= 5
    assert source.commit_at(first.end.position) == first.end
    assert batches.next(0) == first  # as after a rebuild that was begun anew
    Wanderer(story, Random(2), nodes=0).walk(40)  # noqa: S311
    rest, _ = in_one_read(batches, first.end.position)
    assert first.events + rest == story.events


@pytest.mark.parametrize("size", [1, 20, 1000])
def test_one_read_says_what_can_t_be_read(size: int) -> None:
    story = wandered(4, 60)
    source = Newer(story, story.events[40].position)
    seen, last = in_one_read(Batches(source, size), 0)
    position = last.end.position if last is not None else 0
    assert last is not None
    assert last.unreadable == (story.events[40].position, str(UnknownEvent("job.teleported.v1")))
    assert source.commit_at(position) == last.end
    assert seen == [r for r in story.events[:40] if r.position <= position]
    again = batch(source, position, size)
    assert again is not None
    assert again.unreadable == last.unreadable


def test_a_batch_has_room_for_so_many_jobs() -> None:
    story = Story()
    story.node("n1")
    for _ in range(4):
        story.submit("ann", array="0-999")
    found = batch(Told(story), 0, 1500)
    assert found is not None
    assert sum(getattr(r.event, "count", 0) for r in found.events) == 2000
