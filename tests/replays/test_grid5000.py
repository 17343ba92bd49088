"""The nodes of a real grid, told to our rules: what they were on both sides of every moment when
one changed, which losses were one outage, and who was told of it."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from ledger.events import NoticeDue, OutageOpened
from ledger.testing.evidence import Evidence
from ledger.testing.projections import log_of
from ledger_projections import node_history
from oracles.outages import Outages, told_once
from oracles.windows import Lost, outages
from places import Place
from projection.keeping import ask, close, kept
from replays.grid5000 import FILE, SECOND, Interval, Replay, intervals, steps

WINDOW_US = 60 * SECOND
WORDS = {True: "allocated", False: "down"}
ASKED = 300
"""Boundaries, in CI, of which the projection is asked what was right before and then."""


class Told(NamedTuple):
    """The trace as told, and how many boundaries between two states were looked at."""

    replay: Replay
    trace: dict[str, list[Interval]]
    boundaries: int


@pytest.fixture(scope="module")
def told(shared: Path, full: bool) -> Told:
    """One cluster in CI, all of them at full size; the fold is right at every moment."""
    trace = intervals(shared / FILE, lambda one: full or one.cluster == "c4")
    moments = list(steps(trace))
    replay = Replay(moments[0][0])
    nodes = replay.story.cluster.nodes
    up: dict[str, bool] = {}
    boundaries = 0
    for at, some in moments:
        before = {step.node: up[step.node] for step in some if step.node in up}
        for node, was in before.items():
            assert nodes[node].state == WORDS[was], f"{node} before {at}"
        replay.tell(at, some)
        up |= {step.node: step.up for step in some}
        for step in some:
            assert nodes[step.node].state == WORDS[up[step.node]], f"{step.node} from {at} on"
        boundaries += sum(step.node in before for step in some)
    replay.tell_people(replay.story.now + 10 * WINDOW_US)
    return Told(replay, trace, boundaries)


@pytest.fixture(scope="module")
def history(told: Told, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The projection of it."""
    place = Place(tmp_path_factory.mktemp("history"), None)
    follower = kept(node_history.PROJECTION, place, log_of(told.replay.story))
    follower.rebuild()
    follower.catch_up()
    yield follower
    close(follower)


@pytest.mark.timeout(900)
def test_the_states_on_both_sides_of_every_boundary(
    told: Told, history: Any, full: bool, evidence: Evidence
) -> None:
    """All of a node's states at once; and, moment by moment, the state right before and then."""
    boundaries: list[tuple[str, int, str, str]] = []
    for node, mine in told.trace.items():
        periods = ask(history, node_history.periods, node=node, limit=10_000)[::-1]
        found = [(p.state, p.since) for p in periods if p.until != p.since]
        lasting = [one for one in mine if one.stop != one.start]
        assert found == [("serving" if one.up else "down", one.start) for one in lasting], node
        assert [p.until for p in periods[:-1]] == [p.since for p in periods[1:]]
        words = [WORDS[one.up] for one in lasting]
        starts = [one.start for one in lasting]
        boundaries += [
            (node, at, *both) for at, both in zip(starts[1:], pairwise(words), strict=True)
        ]
    asked = boundaries if full else Random(1).sample(boundaries, ASKED)  # noqa: S311
    with history._store._engine.begin() as connection:
        for node, at, before, then in asked:
            assert node_history.state_at(connection, node, at - 1) == before, (node, at)
            assert node_history.state_at(connection, node, at) == then, (node, at)
    evidence(
        "Grid'5000: states of nodes at the boundaries of their intervals",
        f"{len(told.trace)} nodes, {sum(map(len, told.trace.values())):,} intervals, "
        f"{told.boundaries:,} boundaries; before and behind each, 0 differ in the fold and in all "
        f"states of `node_history`; {len(asked):,} asked of it moment by moment, 0 differ",
    )


def test_outages_are_those_of_the_window_rule(told: Told, evidence: Evidence) -> None:
    """Their number, and the nodes of each, by three ways: the master's rule, a scan of what the log
    says of nodes, and a scan of who went and came."""
    replay = told.replay
    by_rule = outages(replay.changes, WINDOW_US)
    opened = [r.event.outage for r in replay.story.events if isinstance(r.event, OutageOpened)]
    scanned = Outages(replay.story.events)
    assert len(by_rule) == len(opened) == len(scanned.groups)
    assert [one.nodes for one in by_rule] == [scanned.groups[n].nodes for n in opened]
    assert scanned.losses == sum(change.down for change in replay.changes)
    large = sum(len(one.nodes) > 1 for one in by_rule)
    assert large > 100, "the rule was not tried"
    evidence(
        "Grid'5000: outages by the window rule",
        f"{scanned.losses:,} losses of nodes in {len({c.domain for c in replay.changes})} clusters:"
        f" {len(opened):,} outages, {large:,} of them of several nodes (at most "
        f"{max(len(one.nodes) for one in by_rule)}), as a brute-force count has them, each with "
        f"the same nodes",
    )


def hit(replay: Replay, by_rule: list[Lost]) -> Counter[tuple[int, str]]:
    """Whom each outage hit: whose job was on a node when it went."""
    return Counter(
        {
            (number, replay.owners[place]): 1
            for number, one in enumerate(by_rule, 1)
            for place in one.losses
            if place in replay.owners
        }
    )


def test_whoever_is_hit_has_one_notice_an_outage(told: Told, evidence: Evidence) -> None:
    replay = told.replay
    due = Counter(
        (e.outage, e.to)
        for e in (r.event for r in replay.story.events)
        if isinstance(e, NoticeDue) and e.why == "hit"
    )
    expected = hit(replay, outages(replay.changes, WINDOW_US))
    assert due == expected, "one each, nobody else"
    assert len({user for _, user in due}) > 5
    told_once(replay.story.events)
    evidence(
        "Grid'5000: notices",
        f"{replay.submitted:,} jobs of {len({user for _, user in due})} users: {len(due):,} times "
        f"an outage hit a user, who had one notice each",
    )
