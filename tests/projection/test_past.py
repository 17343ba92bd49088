"""Looking back: where a time is in a log, what is left out, what is kept, how much is too much.

That every answer is the one that was given then, `test_every_projection.py` shows.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.events import ProjectionSkipped, Recorded
from ledger.projection import Projection
from ledger.projection.past import Pasts, TooFar, events_of
from ledger.projection.reader import Unavailable
from ledger.projection.source import Source, last_until
from ledger.store.log import Log
from ledger.testing.projections import log_of
from ledger.testing.stories import Story
from ledger_projections import jobs, usage
from ledger_projections.jobs.rows import JOBS
from projection.keeping import NameRow, Told, names, wandered

ALL = {p.name: p for p in (jobs.PROJECTION, usage.PROJECTION)}
LONG_S = 60.0


class Watched(Told):
    """A story as a log that notes what is read of it."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.reads: list[tuple[int, int | None]] = []
        self.streams: list[str] = []

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        self.reads.append((after, upto))
        return super().read(after, upto)

    def read_stream(self, stream: str, after: int = 0) -> Iterator[Recorded]:
        self.streams.append(stream)
        return super().read_stream(stream, after)


def pasts_of(
    source: Source, projections: dict[str, Projection] | None = None, **more: int
) -> Pasts:
    @contextmanager
    def opened() -> Iterator[Source]:
        yield source

    return Pasts(projections or ALL, opened, **more)


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(-2, 80))
def test_a_time_means_the_last_commit_until_then(pauses: list[int], back: int) -> None:
    story = wandered(1, 0)
    for pause in pauses:
        story.tick(pause / 1e6)
        story.submit("ann", count=1 + pause % 3)
    log = log_of(story)
    asked = story.now - back
    before = [head for head in log.disk.heads if head.at <= asked]
    assert last_until(log, asked).position == before[-1].position


def test_a_time_in_a_real_log(log: Log) -> None:
    story = wandered(1, 150)
    story.append_to(log)
    ends = {end.position: end.at for end in Told(story).ends()}
    for asked in {at + off for at in ends.values() for off in (-1, 0, 1)}:
        before = [position for position, at in ends.items() if at <= asked]
        found = last_until(log, asked)
        assert found.position == max(before, default=0)
        assert found.at == ends.get(found.position, 0)


def poisoned(skipped: bool) -> tuple[Story, int]:
    """Jobs' names, one of which can't be digested; its position."""
    story = Story()
    story.node("n1")
    for name in ("one", "poison", "three"):
        story.submit("ann", name=name)
    position = next(r.position for r in story.events if r.stream == "job-2")
    if skipped:
        event = ProjectionSkipped(projection="names", position=position, reason="known")
        story.record(event, by="root")
    return story, position


def named(projection: Projection) -> Projection:
    """The projection of names, with a question."""
    (table,) = projection.tables

    def all_names(connection: object) -> list[NameRow]:
        """Every row."""
        return table.rows(connection, table.select().order_by(table.c.job))  # type: ignore[arg-type]

    return Projection("names", version=1, tables=projection.tables, queries=(all_names,))


def test_an_event_that_is_skipped_now_is_left_out_of_the_past() -> None:
    story, position = poisoned(skipped=True)
    pasts = pasts_of(Told(story), {"names": named(names("poison"))})
    for end, wanted in ((position, ["one"]), (position + 2, ["one", "three"])):
        told = pasts.ask("names", "all_names", end, LONG_S)
        assert ([row.name for row in told.value], told.position) == (wanted, end)


def test_before_an_event_that_can_not_be_digested_all_is_well() -> None:
    story, position = poisoned(skipped=False)
    pasts = pasts_of(Told(story), {"names": named(names("poison"))})
    assert len(pasts.ask("names", "all_names", position - 2, LONG_S).value) == 1
    for _ in range(2):
        with pytest.raises(Unavailable, match="poison is hard to digest"):
            pasts.ask("names", "all_names", position, LONG_S)


def test_a_skip_recorded_later_changes_what_is_kept() -> None:
    story, position = poisoned(skipped=False)
    pasts = pasts_of(Told(story), {"names": named(names())})
    assert len(pasts.ask("names", "all_names", position, LONG_S).value) == 2
    event = ProjectionSkipped(projection="names", position=position, reason="known")
    story.record(event, by="root")
    assert len(pasts.ask("names", "all_names", position, LONG_S).value) == 1
    assert len(pasts.ask("names", "all_names", position + 2, LONG_S).value) == 2


