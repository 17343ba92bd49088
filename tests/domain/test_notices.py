"""Who is told of an outage, when, and how often: once, and once more when its cause is found."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.commands import (
    SYSTEM,
    CloseOutage,
    FindCause,
    OpenOutage,
    RecordFailed,
    RecordSent,
    SetContact,
    SetPolicy,
    Subject,
    Tell,
)
from ledger.domain.errors import Forbidden
from ledger.domain.notices import PATIENCE, due, to_tell
from ledger.events import Blob, NoticeDue, NoticeSent, OutageTold, Why
from ledger.testing.stories import OPERATOR, Story, Wanderer
from oracles.outages import told_once

MINUTE = 60_000_000
BLOB = Blob(sha256="a" * 64, bytes=30)


def struck(*users: str, nodes: int = 3) -> Story:
    """A rack of `nodes`, in a pool with as many others; a job of each user on a node of it."""
    story = Story()
    for n in range(1, nodes + 1):
        story.node(f"n{n}", rack="r1")
        story.node(f"m{n}", rack="r2")
    for n, user in enumerate(users, 1):
        story.place(story.submit(user), f"n{n}")
    return story


def tell(story: Story, *users: str) -> list[tuple[int, Why]]:
    """Do what is due; what that was. `users` are those whom the tables say it has hit."""
    tellings = to_tell(story.cluster, story.now)
    for telling in tellings:
        assert telling.at_least <= story.cluster.position
        as_of = story.cluster.position
        told = Tell(
            outage=telling.outage, why=telling.why, users=users, as_of=as_of, pool=telling.pool
        )
        story.ask(SYSTEM, told)
    assert to_tell(story.cluster, story.now) == [], "what was done is due again"
    return [(telling.outage, telling.why) for telling in tellings]


def told(story: Story) -> list[tuple[str, Why]]:
    """Who was to be told what, in order."""
    return [(r.event.to, r.event.why) for r in story.events if isinstance(r.event, NoticeDue)]


def desk(story: Story, name: str = "helpdesk") -> None:
    """There is somebody to ask."""
    contact = SetContact(owner=name, desk=True, channels=("json",), addresses=BLOB)
    story.ask(OPERATOR, contact)


def test_everybody_hit_is_told_once_some_time_after_the_last_loss() -> None:
    story = struck("ann", "bob", "ann")
    story.silence("n1")
    story.tick(59)
    assert tell(story) == []
    story.down("n2")
    story.tick(59)
    assert tell(story) == []
    story.tick(1)
    assert tell(story, "ann", "bob") == [(1, "hit")]
    assert told(story) == [("ann", "hit"), ("bob", "hit")]
    story.down("n3")  # ann is hit again, and was told
    story.tick(3600)
    assert tell(story, "ann", "bob") == []


def test_whoever_is_hit_later_by_the_same_outage_is_told_then() -> None:
    story = struck("ann", "bob")
    story.silence("n1")
    story.tick(60)
    tell(story, "ann")
    story.down("n2")
    story.tick(60)
    assert tell(story, "ann", "bob") == [(1, "hit")]
    assert told(story) == [("ann", "hit"), ("bob", "hit")]


def test_an_outage_that_goes_on_growing_is_told_of_all_the_same() -> None:
    story = struck(*(f"user{n}" for n in range(9)), nodes=9)
    minutes = 0
    while not tell(story, "user0"):
        story.down(f"n{1 + minutes}")
        minutes += 1
        story.tick(50)
    assert minutes == PATIENCE * 60 // 50


def test_idle_nodes_hit_nobody() -> None:
    story = struck()
    story.silence("n1", "n2")
    story.tick(3600)
    assert tell(story) == []


def test_that_nobody_had_to_be_told_is_on_record() -> None:
    story = struck("ann")
    story.silence("n1")
    story.tick(60)
    assert tell(story) == [(1, "hit")]
    (event,) = [r.event for r in story.events if isinstance(r.event, OutageTold)]
    assert (event.why, event.notices) == ("hit", 0)


def test_many_users_come_in_portions() -> None:
    story = struck("ann", "bob")
    story.silence("n1", "n2")
    story.tick(60)
    as_of = story.cluster.position
    story.ask(SYSTEM, Tell(outage=1, why="hit", users=("ann",), as_of=as_of, more=True))
    assert [t.why for t in to_tell(story.cluster, story.now)] == ["hit"]
    story.ask(SYSTEM, Tell(outage=1, why="hit", users=("ann", "bob"), as_of=as_of))
    assert told(story) == [("ann", "hit"), ("bob", "hit")]
    assert to_tell(story.cluster, story.now) == []


# ── causes ──


def sent(story: Story) -> None:
    """All that is due goes out."""
    for notice in due(story.cluster, story.now):
        story.ask(SYSTEM, RecordSent(notice=notice.n, channels=("json",), tries=1))


def test_a_later_cause_is_told_once_more_and_only_once() -> None:
    story = struck("ann", "bob")
    story.silence("n1", "n2")
    story.tick(60)
    tell(story, "ann", "bob")
    sent(story)
    for cause in ("a fuse", "a mouse"):
        story.ask(OPERATOR, FindCause(outage=1, cause=cause))
        story.tick(60)
        tell(story)
    assert told(story)[2:] == [("ann", "cause"), ("bob", "cause")]


def test_a_cause_that_is_known_before_anybody_is_told_needs_no_second_notice() -> None:
    story = struck("ann")
    story.silence("n1")
    story.ask(OPERATOR, FindCause(outage=1, cause="a fuse"))
    story.tick(60)
    tell(story, "ann")
    sent(story)
    story.tick(3600)
    assert tell(story) == []
    story.ask(OPERATOR, FindCause(outage=1, cause="a mouse, in the end"))
    story.tick(60)
    assert tell(story) == [(1, "cause")]
    assert told(story) == [("ann", "hit"), ("ann", "cause")]


def test_a_notice_that_has_not_gone_out_will_tell_of_the_cause_itself() -> None:
    story = struck("ann", "bob")
    story.silence("n1", "n2")
    story.tick(60)
    tell(story, "ann", "bob")
    (first, _) = due(story.cluster, story.now)
    story.ask(SYSTEM, RecordSent(notice=first.n, channels=("json",), tries=1))
    story.ask(OPERATOR, FindCause(outage=1, cause="a fuse"))
    story.tick(60)
    tell(story)
    assert told(story)[2:] == [("ann", "cause")]


# ── planned downtime, and outages opened by hand ──


def test_planned_downtime_is_announced_to_those_with_jobs_and_told_of_when_it_is_over() -> None:
    story = struck("ann")
    story.submit("bob", nodes=2)
    story.node("g1", pool="gpu")
    story.place(story.submit("cleo", pool="gpu"), "g1")
    desk(story)
    begin = story.now + 60 * MINUTE
    plan = OpenOutage(
        nodes=("n1",), since=begin, until=begin + 60 * MINUTE, reason="disks", planned=True
    )
    story.ask(OPERATOR, plan)
    story.tick(60)
    assert tell(story) == [(1, "announced")]
    assert told(story) == [("ann", "announced"), ("bob", "announced"), ("helpdesk", "announced")]
    story.tick(3600)
    story.down("n1")
    story.tick(60)
    tell(story, "ann")
    story.ask(OPERATOR, CloseOutage(outage=1, reason="all disks are new"))
    story.tick(60)
    assert tell(story, "ann") == [(1, "hit"), (1, "over")]
    assert told(story)[3:] == [
        ("ann", "hit"),
        ("ann", "over"),
        ("bob", "over"),
        ("helpdesk", "over"),
    ]


def test_what_begins_soon_is_announced_at_once() -> None:
    story = struck("ann")
    plan = OpenOutage(
        since=story.now + 1, until=story.now + MINUTE, reason="switch it off", planned=True
    )
    story.ask(OPERATOR, plan)
    story.tick(0.000001)
    assert tell(story) == [(1, "announced")]


def test_an_outage_that_was_opened_by_hand_is_told_of_when_it_opens_and_when_it_is_over() -> None:
    story = struck("ann", "bob")
    opened = OpenOutage(since=story.now - 60 * MINUTE, reason="the file system is slow")
    story.ask(OPERATOR, opened)
    story.tick(60)
    assert tell(story, "ann") == [(1, "hit")]
    story.tick(7200)
    assert tell(story) == []
    story.ask(OPERATOR, CloseOutage(outage=1, reason="it is quick again"))
    story.tick(60)
    assert tell(story, "ann", "bob") == [(1, "hit")]
    assert told(story) == [("ann", "hit"), ("bob", "hit")]


# ── desks ──


def to_desks(story: Story) -> list[tuple[int, str, Why, str]]:
    """Outage, desk, why, and which pool."""
    due = [r.event for r in story.events if isinstance(r.event, NoticeDue) and r.event.desk]
    return [(e.outage, e.to, e.why, e.pool) for e in due]


def test_a_desk_is_told_once_when_a_pool_fails() -> None:
    story = struck("ann", nodes=2)
    for name in ("g1", "g2", "g3", "g4", "g5"):
        story.node(name, pool="gpu", rack="r9")
    desk(story)
    story.silence("n1")
    story.silence("n2")
    story.tick(60)
    tell(story)
    assert to_desks(story) == [], "half of a pool is not the pool"
    story.down("m1")
    story.tick(60)
    tell(story)
    assert to_desks(story) == [(3, "helpdesk", "pool", "default")], "the last straw"
    desk(story, "floor")
    for name in ("m2", "g1", "g2"):
        story.down(name)
        story.tick(60)
        tell(story)
    assert to_desks(story)[1:] == [(4, "floor", "service", ""), (4, "helpdesk", "service", "")]


def test_another_outage_of_a_pool_that_fails_is_no_news_but_its_next_failing_is() -> None:
    story = struck("ann", nodes=2)
    story.node("g1", pool="gpu")
    story.node("g2", pool="gpu")
    for name in ("g3", "g4", "g5", "g6", "g7"):
        story.node(name, pool="cpu")
    desk(story)
    for _ in range(2):
        story.silence("g1")
        story.silence("g2")
        story.tick(120)
        tell(story)
        tell(story)
        story.contact("g1")
        story.contact("g2")
        story.tick(120)
    assert [pool for _, _, _, pool in to_desks(story)] == ["gpu", "gpu"]


def test_a_desk_is_told_when_the_service_was_away_and_not_of_what_is_long_over() -> None:
    story = struck()
    story.tick(3600)
    story.restart()
    desk(story)
    story.tick(60)
    assert tell(story) == [(1, "service")]
    story.tick(7200)
    story.restart()
    story.tick(3 * 86_400)
    assert (2, "service") not in tell(story)


# ── the policy, and what becomes of notices ──


def test_who_turns_notices_off_is_not_flooded_when_they_are_on_again() -> None:
    story = struck("ann", "bob")
    story.ask(OPERATOR, SetPolicy(notify=0))
    story.silence("n1")
    story.tick(60)
    assert tell(story, "ann") == []
    story.ask(SYSTEM, Tell(outage=1, why="hit", users=("ann",)))
    assert told(story) == []
    story.ask(OPERATOR, SetPolicy(notify=1))
    story.tick(3600)
    assert tell(story, "ann") == []
    story.down("n2")
    story.tick(60)
    assert tell(story, "bob") == [(2, "hit")]


def test_a_notice_waits_until_it_was_sent_or_given_up() -> None:
    story = struck("ann", "bob")
    story.silence("n1", "n2")
    story.tick(60)
    tell(story, "ann", "bob")
    ann, bob = due(story.cluster, story.now)
    again_at = story.now + MINUTE
    story.ask(SYSTEM, RecordFailed(notice=ann.n, error="refused", tries=1, next_at=again_at))
    story.ask(SYSTEM, RecordFailed(notice=bob.n, error="no such user", tries=1, next_at=0))
    assert due(story.cluster, story.now) == []
    assert [(n.to, n.tries) for n in due(story.cluster, again_at)] == [("ann", 1)]
    story.ask(SYSTEM, RecordSent(notice=ann.n, channels=("mailtos", "json"), tries=2))
    story.ask(SYSTEM, RecordSent(notice=ann.n, channels=("json",), tries=3))
    assert due(story.cluster, again_at) == []
    events = [r.event for r in story.events if isinstance(r.event, NoticeSent)]
    assert [(e.to, e.channels, e.tries) for e in events] == [("ann", ("mailtos", "json"), 2)]


def test_how_somebody_is_told_is_his_own_to_say_and_a_desks_an_operators() -> None:
    story = struck()
    ann = SetContact(owner="ann", channels=("mailtos",), addresses=BLOB)
    story.ask("ann", ann)
    for who, command in (
        ("bob", ann),
        ("helpdesk", SetContact(owner="helpdesk", desk=True, channels=("json",))),
    ):
        with pytest.raises(Forbidden):
            story.ask(Subject(who, "user"), command)
    assert [(r.owner, r.channels, r.addresses) for r in story.cluster.recipients.values()] == [
        ("ann", ("mailtos",), "a" * 64)
    ]
    before = len(story.events)
    story.ask("ann", ann)
    assert len(story.events) == before
    story.ask(OPERATOR, SetContact(owner="ann"))
    assert story.cluster.recipients == {}


@settings(max_examples=40)
@given(st.randoms(use_true_random=False), st.integers(20, 150))
def test_in_any_story_nobody_is_told_twice(rng: Random, steps: int) -> None:
    told_once(Wanderer(Story(), rng, nodes=5).walk(steps).events)


def test_long_stories_tell_of_everything() -> None:
    whys: Counter[Why] = Counter()
    for seed in range(6):
        events = Wanderer(Story(), Random(seed), nodes=5).walk(600).events  # noqa: S311
        told_once(events)
        whys.update(r.event.why for r in events if isinstance(r.event, NoticeDue))
    assert {"hit", "cause", "announced", "over"} <= set(whys)
    assert {"pool", "service"} & set(whys)
