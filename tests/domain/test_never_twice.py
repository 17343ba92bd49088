"""A job never runs twice at once, and what may not be restarted is started once."""

from typing import Any

import pytest

from ledger.commands import SYSTEM, GiveUp, ReportEnded, SetPolicy, Subject
from ledger.events import AttemptEnded, AttemptPlaced, StaleReported
from ledger.testing.stories import OPERATOR, Story

SECOND = 1_000_000


def cluster(*nodes: str) -> Story:
    """A story with these nodes, idle."""
    story = Story()
    for name in nodes:
        story.node(name)
    return story


def running(story: Story, *nodes: str, restartable: bool = True) -> int:
    """A job whose command runs on these nodes."""
    job = story.submit("ann", nodes=len(nodes), restartable=restartable)
    story.place(job, *nodes)
    story.start(job)
    return job


def ends(story: Story, job: int) -> list[AttemptEnded]:
    """The ends of a job's attempts so far."""
    found = [r.event for r in story.events]
    return [e for e in found if isinstance(e, AttemptEnded) and e.job == job]


def placements(story: Story, job: int) -> list[tuple[str, ...]]:
    """Where a job was placed so far."""
    found = [r.event for r in story.events]
    return [e.nodes for e in found if isinstance(e, AttemptPlaced) and e.job == job]


def give_up(story: Story, job: int) -> list[AttemptEnded]:
    """What the clock brings about for a job at this moment."""
    attempt = story.cluster.jobs[job].attempt
    assert attempt is not None
    outcome = story.ask(SYSTEM, GiveUp(job=job, attempt=attempt.n))
    return [e for e in outcome.events if isinstance(e, AttemptEnded)]


@pytest.mark.fault("F2")
def test_a_lost_job_is_placed_elsewhere_after_lease_and_margin_and_no_sooner() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    policy = story.cluster.policy
    story.silence("n1")
    story.tick(policy.lease_margin_s - 0.000001)
    assert give_up(story, job) == []
    story.tick(0.000001)
    (ended,) = give_up(story, job)
    assert (ended.outcome, ended.cause, ended.next, ended.lost) == (
        "node_fail",
        "node_lost",
        "requeued",
        ("n1",),
    )
    story.plan()
    assert placements(story, job) == [("n1",), ("n2",)]


def test_a_new_master_gives_every_agent_a_whole_lease() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    story.silence("n1")
    story.tick(1000)
    story.restart()
    assert give_up(story, job) == []
    policy = story.cluster.policy
    story.tick(policy.job_lease_s + policy.lease_margin_s)
    assert len(give_up(story, job)) == 1


def test_allowing_restarts_while_its_node_is_silent_frees_nothing() -> None:
    """The agent was told that the job may not be restarted: it lets it run without a lease."""
    story = cluster("n1", "n2")
    job = running(story, "n1", restartable=False)
    story.silence("n1")
    story.change(job, restartable=True)
    story.tick(3600)
    assert give_up(story, job) == []
    story.give_up(job)
    (ended,) = ends(story, job)
    assert (ended.outcome, ended.next) == ("node_fail", "final")
    assert placements(story, job) == [("n1",)]


def test_forbidding_and_allowing_restarts_again_frees_nothing_either() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    story.change(job, restartable=False)
    story.silence("n1")
    story.change(job, restartable=True)
    story.tick(3600)
    assert give_up(story, job) == []


def test_a_requeue_asked_for_in_vain_does_not_start_the_job_twice() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1", restartable=False)
    story.change(job, restartable=True)
    story.requeue(job)
    story.silence("n1")
    story.give_up(job)
    assert [e.next for e in ends(story, job)] == ["final"]


def test_a_requeue_is_carried_out_on_the_word_of_the_agent() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1", restartable=False)
    story.change(job, restartable=True)
    story.requeue(job)
    story.end(job, "stopped", None)
    assert [(e.outcome, e.next) for e in ends(story, job)] == [("requeued", "requeued")]


def test_a_shorter_lease_does_not_count_for_agents_that_have_not_heard_of_it() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    long_s, heard = story.cluster.policy.job_lease_s, story.now
    story.ask(OPERATOR, SetPolicy(job_lease_s=10))
    story.silence("n1")
    story.tick(10 + story.cluster.policy.lease_margin_s)
    assert give_up(story, job) == []
    story.now = heard + (long_s + story.cluster.policy.lease_margin_s) * SECOND
    assert len(give_up(story, job)) == 1


def test_a_clock_that_is_put_forward_ends_no_lease_that_agents_may_still_hold() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    long_s = story.cluster.policy.job_lease_s
    story.ask(OPERATOR, SetPolicy(job_lease_s=10))
    story.tick(365 * 86_400)
    story.restart()
    began = story.now
    story.silence("n1")
    story.tick(10 + story.cluster.policy.lease_margin_s)
    assert give_up(story, job) == []
    story.now = began + (long_s + story.cluster.policy.lease_margin_s) * SECOND
    assert len(give_up(story, job)) == 1


def test_a_shorter_lease_counts_once_everybody_must_have_heard_of_it() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    story.ask(OPERATOR, SetPolicy(job_lease_s=10))
    story.tick(1000)
    story.silence("n1")
    story.tick(story.cluster.policy.lease_margin_s)
    assert len(give_up(story, job)) == 1


