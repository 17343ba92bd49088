"""What the tables say of outages is what the log says; whom each hit is what a scan finds."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger.events import NoticeDue, NoticeSent
from ledger.testing.evidence import Evidence
from ledger.testing.stories import Story, Wanderer
from ledger_projections import outage_impact, outages
from oracles.outages import Outages
from oracles.scan import impact
from places import Place
from projection.keeping import Told, ask, close, kept, wandered


def hits(users: list[outage_impact.ImpactUser]) -> set[tuple[int, int, str]]:
    """Job, attempt and node of every hit."""
    return {(j.job, j.attempt, j.node) for user in users for j in user.jobs}


@pytest.mark.parametrize("seed", [4, 5])
def test_a_long_story(seed: int, place: Place) -> None:
    story = wandered(seed, 700)
    found = Outages(story.events)
    source = Told(story)
    follower = kept(outages.PROJECTION, place, source)
    follower.catch_up()
    rows = ask(follower, outages.list_outages, limit=10_000)
    assert [row.outage for row in rows] == sorted(found.groups, reverse=True)
    for row in rows:
        group = found.groups[row.outage]
        shown = ask(follower, outages.show_outage, row.outage)
        assert {m.node for m in shown.members} == group.nodes
        assert (row.closed_at is None) == group.open
        if group.open:
            away = {m.node for m in shown.members if m.lost_at and m.back_at is None}
            assert away == group.away, row
    assert [row.outage for row in ask(follower, outages.list_outages, only_open=True)] == [
        row.outage for row in rows if row.closed_at is None
    ]
    due = [r.event for r in story.events if isinstance(r.event, NoticeDue)]
    sent = {r.event.notice: r.at for r in story.events if isinstance(r.event, NoticeSent)}
    known = ask(follower, outages.notices)
    assert [(n.notice, n.to, n.why) for n in known] == [(e.notice, e.to, e.why) for e in due]
    assert {n.notice: n.sent_at for n in known if n.sent_at} == sent
    assert ask(follower, outages.notices, user="ann") == [n for n in known if n.to == "ann"]
    close(follower)


@pytest.mark.parametrize("seed", [6, 7])
def test_whom_the_outages_of_a_story_hit(seed: int, place: Place) -> None:
    """Every hit of a node's own trouble is one of exactly the outage that its event names."""
    story = wandered(seed, 700)
    source = Told(story)
    follower = kept(outage_impact.PROJECTION, place, source)
    follower.catch_up()
    every = hits(ask(follower, outage_impact.impact))
    numbers = range(1, story.cluster.next_outage)
    by_number = [hits(ask(follower, outage_impact.impact, outages=[n], window=False))
                 for n in numbers]  # fmt: skip
    assert set().union(*by_number) == every
    mine = ask(follower, outage_impact.impact, user="ann")
    assert {user.user for user in mine} <= {"ann"}
    close(follower)


def test_a_thousand_random_outages(tmp_path: Path, full: bool, evidence: Evidence) -> None:
    """Acceptance 2 of what outages show: any nodes and any window, against a scan of all events."""
    wanted, tried, hit = 1_000 if full else 60, 0, 0
    for seed in range(20 if full else 2):
        story = Wanderer(Story(), Random(seed), nodes=6).walk(500)  # noqa: S311
        source = Told(story)
        place = Place(tmp_path / str(seed), None)
        place.data.mkdir()  # type: ignore[union-attr]
        follower = kept(outage_impact.PROJECTION, place, source)
        follower.catch_up()
        rng = Random(seed)  # noqa: S311
        times = [r.at for r in story.events]
        for _ in range(wanted // (20 if full else 2)):
            nodes = rng.sample([f"n{i}" for i in range(1, 7)], rng.randrange(1, 7))
            since, until = sorted(rng.choices(times, k=2))
            asked: dict[str, Any] = {"nodes": nodes, "since": since, "until": until}
            users = ask(follower, outage_impact.impact, **asked)
            expected = impact(story.events, **asked)
            found = [
                (u.user, u.account, j.job, j.attempt, j.node, j.effect, j.state, j.lost_us)
                for u in users
                for j in u.jobs
            ]
            assert found == [
                (h.user, h.account, h.job, h.attempt, h.node, h.effect, h.state, h.lost_us)
                for h in expected
            ]
            tried, hit = tried + 1, hit + bool(expected)
        close(follower)
    assert hit > tried // 10
    evidence(
        "affected users, random outages of stories",
        f"{tried} outages tried, {hit} of which hit somebody, 0 lists other than the scan's",
    )
