"""Who breaks the rules of use is noticed, once, by whoever reigns; and nobody else is."""

from collections.abc import Iterator

import pytest

from ledger.commands import SYSTEM, AnswerAbuse, NoteAbuse, SetPolicy
from ledger.domain.cluster import fold
from ledger.domain.errors import Forbidden, UnknownFinding
from ledger.events import AbuseAnswered, LogRestored, PolicySet
from ledger.testing.stories import OPERATOR, Story

from .abusing import RULES, check, ended, failed, notice, strict, submitted

# ── each rule ────────────────────────────────────────────────────────────────────────────────────


def test_too_many_submissions_in_a_minute_of_the_clock() -> None:
    story = strict(abuse_submissions_per_min=40)
    story.tick(59)
    for _ in range(40):
        submitted(story, "ann", account="physics")
    submitted(story, "bob")
    story.tick(1)
    for _ in range(40):
        submitted(story, "ann", account="physics")
    assert notice(story) == []
    submitted(story, "ann", 10_000, "physics", part=2)  # the rest of a request is no other one
    assert notice(story) == []
    submitted(story, "ann", 300, "physics")
    (found,) = notice(story)
    assert (found.finding, found.rule, found.user, found.account) == (
        *(1, "submissions", "ann"),
        "physics",
    )
    assert (found.found, found.limit, found.count) == (41, 40, 41)
    assert (found.since, found.until) == (story.now, story.now)
    assert found.terms == {"abuse_submissions_per_min": 40}
    evidence = [r for r in story.events if r.position in found.positions]
    assert len(evidence) == 20
    assert tuple(r.event.first_job for r in evidence) == found.jobs  # type: ignore[attr-defined]
    check(story)


def test_whose_jobs_fail_at_once() -> None:
    """From so many on, of so large a share, in less time than that, and within an hour."""
    rules = {"abuse_fail_percent": 60, "abuse_fail_jobs": 5, "abuse_fail_within_s": 5}
    story = strict(**rules)
    for _ in range(4):
        failed(story, "ann")
        failed(story, "bob", 5)
        failed(story, "cleo", cause="no_such_account")
        ended(story, "dan", 1)
        story.tick(100)
    assert notice(story) == []
    for user in ("ann", "bob", "cleo", "dan"):
        ended(story, user, 1)
    (found,) = notice(story)
    assert (found.user, found.rule, found.found, found.limit) == ("ann", "failing", 80, 60)
    assert (found.count, found.of, len(found.jobs)) == (4, 5, 4)
    assert found.terms == rules
    story = strict(**rules)
    for _ in range(4):
        failed(story, "ann")
    story.tick(3_600)
    failed(story, "ann")
    assert notice(story) == []
    check(story)


def test_who_holds_nodes_idle() -> None:
    story = strict(abuse_idle_node_s=100, abuse_idle_percent=10)
    ended(story, "ann", 30, nodes=("n1", "n2"), cpu_us=2_999_999)
    ended(story, "bob", 3_000, nodes=("n1", "n2"), cpu_us=300_000_000)
    ended(story, "cleo", 3_000, nodes=("n1", "n2"), cpu_us=None)
    ended(story, "ann", 40, cpu_us=0)
    assert notice(story) == []
    story.tick(11 * 3_600)
    ended(story, "ann", 1, cpu_us=0)
    (found,) = notice(story)
    assert (found.user, found.rule, found.found, found.limit) == ("ann", "idle", 101, 100)
    assert (found.count, found.of) == (3, 3)
    story = strict(abuse_idle_node_s=100, abuse_idle_percent=10)
    ended(story, "ann", 100, cpu_us=0)
    story.tick(13 * 3_600)
    ended(story, "ann", 100, cpu_us=0)
    assert notice(story) == []
    check(story)


@pytest.mark.parametrize("off", list(RULES))
def test_a_rule_with_a_nought_is_off(off: str) -> None:
    story = strict(**{**RULES, off: 0})
    for _ in range(6):
        submitted(story, "ann")
        failed(story, "ann", 4, cpu_us=0)
        ended(story, "bob", 100, cpu_us=0)
    word = off.split("_")[1].replace("fail", "failing")
    assert {found.rule for found in notice(story)} == {"submissions", "failing", "idle"} - {word}
    check(story)


# ── once ─────────────────────────────────────────────────────────────────────────────────────────


def storm(story: Story, user: str = "ann") -> None:
    """Three submissions where two may be."""
    for _ in range(3):
        submitted(story, user)


def test_who_goes_on_is_noticed_once_and_again_when_an_hour_was_quiet() -> None:
    story = strict(abuse_submissions_per_min=2)
    storm(story)
    assert [f.finding for f in notice(story)] == [1]
    for _ in range(3):
        storm(story)
        story.tick(3_600)  # the minute before it counts until its end
    storm(story)
    story.tick(3_659)
    storm(story)
    assert notice(story) == []
    story.tick(3_660)
    storm(story)
    assert [f.finding for f in notice(story)] == [2]
    check(story)