def test_a_long_absence_of_the_master_is_not_the_silence_of_its_agents() -> None:
    story = cluster("n1")
    job = running(story, "n1", restartable=False)
    story.silence("n1")
    story.tick(2 * story.cluster.policy.lost_after_s)
    story.restart()
    assert give_up(story, job) == []
    story.give_up(job)
    assert [e.next for e in ends(story, job)] == ["final"]


def test_what_no_master_could_hear_is_no_part_of_a_silence() -> None:
    story = cluster("n1")
    policy, job = story.cluster.policy, running(story, "n1", restartable=False)
    story.silence("n1")
    story.tick(365 * 86_400)
    story.restart()
    story.tick(policy.job_lease_s + policy.lease_margin_s)
    assert give_up(story, job) == []
    story.tick(policy.lost_after_s)
    assert len(give_up(story, job)) == 1


def report(story: Story, node: str, job: int, attempt: int = 1, **fields: Any) -> object:
    """A node's report of an end, and what it is answered: is it dealt with?"""
    values: dict[str, Any] = {"end": "stopped", "cause": "stopped"} | fields
    command = ReportEnded(node=node, job=job, attempt=attempt, **values)
    return story.ask(Subject(node, "node"), command).reply


def stale(story: Story) -> list[tuple[int, int, str]]:
    """The reports on record that changed nothing."""
    found = [r.event for r in story.events]
    return [(e.job, e.attempt, e.node) for e in found if isinstance(e, StaleReported)]


@pytest.mark.fault("E10")
def test_a_late_end_changes_nothing_and_is_recorded_once() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    story.silence("n1")
    story.give_up(job)
    story.plan()
    assert report(story, "n1", job, end="completed", cause="exit") is True
    assert report(story, "n1", job, end="completed", cause="exit") is True
    assert story.cluster.jobs[job].attempts == 2
    assert stale(story) == [(job, 1, "n1")]


def test_nobody_is_charged_for_longer_than_his_job_had_its_nodes() -> None:
    """Whatever clock the agent's machine has."""
    story = cluster("n1")
    job = running(story, "n1")
    story.tick(7)
    report(story, "n1", job, end="completed", cause="exit", ran_us=10**15)
    (ended,) = ends(story, job)
    assert (ended.ran_us, ended.held_us) == (7 * SECOND, 7 * SECOND)


@pytest.mark.parametrize(
    ("cpus", "told", "recorded"),
    [
        (4, None, None),
        (4, 0, 0),
        (4, 28 * SECOND, 28 * SECOND),
        (4, 10**15, 28 * SECOND),
        (0, 10**15, 4096 * 7 * SECOND),
    ],
)
def test_nobody_has_used_more_processor_time_than_his_node_has(
    cpus: int, told: int | None, recorded: int | None
) -> None:
    """What nobody measured is not known; a node that has not said how many it has may have many."""
    story = cluster("n1")
    story.cluster.nodes["n1"].cpus = cpus
    job = running(story, "n1")
    story.tick(7)
    report(story, "n1", job, end="completed", cause="exit", ran_us=10**15, cpu_us=told)
    (ended,) = ends(story, job)
    assert ended.cpu_us == recorded


def test_a_start_that_is_told_again_is_recorded_once() -> None:
    story = cluster("n1")
    job = running(story, "n1")
    before = len(story.events)
    story.tick(5)
    story.start(job)
    assert len(story.events) == before


def test_the_end_of_another_node_than_the_leader_waits_for_the_leader() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1", "n2")
    assert report(story, "n2", job, cause="no_such_account") is False
    assert ends(story, job) == []
    report(story, "n1", job, lost=("n2",))
    (ended,) = ends(story, job)
    assert (ended.outcome, ended.next, ended.lost) == ("node_fail", "requeued", ("n2",))
    assert report(story, "n2", job, cause="no_such_account") is True
    assert stale(story) == [(job, 1, "n2")], "the true cause is on record"


def test_nodes_that_were_told_to_stop_are_not_lost_and_their_reports_are_no_news() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1", "n2")
    story.cancel(job)
    assert report(story, "n2", job) is False
    report(story, "n1", job, lost=("n2",))
    assert [(e.outcome, e.lost) for e in ends(story, job)] == [("cancelled", ())]
    assert report(story, "n2", job) is True
    assert stale(story) == []


def test_a_job_that_a_dead_node_stopped_avoids_that_node() -> None:
    story = cluster("n1", "n2")
    job = running(story, "n1")
    story.down("n1")
    report(story, "n1", job)
    assert [(e.outcome, e.lost) for e in ends(story, job)] == [("node_fail", ("n1",))]
    assert story.cluster.jobs[job].avoid == ("n1",)


def test_the_late_end_of_an_attempt_does_not_end_the_next_one_on_the_same_node() -> None:
    story = cluster("n1")
    job = running(story, "n1")
    story.silence("n1")
    story.give_up(job)
    story.contact("n1", has=())
    story.plan()
    story.start(job)
    assert report(story, "n1", job, end="completed", cause="exit") is True
    assert [(e.attempt, e.cause) for e in ends(story, job)] == [(1, "node_lost")]
    assert job in story.cluster.running
    assert stale(story) == [(job, 1, "n1")]
