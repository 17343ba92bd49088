"""The master's own absence: when it is an outage, and what it cost."""

from typing import Any

import pytest

from ledger.commands import (
    SYSTEM,
    NoteAbsence,
    OpenOutage,
    ReportEnded,
    SetPolicy,
    StartMaster,
    StopMaster,
    Subject,
)
from ledger.events import AttemptEnded, OutageOpened
from ledger.testing.stories import OPERATOR, Story

from .outage_support import MINUTE, cluster, happened, numbers, there


def master_is_away(
    story: Story, seconds: float, seen: float | None = None, stopped: bool = False
) -> None:
    """A master goes, or dies; the next one comes after so long. `seen`: how long it says that none
    was seen to reign."""
    if stopped:
        story.ask(SYSTEM, StopMaster(reason="told to"))
    story.tick(seconds)
    story.epoch += 1
    start = StartMaster(
        incarnation=story.incarnation,
        build="0",
        durability="full",
        recovered={},
        away_us=None if seen is None else round(seen * 1_000_000),
    )
    story.ask(SYSTEM, start)


def absences(story: Story) -> list[tuple[float, str]]:
    """How long each was, in seconds, and its cause."""
    return [
        ((e.until - e.since) / 1_000_000, e.cause)
        for e in happened(story, OutageOpened)
        if isinstance(e, OutageOpened) and e.kind == "master"
    ]


def test_a_master_that_was_away_was_an_outage_and_says_whose_jobs_waited() -> None:
    story = cluster(n1="")
    story.submit("ann", count=2)
    story.submit("bob", held=True)
    master_is_away(story, 61)
    assert absences(story) == [(61, "absent")]
    (opened,) = happened(story, OutageOpened)
    assert isinstance(opened, OutageOpened)
    assert opened.waiting == {"ann": 2}
    assert story.cluster.outages == {}, "it is over when it is known"


@pytest.mark.parametrize(
    ("seconds", "seen", "stopped", "expected"),
    [
        (60, None, False, []),
        (3600, None, False, [(3600, "absent")]),
        (3600, 100, False, [(100, "absent")]),
        (3600, 10, False, []),
        (3600, 3599, True, [(3599, "absent")]),
        (20, 99, False, [(20, "absent")]),
    ],
    ids=["short", "unknown", "known", "idle before", "in order", "clock set back"],
)
def test_how_long_it_was_away(
    seconds: float, seen: float | None, stopped: bool, expected: list[tuple[float, str]]
) -> None:
    story = cluster(n1="")
    master_is_away(story, seconds, seen, stopped)
    assert absences(story) == expected


def test_agents_that_may_have_killed_something_make_a_shorter_absence_one() -> None:
    story = cluster(n1="")
    story.ask(OPERATOR, SetPolicy(job_lease_s=10))
    master_is_away(story, 11)
    assert absences(story) == [(11, "absent")]


def test_a_copy_of_a_log_counts_from_its_end_and_further_on() -> None:
    story = cluster(n1="")
    story.silence("n1")
    story.incarnation = "another"
    master_is_away(story, 30, seen=1)
    assert absences(story) == [(30, "restored")], "what was behind its end is lost"
    assert there(story).keys() == {1, 2000}


def test_a_master_that_was_stopped_while_it_reigned_was_away() -> None:
    story = cluster(n1="")
    since = story.now
    story.tick(500)
    story.ask(SYSTEM, NoteAbsence(since=since))
    assert absences(story) == [(500, "frozen")]


def test_what_agents_killed_for_want_of_a_master_is_by_his_absence_and_no_node_was_lost() -> None:
    story = cluster(n1="r1", n2="r1")
    jobs = [story.submit(user, restartable=True) for user in ("ann", "bob")]
    for node, job in zip(("n1", "n2"), jobs, strict=True):
        story.place(job, node)
        story.start(job)
    story.tick(50)
    master_is_away(story, 1000)
    story.tick(1)
    late = story.submit("cleo", restartable=True)
    story.end(jobs[1])
    story.place(late, "n2")
    for node, job in (("n1", jobs[0]), ("n2", late)):
        about: dict[str, Any] = {"node": node, "job": job, "attempt": 1}
        report = ReportEnded(**about, end="node_fail", cause="lease_expired")
        story.ask(Subject(node, "node"), report)
    assert there(story) == {1: [], 2: ["n2"]}, "what was placed later was the node's own loss"
    assert numbers(story, AttemptEnded) == [0, 1, 2]


def test_an_absence_within_what_was_announced_is_no_other_outage() -> None:
    story = cluster(n1="")
    end = story.now + 60 * MINUTE
    plan = OpenOutage(since=story.now, until=end, reason="new disks", planned=True)
    story.ask(OPERATOR, plan)
    master_is_away(story, 1800, stopped=True)
    assert absences(story) == []
    master_is_away(story, 3600)
    assert absences(story) == [(3600, "absent")], "he was back too late"
