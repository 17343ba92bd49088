"""Which policies there were: who set each, and what that changed from what to what."""

import pytest
from msgspec.structs import asdict

from ledger.commands import SetPolicy
from ledger.events import PolicySet
from ledger.testing.stories import OPERATOR, Story
from ledger_projections import policies
from places import Place
from projection.keeping import Told, ask, close, kept

SET = (
    {"job_lease_s": 30, "kill_grace_s": 10},
    {"abuse_idle_percent": 20, "max_jobs_per_user": 7},
    {"abuse_idle_percent": 5},
)
CHANGED = [
    [("abuse_idle_percent", 20, 5)],
    [("abuse_idle_percent", 5, 20), ("max_jobs_per_user", 500_000, 7)],
    [("job_lease_s", 300, 30)],
]
"""The latest first; `kill_grace_s` was 10 before."""


def changes(found: list[policies.Change]) -> list[list[tuple[str, int, int]]]:
    """What each policy changed, by name."""
    return [sorted((c.field, c.was, c.now) for c in one.changed) for one in found]


def test_each_says_what_it_changed(place: Place) -> None:
    story = Story()
    story.node("n1")
    for fields in SET:
        story.tick(60)
        story.ask(OPERATOR, SetPolicy(**fields))
        story.submit("ann")
    follower = kept(policies.PROJECTION, place, Told(story))
    assert ask(follower, policies.in_force) == (0, policies.FIRST)
    follower.catch_up()
    told = [(r, e) for r in story.events if isinstance(e := r.event, PolicySet)]
    found, following = ask(follower, policies.history)
    assert (changes(found), following) == (CHANGED, None)
    assert [(c.policy, c.position, c.set_at, c.set_by) for c in reversed(found)] == [
        (e.policy, r.position, r.at, OPERATOR.name) for r, e in told
    ]
    last = asdict(told[-1][1])
    assert ask(follower, policies.in_force) == (last.pop("policy"), last)
    close(follower)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_lose_no_change(limit: int, place: Place) -> None:
    story = Story()
    for fields in SET:
        story.ask(OPERATOR, SetPolicy(**fields))
    follower = kept(policies.PROJECTION, place, Told(story))
    follower.catch_up()
    found, cursor = ask(follower, policies.history, limit=limit)
    while cursor is not None:
        some, cursor = ask(follower, policies.history, limit=limit, cursor=cursor)
        found += some
    assert changes(found) == CHANGED
    close(follower)


def test_a_policy_keeps_what_its_event_says_alone(place: Place) -> None:
    """So that a field which policies get later changes no row that was made before."""
    story = Story()
    story.ask(OPERATOR, SetPolicy(job_lease_s=30))
    follower = kept(policies.PROJECTION, place, Told(story))
    follower.catch_up()
    (row,) = ask(follower, lambda c: policies.POLICIES.rows(c, policies.POLICIES.select()))
    assert row.values["job_lease_s"] == 30
    assert "abuse_idle_percent" not in row.values
    close(follower)