def test_a_takeover_forgets_no_count_and_finds_nothing_twice() -> None:
    story = strict(abuse_submissions_per_min=2)

    def another_master() -> None:
        story.cluster = fold(story.events)
        story.restart()

    submitted(story, "ann")
    submitted(story, "ann")
    another_master()
    submitted(story, "ann")
    story.tick(7_200)  # nobody reigns meanwhile, and what was broken still is
    another_master()
    assert [f.count for f in notice(story)] == [3]
    another_master()
    assert notice(story) == []
    storm(story)
    another_master()
    assert [f.finding for f in notice(story)] == [2]
    check(story)


def test_two_clocks_may_ask_and_one_finding_is_recorded() -> None:
    story = strict(abuse_submissions_per_min=2)
    storm(story)
    asked = NoteAbuse(user="ann", rule="submissions")
    assert len(story.ask(SYSTEM, asked).events) == 1
    assert story.ask(SYSTEM, asked).events == []
    assert story.ask(SYSTEM, NoteAbuse(user="bob", rule="idle")).events == []


def test_a_changed_rule_counts_anew_and_another_change_does_not() -> None:
    story = strict(abuse_submissions_per_min=3)
    storm(story)
    story.ask(OPERATOR, SetPolicy(kill_grace_s=3))
    submitted(story, "ann")
    assert len(notice(story)) == 1
    storm(story, "bob")
    story.ask(OPERATOR, SetPolicy(abuse_submissions_per_min=2))
    submitted(story, "bob")
    submitted(story, "bob")
    assert notice(story) == []
    submitted(story, "bob")
    assert [f.limit for f in notice(story)] == [2]
    check(story)


# ── what is remembered ───────────────────────────────────────────────────────────────────────────


def test_nothing_is_remembered_of_those_who_have_long_done_nothing() -> None:
    story = strict(**RULES)
    for number in range(50):
        user = f"user-{number}"
        storm(story, user)
        for _ in range(30):
            failed(story, user, 4, cpu_us=0)
        story.tick(60)
    notice(story)
    watch = story.cluster.watch
    assert {len(t.spans) for t in watch.failing.users.values()} == {0}
    assert max(len(t.traces) for t in watch.failing.users.values()) == 20
    story.tick(14 * 3_600)
    storm(story, "late")
    failed(story, "late", cpu_us=0)
    kept = (watch.requests, watch.near, watch.failing.users, watch.idle.users)
    assert [set(users) for users in kept] == [{"late"}] * 4
    assert set(watch.bursts) == {("late", "submissions")}
    check(story)


def test_a_window_has_a_bound_whatever_happens_in_it() -> None:
    story = strict(**RULES)
    for _ in range(300):
        failed(story, "ann", 4, cpu_us=0)
        story.tick(30)
    watch = story.cluster.watch
    tally = watch.failing.users["ann"]
    assert len(tally.spans) == 59
    assert tally.of - tally.gone_of == 120
    assert len(watch.idle.users["ann"].spans) == 2


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


def findings(story: Story) -> Iterator[AbuseAnswered]:
    return (r.event for r in story.events if isinstance(r.event, AbuseAnswered))


def test_an_operator_answers_as_often_as_he_likes() -> None:
    story = strict(abuse_submissions_per_min=2)
    with pytest.raises(UnknownFinding):
        story.ask(OPERATOR, AnswerAbuse(finding=1))
    storm(story)
    notice(story)
    with pytest.raises(Forbidden):
        story.ask("ann", AnswerAbuse(finding=1))
    for _ in range(2):
        story.ask(OPERATOR, AnswerAbuse(finding=1))
    for finding in (0, -1, 2):
        with pytest.raises(UnknownFinding):
            story.ask(OPERATOR, AnswerAbuse(finding=finding))
    assert [e.finding for e in findings(story)] == [1, 1]


def test_a_restored_log_gives_no_number_again() -> None:
    """Findings behind its end may have been told to people."""
    story = strict(abuse_submissions_per_min=2)
    storm(story)
    notice(story)
    story.record(LogRestored(incarnation="other", after=9, first_job=200_000))
    story.tick(7_200)
    storm(story)
    assert [f.finding for f in notice(story)] == [2_001]


def test_a_policy_of_an_older_release_has_the_rules_as_they_are_by_default() -> None:
    old = PolicySet(
        policy=1,
        job_lease_s=30,
        lease_margin_s=1,
        lost_after_s=9,
        kill_grace_s=1,
        max_jobs_per_user=5,
        max_time_limit_s=9,
        output_head_bytes=1,
        output_tail_bytes=1,
    )
    story = Story()
    story.record(old)
    policy = story.cluster.policy
    assert {name: getattr(policy, name) for name in RULES} == {
        "abuse_submissions_per_min": 600,
        "abuse_fail_percent": 80,
        "abuse_fail_jobs": 50,
        "abuse_fail_within_s": 10,
        "abuse_idle_node_s": 14_400,
        "abuse_idle_percent": 5,
    }
    for _ in range(601):
        submitted(story, "ann")
    assert [f.found for f in notice(story)] == [601]
    check(story)
