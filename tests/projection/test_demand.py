"""Queues, use, service and demand are what a scan over time finds, between whatever quarters."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.commands import SYSTEM, Configure, RecordRefused, Retire
from ledger.domain.errors import Refusal
from ledger.events import JobSpec, JobsSubmitted, Recorded
from ledger.importing.past import Past, write
from ledger.projection.grid import SLOT_US
from ledger.testing.evidence import FULL
from ledger.testing.stories import OPERATOR, Story, Wanderer
from ledger_projections import demand
from ledger_projections.demand import rows
from oracles import grids
from places import Place
from projection.keeping import Told, ask, close, in_batches, kept
from projection.pasts import pasts

USERS = ("ann", "bob", "cleo", "dan")


def lively(rng: Random, steps: int) -> Story:
    """A story in which pools change, nodes retire, limits change, and demand is refused, too."""
    story = Story()
    wanderer = Wanderer(story, rng, nodes=3)
    for number in range(steps):
        wanderer.walk(6)
        story.tick(rng.choice((1, 100, 1000)))
        minute = story.now // 60_000_000
        refused = RecordRefused(
            minute=minute - rng.choice((0, 1, 20)),
            user=rng.choice(("", *USERS)),
            account=rng.choice(("", "physics")),
            pool=rng.choice(("default", "other")),
            code="limit",
            requests=1,
            jobs=rng.randrange(9),
            node_seconds=rng.randrange(10**6),
        )
        job = rng.choice([0, *story.cluster.jobs])
        names = sorted(story.cluster.nodes)
        node = rng.choice(names[1:] or names)
        elsewhere = Configure(node=node, pool=rng.choice(("default", "other")))
        acts: tuple[Callable[[], Any], ...] = (
            partial(story.ask, SYSTEM, refused),
            partial(story.ask, OPERATOR, elsewhere),
            partial(story.ask, OPERATOR, Retire(node=node) if len(names) > 2 else elsewhere),
            partial(story.node, f"m{number}"),
            partial(story.change, job, time_limit_s=rng.randrange(1, 9000)),
            partial(story.node, f"m{number}", pool="other"),
        )
        try:
            rng.choice(acts)()
        except Refusal:
            continue
    return story


def check(
    rows: Sequence[demand.Demand], expected: Sequence[grids.Demanded], *, whole: bool = True
) -> None:
    """Compare what a query gives with the scan; a period of which nothing is known has no row.
    `whole`: it is about everybody, so that what serves belongs to it."""
    found = {row.period: row for row in rows}
    assert len(found) == len(rows)
    for period, wanted in enumerate(expected):
        row = found.get(period)
        if row is None:
            lasted = [us for kind, us in wanted.nodes_us.items() if whole or kind != "serving"]
            assert not any((*lasted, *chain(*wanted.counted.values())))
            continue
        for kind in ("queued", "held"):
            assert getattr(row, f"{kind}_jobs_us") == wanted.jobs_us[kind]
            assert getattr(row, f"{kind}_nodes_us") == wanted.nodes_us[kind]
            assert getattr(row, f"{kind}_jobs") == wanted.jobs[kind]
            assert getattr(row, f"{kind}_nodes") == wanted.nodes[kind]
        assert (row.running_jobs_us, row.running_jobs) == (
            wanted.jobs_us["running"],
            wanted.jobs["running"],
        )
        assert (row.used_nodes_us, row.used_nodes) == (
            wanted.nodes_us["running"],
            wanted.nodes["running"],
        )
        for kind in grids.COUNTED:
            told = (getattr(row, f"{kind}_jobs"), getattr(row, f"{kind}_node_s"))
            assert told == wanted.counted[kind], kind
        assert (row.unmet_us is not None) is whole
        if whole:
            assert (row.serving_nodes_us, row.serving_nodes) == (
                wanted.nodes_us["serving"],
                wanted.nodes["serving"],
            )
            assert row.unmet_us == wanted.unmet_us


def check_all(follower: Any, events: Sequence[Recorded], edges: Sequence[int]) -> None:
    """Every grouping and filter, and what there is at the end."""
    check(ask(follower, demand.demand, edges=edges), grids.demand(events, edges))
    pools = sorted({one.pool for one in grids.stretches(events)})
    wholes = ask(follower, demand.demand, edges=edges, by=("pool",))
    for pool in pools:
        mine = ask(follower, demand.demand, edges=edges, pool=pool)
        assert {**{row.period: row for row in mine}} == {
            row.period: _without(row) for row in wholes if row.pool == pool
        }
        check(mine, grids.demand(events, edges, pool=pool))
    whose = ask(follower, demand.demand, edges=edges, by=("user", "account", "pool"))
    assert {row.serving_nodes for row in whose} <= {None}
    groups = {(r.user, r.account, r.pool) for r in whose}
    for user, account, pool in sorted(groups | {("ann", "", "nowhere")}):
        asked = {"user": user, "account": account, "pool": pool}
        mine = [row for row in whose if (row.user, row.account, row.pool) == (user, account, pool)]
        check(mine, grids.demand(events, edges, **asked), whole=False)
    for user in USERS[:2]:
        mine = ask(follower, demand.demand, edges=edges, user=user)
        check(mine, grids.demand(events, edges, user=user), whole=False)


def _without(row: demand.Demand) -> demand.Demand:
    return demand.Demand(**{f: getattr(row, f) for f in row.__struct_fields__} | {"pool": ""})


@settings(max_examples=200 if FULL else 8)
@given(
    pasts(), st.lists(st.integers(0, 20), min_size=2, max_size=6, unique=True), st.integers(1, 9)
)
def test_any_past(jobs: list[Past], slots: list[int], size: int) -> None:
    edges = [slot * SLOT_US for slot in sorted(slots)]
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), None)
        log = place.open(create=True)
        write(log, jobs)
        follower = kept(demand.PROJECTION, place, log)
        in_batches(follower, log, size)
        check_all(follower, list(log.read()), edges)
        close(follower)
        log.close()


@settings(max_examples=200 if FULL else 8)
@given(st.randoms(use_true_random=False), st.integers(1, 12), st.integers(1, 9))
def test_any_story(rng: Random, steps: int, size: int) -> None:
    source = Told(lively(rng, steps))
    with tempfile.TemporaryDirectory() as folder:
        follower = kept(demand.PROJECTION, Place(Path(folder), None), source)
        in_batches(follower, source, size)
        check_all(follower, source.story.events, edges_of(source.story, follower, rng))
        close(follower)


def edges_of(story: Story, follower: Any, rng: Random) -> list[int]:
    """Some quarters of a story, and its present."""
    first, last = ask(follower, demand.span)
    some = rng.choices(range(first // SLOT_US, last // SLOT_US + 3), k=3)
    edges = {first, *(slot * SLOT_US for slot in some)}
    return sorted({edge for edge in edges if edge <= story.now} | {story.now + 1})


@pytest.mark.parametrize("seed", [2, 3])
def test_a_long_story(seed: int, place: Place) -> None:
    story = lively(Random(seed), 60)  # noqa: S311
    source = Told(story)
    follower = kept(demand.PROJECTION, place, source)
    follower.catch_up()
    edges = edges_of(story, follower, Random(seed))  # noqa: S311
    check_all(follower, story.events, edges)
    (whole,) = ask(follower, demand.demand, edges=[edges[0], edges[-1]])
    levels = ("queued_nodes", "held_nodes", "used_nodes", "serving_nodes", "unmet")
    for told in (*(f"{name}_us" for name in levels), "withdrawn_node_s", "refused_node_s"):
        assert getattr(whole, told) > 0, told
    close(follower)


def test_what_there_is_now(place: Place) -> None:
    """The queue as the tables know it is the state's."""
    story = lively(Random(6), 60)  # noqa: S311
    source = Told(story)
    follower = kept(demand.PROJECTION, place, source)
    follower.catch_up()
    jobs = story.cluster.jobs.values()
    waiting = [job for job in jobs if job.attempt is None]
    (whole,) = ask(follower, demand.depth)
    assert whole.queued_jobs == len(waiting) > 0
    assert whole.queued_nodes == sum(job.spec.nodes for job in waiting)
    assert whole.held_jobs == sum(job.hold is not None for job in waiting) > 0
    assert whole.used_nodes == sum(len(j.attempt.nodes) for j in jobs if j.attempt) > 0
    assert whole.serving_nodes == sum(node.serves for node in story.cluster.nodes.values()) > 0
    by_user = ask(follower, demand.depth, by=("user",))
    assert {row.user: row.queued_jobs for row in by_user if row.queued_jobs} == {
        user: n for user in USERS if (n := sum(job.user == user for job in waiting))
    }
    (default,) = ask(follower, demand.depth, pool="default")
    assert default.serving_nodes == sum(
        node.serves for node in story.cluster.nodes.values() if node.pool == "default"
    )
    close(follower)


