"""What owners and operators ask of jobs, and what they are told."""

from typing import Any

import pytest

from ledger.commands import Cancel, Change, Hold, Release, Requeue
from ledger.domain.errors import (
    Conflict,
    Forbidden,
    Impossible,
    JobIsOver,
    JobNotPending,
    JobNotRunning,
    NotRestartable,
    UnknownJob,
)
from ledger.events import (
    AttemptEnded,
    Dependency,
    DependencyKind,
    JobCancelRequested,
    JobEnded,
    JobHeld,
)
from ledger.testing.stories import OPERATOR, Story
from ledger.wire import EndKind


@pytest.fixture
def story() -> Story:
    """Two idle nodes."""
    made = Story()
    made.node("n1")
    made.node("n2")
    return made


def run(story: Story, **spec: Any) -> int:
    """A job of ann whose command runs on n1."""
    job = story.submit("ann", **spec)
    story.place(job, "n1")
    story.start(job)
    return job


def last_end(story: Story) -> AttemptEnded:
    """The latest end of an attempt."""
    return [r.event for r in story.events if isinstance(r.event, AttemptEnded)][-1]


def test_a_cancelled_pending_job_is_over_at_once(story: Story) -> None:
    job = story.submit("ann")
    (ended,) = story.ask("ann", Cancel(job=job)).events
    assert isinstance(ended, JobEnded)
    assert story.cluster.outcome(job) == "cancelled"
    assert story.ask("ann", Cancel(job=job)).events == []
    with pytest.raises(JobIsOver):
        story.ask("ann", Hold(job=job))


def test_a_cancelled_running_job_is_over_when_its_node_says_so(story: Story) -> None:
    job = run(story)
    (asked,) = story.ask("ann", Cancel(job=job)).events
    assert isinstance(asked, JobCancelRequested)
    assert story.ask("ann", Cancel(job=job)).events == []
    assert story.cluster.outcome(job) is None
    story.end(job, "stopped", None)
    assert (last_end(story).outcome, story.cluster.outcome(job)) == ("cancelled", "cancelled")


def test_a_job_that_completes_while_it_is_cancelled_has_completed(story: Story) -> None:
    job = run(story)
    story.cancel(job)
    story.end(job, "completed")
    assert story.cluster.outcome(job) == "completed"


def test_requeueing_a_cancelled_job_is_refused_and_cancelling_a_requeued_one_is_not(
    story: Story,
) -> None:
    job = run(story, restartable=True)
    story.requeue(job)
    assert story.ask("ann", Requeue(job=job)).events == []
    story.cancel(job)
    with pytest.raises(Conflict, match="was cancelled"):
        story.requeue(job)
    story.end(job, "stopped", None)
    assert story.cluster.outcome(job) == "cancelled"


def test_a_requeued_job_waits_again_as_a_new_attempt(story: Story) -> None:
    job = run(story, restartable=True)
    story.requeue(job)
    story.end(job, "stopped", None)
    assert (last_end(story).outcome, last_end(story).next) == ("requeued", "requeued")
    (placed,) = story.plan()
    assert (placed.job, placed.attempt) == (job, 2)


def test_only_running_restartable_jobs_are_requeued(story: Story) -> None:
    pending = story.submit("ann", restartable=True)
    with pytest.raises(JobNotRunning):
        story.requeue(pending)
    with pytest.raises(NotRestartable):
        story.requeue(run(story))


def test_holds_of_owners_and_operators(story: Story) -> None:
    job = story.submit("ann")
    (held,) = story.ask("ann", Hold(job=job)).events
    assert isinstance(held, JobHeld)
    assert held.kind == "user"
    assert story.ask("ann", Hold(job=job)).events == []
    (held,) = story.ask(OPERATOR, Hold(job=job)).events
    assert isinstance(held, JobHeld)
    assert held.kind == "admin"
    assert story.ask("ann", Hold(job=job)).events == []
    with pytest.raises(Forbidden, match="held by the operator root"):
        story.ask("ann", Release(job=job))
    assert story.plan() == []
    story.release(job)
    assert story.ask("ann", Release(job=job)).events == []
    assert len(story.plan()) == 1
    with pytest.raises(JobNotPending):
        story.ask("ann", Hold(job=job))


def test_a_job_submitted_held_is_its_owners_to_release(story: Story) -> None:
    job = story.submit("ann", held=True)
    assert story.plan() == []
    story.ask("ann", Release(job=job))
    assert [p.job for p in story.plan()] == [job]


def test_a_job_that_loses_its_nodes_again_and_again_is_held(story: Story) -> None:
    job = story.submit("ann", restartable=True)
    for attempt in range(1, 6):
        story.plan()
        assert story.cluster.jobs[job].attempts == attempt
        story.start(job)
        story.end(job, "node_fail", None)
    assert (last_end(story).outcome, last_end(story).next) == ("node_fail", "held")
    assert story.cluster.jobs[job].hold == "system"
    assert story.plan() == []
    story.ask("ann", Release(job=job))
    assert len(story.plan()) == 1


def test_changes_and_their_refusals_in_order_of_precedence(story: Story) -> None:
    with pytest.raises(UnknownJob):
        story.ask("ann", Change(job=1, time_limit_s=0))
    job = run(story)
    with pytest.raises(Forbidden):
        story.ask("bob", Change(job=job, time_limit_s=0))
    with pytest.raises(JobNotPending):
        story.ask("ann", Change(job=job, time_limit_s=0))
    waiting = story.submit("ann", time_limit_s=60)
    with pytest.raises(Impossible):
        story.ask("ann", Change(job=waiting, time_limit_s=0))
    assert story.ask("ann", Change(job=waiting, time_limit_s=60, restartable=False)).events == []
    story.change(waiting, time_limit_s=90)
    assert story.plan()[0].time_limit_s == 90


@pytest.mark.parametrize(
    ("kind", "end", "goes_on"),
    [
        ("afterok", "completed", True),
        ("afterok", "failed", False),
        ("afterany", "failed", True),
        ("afterany", "completed", True),
        ("afternotok", "failed", True),
        ("afternotok", "completed", False),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_dependencies_on_a_job_that_ends_and_on_one_that_has_ended(
    story: Story, kind: DependencyKind, end: EndKind, goes_on: bool, before: bool
) -> None:
    other = run(story)
    if not before:
        story.end(other, end)
    waiter = story.submit("bob", depends=depends(kind, other))
    if before:
        assert story.plan() == []
        story.end(other, end)
    assert [p.job for p in story.plan()] == ([waiter] if goes_on else [])
    assert story.cluster.jobs[waiter].impossible is not goes_on


def depends(kind: DependencyKind, *jobs: int) -> tuple[Dependency, ...]:
    """Dependencies of one kind on these jobs."""
    return tuple(Dependency(kind=kind, job=job) for job in jobs)


def test_a_job_waits_for_all_it_depends_on(story: Story) -> None:
    first, second = story.submit("ann"), story.submit("ann")
    waiter = story.submit("bob", depends=depends("afterany", first, second))
    story.cancel(first)
    assert waiter not in story.cluster.waiting["default"]
    story.cancel(second)
    assert waiter in story.cluster.waiting["default"]


def test_a_job_can_only_wait_for_a_job_there_is(story: Story) -> None:
    with pytest.raises(UnknownJob, match="no job 1"):
        story.submit("ann", depends=depends("afterok", 1))
