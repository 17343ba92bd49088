"""What was used is what a sum over all attempts gives, between whatever quarters of an hour."""

import tempfile
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.importing.past import Past, write
from ledger.projection.grid import SLOT_US
from ledger_projections import usage
from oracles.scan import Use, use
from places import Place
from projection.keeping import Told, ask, close, in_batches, kept, wandered
from projection.pasts import pasts


@settings(max_examples=25)
@given(
    pasts(), st.lists(st.integers(0, 14), min_size=2, max_size=6, unique=True), st.integers(1, 9)
)
def test_any_past(jobs: list[Past], slots: list[int], size: int) -> None:
    edges = [slot * SLOT_US for slot in sorted(slots)]
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), None)
        log = place.open(create=True)
        write(log, jobs)
        follower = kept(usage.PROJECTION, place, log)
        in_batches(follower, log, size)
        events = list(log.read())
        check(ask(follower, usage.usage, edges=edges), use(events, edges))
        for user in ("ann", "bob"):
            mine = ask(follower, usage.usage, edges=edges, user=user)
            check(mine, use(events, edges, user=user))
            every = ask(follower, usage.usage, edges=edges, by=("user",))
            check([row for row in every if row.user == user], use(events, edges, user=user))
        close(follower)
        log.close()


def check(rows: list[usage.Used], expected: list[Use]) -> None:
    """Compare what a query gives with the scan; a period without anything has no row."""
    found = {
        row.period: (
            row.jobs,
            row.node_us,
            row.cpu_us,
            sum(row.wasted.values()),
            row.measured_us,
        )
        for row in rows
    }
    assert [found.get(period, (0, 0, 0, 0, 0)) for period in range(len(expected))] == expected


@pytest.mark.parametrize("seed", [2, 3])
def test_a_long_story(seed: int, place: Place) -> None:
    story = wandered(seed, 500)
    source = Told(story)
    follower = kept(usage.PROJECTION, place, source)
    follower.catch_up()
    span = ask(follower, usage.span)
    rng = Random(seed)  # noqa: S311
    slots = sorted(rng.sample(range(span[0] // SLOT_US, span[1] // SLOT_US + 1), 3))
    edges = [span[0], *(slot * SLOT_US for slot in slots), span[1]]
    edges = sorted(set(edges))
    rows = ask(follower, usage.usage, edges=edges)
    check(rows, use(story.events, edges))
    assert sum(row.jobs for row in rows) > 10
    assert all(since < until for since, until in pairwise(edges))
    close(follower)


def test_the_present_may_end_a_period(place: Place) -> None:
    """An edge within the last slot of which anything is known."""
    story = wandered(4, 200)
    source = Told(story)
    follower = kept(usage.PROJECTION, place, source)
    follower.catch_up()
    span = ask(follower, usage.span)
    edges = [span[0], story.events[-1].at]
    (row,) = ask(follower, usage.usage, edges=edges)
    assert row.node_us == use(story.events, edges)[0].node_us
    close(follower)


def test_nothing_is_known_of_an_empty_log(place: Place) -> None:
    follower = kept(usage.PROJECTION, place, Told(wandered(1, 0)))
    follower.catch_up()
    assert ask(follower, usage.span) is None
    assert ask(follower, usage.usage, edges=[0, SLOT_US]) == []
    close(follower)
