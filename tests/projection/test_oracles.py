"""What the projections answer is what a scan of every event answers."""

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.testing.stories import Story, Wanderer
from ledger_projections import jobs, outage_impact
from oracles.scan import fates, impact, totals
from places import Place
from projection.keeping import Told, ask, close, in_batches, kept, wandered


def check_impact(story: Story, follower: Any, **asked: Any) -> int:
    """Compare one answer with the scan; how many hits there were."""
    users = ask(follower, outage_impact.impact, **asked)
    expected = impact(story.events, **asked)
    found = [
        (
            u.user,
            u.account,
            j.job,
            j.attempt,
            j.node,
            j.struck_at,
            j.restartable,
            j.lost_us,
            j.effect,
            j.state,
        )
        for u in users
        for j in u.jobs
    ]
    assert found == [tuple(hit) for hit in expected]
    assert {(u.user, u.account): (u.lost_us, u.requeued, u.needs_owner) for u in users} == totals(
        expected
    )
    return len(found)


def windows(story: Story, rng: Random) -> list[dict[str, Any]]:
    """Questions about the story: all of it, and some of its windows and nodes."""
    asked: list[dict[str, Any]] = [{}, {"nodes": ["n1", "n3", "nowhere"]}, {"nodes": []}]
    times = [r.at for r in story.events]
    for _ in range(6):
        since, until = sorted(rng.choices(times, k=2))
        asked.append({"since": since, "until": until, "nodes": rng.choice([None, ["n2"]])})
    return asked


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(0, 120))
def test_any_story(rng: Random, steps: int) -> None:
    story = Wanderer(Story(), rng, nodes=3).walk(steps)
    with tempfile.TemporaryDirectory() as folder:
        source = Told(story)
        follower = kept(outage_impact.PROJECTION, Place(Path(folder), None), source)
        in_batches(follower, source, 20)
        for asked in windows(story, Random(1)):  # noqa: S311
            check_impact(story, follower, **asked)
        close(follower)


@pytest.mark.parametrize("seed", [2, 3])
def test_a_long_story(seed: int, place: Place) -> None:
    story = wandered(seed, 800)
    source = Told(story)
    follower = kept(outage_impact.PROJECTION, place, source)
    follower.catch_up()
    hits = [check_impact(story, follower, **asked) for asked in windows(story, Random(seed))]  # noqa: S311
    assert max(hits) > 10
    effects = {j.effect for u in ask(follower, outage_impact.impact) for j in u.jobs}
    assert {"requeued", "lost", "continued"} <= effects
    close(follower)


@pytest.mark.parametrize("seed", [2, 3])
def test_every_job_of_a_long_story(seed: int, place: Place) -> None:
    story = wandered(seed, 500)
    source = Told(story)
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    rows, more = ask(follower, jobs.list_jobs, limit=10_000, ascending=True)
    expected = fates(story.events)
    assert more is None
    assert [
        (r.job, r.user, r.account, r.state, r.submitted_at, r.started_at, r.ended_at, r.attempts)
        for r in rows
    ] == [tuple(fate)[:-1] for fate in expected]
    for node in ("n1", "n2"):
        some, _ = ask(follower, jobs.list_jobs, node=node, limit=10_000)
        assert [r.job for r in reversed(some)] == [
            fate.job for fate in expected if node in fate.nodes_ever
        ]
    close(follower)


def test_the_story_of_one_outage(place: Place) -> None:
    """A node falls silent under two jobs' heels; one is queued again, one waits for its node."""
    story = Story()
    for name in ("n1", "n2", "n3"):
        story.node(name)
    again = story.submit("ann", account="physics", restartable=True)
    alone = story.submit("bob")
    for node, job in (("n1", again), ("n2", alone)):
        story.place(job, node)
        story.start(job)
    story.tick(60)
    story.silence("n1")
    story.silence("n2")
    story.give_up(again)
    source = Told(story)
    follower = kept(outage_impact.PROJECTION, place, source)
    follower.catch_up()
    ann, bob = ask(follower, outage_impact.impact)
    assert (ann.user, ann.account, ann.requeued, ann.needs_owner) == ("ann", "physics", 1, 0)
    assert [(j.job, j.node, j.effect, j.state) for j in ann.jobs] == [
        (again, "n1", "requeued", "pending")
    ]
    assert ann.lost_us == (story.now - ann.jobs[0].struck_at) + 360_000_000
    assert (bob.user, bob.requeued, bob.needs_owner) == ("bob", 0, 1)
    assert [(j.job, j.node, j.effect, j.state) for j in bob.jobs] == [
        (alone, "n2", "out_of_contact", "running")
    ]
    story.contact("n2")
    story.end(alone)
    follower.catch_up()
    _, bob = ask(follower, outage_impact.impact)
    assert [(j.effect, j.state, j.lost_us) for j in bob.jobs] == [("continued", "completed", 0)]
    assert bob.needs_owner == 0
    causes = [(c.node, c.cause) for c in ask(follower, outage_impact.losses, nodes=["n2"])]
    assert causes == [("n2", "silent"), ("n2", "returned")]
    close(follower)