def test_a_later_past_goes_on_from_an_earlier_one() -> None:
    source = Watched(wandered(2, 120))
    ends = [end.position for end in source.ends()]
    early, late = ends[20], ends[-5]
    pasts = pasts_of(source)
    first = pasts.ask("jobs", "list_jobs", early, LONG_S, limit=1000).value
    pasts.ask("jobs", "list_jobs", late, LONG_S)
    assert source.reads == [(0, early), (early, late)]
    again = pasts.ask("jobs", "list_jobs", early, LONG_S, limit=1000).value
    assert again == first, "what went on from it has not changed it"
    pasts.ask("jobs", "task", late, LONG_S, first=1, index=1)
    assert len(source.reads) == 2, "what is kept is not read again"
    pasts.ask("usage", "span", late, LONG_S)
    assert source.reads[2:] == [(0, late)]


def test_few_are_kept() -> None:
    source = Watched(wandered(2, 120))
    ends = [end.position for end in source.ends()][-6:]
    pasts = pasts_of(source, kept=2)
    for end in ends:
        pasts.ask("usage", "span", end, LONG_S)
    assert [key.position for key in pasts._kept] == ends[-2:]
    small = pasts_of(source, most_bytes=pasts._kept.popitem()[1].result().bytes * 3 // 2)
    for end in ends:
        small.ask("usage", "span", end, LONG_S)
    assert [key.position for key in small._kept] == ends[-1:]


def test_one_job_is_found_by_its_own_events() -> None:
    story = Story()
    story.node("n1")
    first = story.submit("ann", array="0-4,9")
    other = story.submit("bob")
    for job in (first + 5, other):
        story.cancel(job)
    source = Watched(story)
    pasts = pasts_of(source)
    end = source.head().position
    row, attempts = pasts.ask("jobs", "show_job", end, LONG_S, job=first + 5).value
    assert (row.job, row.task, row.state, attempts) == (first + 5, 9, "cancelled", [])
    row, _ = pasts.ask("jobs", "show_job", end - 4, LONG_S, first + 5).value
    assert row.state == "pending"
    assert source.reads == []
    assert f"job-{other}" not in source.streams
    assert pasts.ask("jobs", "show_job", end, LONG_S, job=other + 1).value is None
    assert [r.stream for r in events_of(source, other)] == [f"job-{other}"] * 2


def test_what_would_take_too_long_or_too_much_is_refused() -> None:
    story = wandered(1, 0)
    for _ in range(3):
        story.submit("ann", array="0-9999")
    log = log_of(story)
    end = log.head().position
    with pytest.raises(TooFar, match="too long"):
        pasts_of(log).ask("jobs", "list_jobs", end, 0.0)
    with pytest.raises(TooFar, match="take more than"):
        pasts_of(log, most_bytes=1 << 20).ask("jobs", "list_jobs", end, LONG_S)
    pasts = pasts_of(log)
    pasts.ask("jobs", "last", end, LONG_S)
    with pytest.raises(TooFar, match="longer"):
        pasts.ask("jobs", "list_jobs", end, 0.0, limit=10_000)


def test_those_who_ask_for_the_same_at_once_wait_for_one_fold() -> None:
    source = Watched(wandered(2, 120))
    end = source.head().position
    pasts, together = pasts_of(source), threading.Barrier(4)

    def ask(_: int) -> object:
        together.wait()
        return pasts.ask("jobs", "list_jobs", end, LONG_S).value

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(ask, range(4)))
    assert told == [told[0]] * 4
    assert source.reads == [(0, end)]


def test_nothing_is_written_into_the_past() -> None:
    def spoils(connection: object) -> None:
        """Not what a query is for."""
        connection.execute(JOBS.sql.delete())  # type: ignore[attr-defined]

    projection = Projection("jobs", version=1, tables=(), queries=(spoils,))
    projection.tables, projection.metadata = jobs.PROJECTION.tables, jobs.PROJECTION.metadata
    source = Told(wandered(1, 20))
    with pytest.raises(Exception, match="readonly"):
        pasts_of(source, {"jobs": projection}).ask("jobs", "spoils", source.head().position, LONG_S)


def test_what_is_not_there_says_so() -> None:
    pasts = pasts_of(Told(wandered(1, 5)))
    for projection, query in (("nonsense", "last"), ("jobs", "nonsense")):
        with pytest.raises(Unavailable, match="no question"):
            pasts.ask(projection, query, 2, LONG_S)