def test_a_job_is_remembered_no_longer_than_it_has_to_be(place: Place) -> None:
    story = Story()
    story.node("n1")
    plain, held, gone, lives = (story.submit("ann", held=i == 1) for i in range(4))
    story.place(plain, "n1")
    story.end(plain)
    story.release(held)
    story.place(held, "n1")
    story.end(held)
    story.cancel(gone)
    follower = kept(demand.PROJECTION, place, Told(story))
    follower.catch_up()
    left = ask(follower, lambda c: rows.JOBS.rows(c, rows.JOBS.select()))
    assert {row.job for row in left} == {held, gone, lives}
    close(follower)


def test_a_submission_of_many_accounts_is_gone_through_once() -> None:
    """Else one request of ten thousand jobs would keep the follower for minutes."""
    specs = tuple(JobSpec(account=f"a{i}") for i in range(10_000))
    e = JobsSubmitted(first_job=1, count=len(specs), user="ann", specs=specs)
    r = Recorded(1, "job-1", 1, 1, 10**15, 1, "i", e, None)  # type: ignore[arg-type]
    before = rows._asked.cache_info().misses
    keys = list(rows.flow_keys(r))
    assert [rows.evolve_flow(key, None, r).asked_jobs for key in keys] == [1] * len(specs)
    assert rows._asked.cache_info().misses == before + 1


def test_more_than_a_database_can_count_stops_nothing(place: Place) -> None:
    """Whoever asks for all the time there is, again and again, is refused; and that is all."""
    story = Story()
    for minute in range(30):
        refused = RecordRefused(
            minute=story.now // 60_000_000 + minute,
            user="mallory",
            account="",
            pool="default",
            code="limit",
            requests=1,
            jobs=2**62,
            node_seconds=2**62,
        )
        story.ask(SYSTEM, refused)
    follower = kept(demand.PROJECTION, place, Told(story))
    follower.catch_up()
    assert not follower.checkpoint.error
    first, last = ask(follower, demand.span)
    (row,) = ask(follower, demand.demand, edges=[first, last])
    assert row.refused_jobs == row.refused_node_s == 3 * 2**62
    close(follower)


def test_nothing_is_known_of_an_empty_log(place: Place) -> None:
    follower = kept(demand.PROJECTION, place, Told(Story()))
    follower.catch_up()
    assert ask(follower, demand.span) is None
    assert ask(follower, demand.demand, edges=[0, SLOT_US]) == []
    assert ask(follower, demand.depth) == []
    close(follower)
