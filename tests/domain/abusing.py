"""What the tests of the rules of use share: strict rules, and users who break them."""

from typing import Any

from ledger.commands import SYSTEM, NoteAbuse, SetPolicy
from ledger.events import AbuseFound, AttemptEnded, JobSpec, JobsSubmitted
from ledger.testing.stories import OPERATOR, START, Story
from oracles.abuse import MINUTE, judged, said

SECOND = 1_000_000
RULES: dict[str, int] = {
    "abuse_submissions_per_min": 2,
    "abuse_fail_percent": 60,
    "abuse_fail_jobs": 3,
    "abuse_fail_within_s": 5,
    "abuse_idle_node_s": 100,
    "abuse_idle_percent": 10,
}
OFF = dict.fromkeys(RULES, 0)


def strict(**rules: int) -> Story:
    """A story under rules that are soon broken, and begins with a minute of the clock."""
    story = Story(now=START // MINUTE * MINUTE)
    story.ask(OPERATOR, SetPolicy(**{**OFF, **rules}))
    return story


def submitted(story: Story, user: str, count: int = 1, account: str = "", part: int = 1) -> None:
    """A submission, whether or not it may be."""
    first = story.cluster.next_job
    specs = (JobSpec(account=account),) * count
    story.record(JobsSubmitted(first_job=first, count=count, user=user, specs=specs, part=part))


def ended(story: Story, user: str, ran_s: float, **more: Any) -> None:
    """The end of an attempt that nothing more is known of."""
    ran_us = round(ran_s * SECOND)
    told: dict[str, Any] = {
        "job": len(story.events),
        "user": user,
        "account": "",
        "pool": "default",
        "attempt": 1,
        "nodes": ("n1",),
        "placed_at": story.now - ran_us,
        "started_at": story.now - ran_us,
        "ran_us": ran_us,
        "held_us": ran_us,
        "outcome": "completed",
        "cause": "exit",
        "next": "final",
        "state": "completed",
    }
    story.record(AttemptEnded(**{**told, **more}))


def failed(story: Story, user: str, ran_s: float = 1, **more: Any) -> None:
    """An attempt that failed by itself."""
    ended(story, user, ran_s, outcome="failed", state="failed", exit_code=1, **more)


def notice(story: Story) -> list[AbuseFound]:
    """The clock looks who broke a rule, as the ticker does; what comes of it."""
    asked = [NoteAbuse(user=user, rule=rule) for user, rule in sorted(story.cluster.watch.due)]
    found = [event for command in asked for event in story.ask(SYSTEM, command).events]
    assert all(isinstance(e, AbuseFound) for e in found)
    return found  # type: ignore[return-value]


def check(story: Story) -> None:
    """What is on record, and what is to be, is what a scan of the log comes to."""
    on_record = [r.event for r in story.events if isinstance(r.event, AbuseFound)]
    wanted = judged(story.events)
    assert [said(e) for e in on_record] == [breach[:-1] for breach in wanted.told]
    due = story.cluster.watch.due
    assert sorted(said(e) for e in due.values()) == sorted(b[:-1] for b in wanted.due)
