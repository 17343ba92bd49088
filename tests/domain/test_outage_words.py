"""What people say of outages: opened by hand, planned, closed, their causes."""

from typing import Any

import pytest

from ledger.commands import CloseOutage, FindCause, OpenOutage
from ledger.domain.errors import (
    Forbidden,
    Malformed,
    OutageIsOver,
    Refusal,
    UnknownNode,
    UnknownOutage,
)
from ledger.events import AttemptEnded, OutageOpened
from ledger.testing.stories import OPERATOR, Story

from .outage_support import MINUTE, cluster, happened, tend, there


def opened(story: Story, *nodes: str, **fields: Any) -> int:
    """An operator opens an outage; its number."""
    number = story.ask(OPERATOR, OpenOutage(nodes=nodes, reason="cooling", **fields)).reply
    assert isinstance(number, int)
    return number


def test_an_outage_opened_by_hand_takes_the_nodes_it_names_and_is_closed_by_hand() -> None:
    story = cluster(n1="r1", n2="r1", n3="r1")
    story.tick(3600)
    number = opened(story, "n1", "n2", since=story.now - 7_200_000_000)
    story.silence("n1", "n3")
    assert there(story) == {1: ["n1", "n2"], 2: ["n3"]}
    story.contact("n1")
    story.tick(7200)
    tend(story)
    assert number in story.cluster.outages
    story.ask(OPERATOR, CloseOutage(outage=number, reason="it is cold again"))
    assert story.cluster.past_outages[number].until == story.now


def test_asked_for_twice_it_is_one() -> None:
    story = cluster(n1="r1")
    first = opened(story, "n1", since=story.now)
    assert opened(story, "n1", since=story.now) == first
    assert len(happened(story, OutageOpened)) == 1


def test_planned_downtime_takes_its_nodes_while_it_is_on_and_no_others() -> None:
    story = cluster(n1="r1", n2="r1")
    begin, end = story.now + 10 * MINUTE, story.now + 60 * MINUTE
    plan = OpenOutage(nodes=("n1",), since=begin, until=end, reason="disks", planned=True)
    story.ask(OPERATOR, plan)
    story.silence("n1")
    story.contact("n1")
    story.tick(600)
    story.silence("n1", "n2")
    assert there(story) == {1: ["n1"], 2: ["n1"], 3: ["n2"]}
    assert story.cluster.nodes["n1"].outage == 1
    story.tick(3600)
    tend(story)
    assert 1 in story.cluster.outages, "it is longer than planned"
    story.contact("n1")
    back_at = story.now
    tend(story)
    assert story.cluster.past_outages[1].until == back_at


def test_planned_downtime_that_has_not_begun_is_called_off() -> None:
    story = cluster(n1="r1")
    begin = story.now + 10 * MINUTE
    plan = OpenOutage(nodes=("n1",), since=begin, until=begin + 1, reason="disks", planned=True)
    story.ask(OPERATOR, plan)
    story.ask(OPERATOR, CloseOutage(outage=1, reason="no disks came"))
    assert story.cluster.past_outages[1].until == begin


def test_what_was_closed_by_hand_is_not_opened_again_by_what_was_lost_in_it() -> None:
    story = cluster(n1="r1")
    job = story.submit("ann")
    story.place(job, "n1")
    story.silence("n1")
    story.ask(OPERATOR, CloseOutage(outage=1, reason="never mind"))
    story.down("n1")
    story.give_up(job)
    assert there(story) == {1: ["n1"]}
    (ended,) = happened(story, AttemptEnded)
    assert isinstance(ended, AttemptEnded)
    assert ended.outage == 1


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (OpenOutage(nodes=("n9",), since=1, reason="x"), UnknownNode),
        (OpenOutage(since=1, reason=" "), Malformed),
        (OpenOutage(since=1 << 60, reason="x"), Malformed),
        (OpenOutage(since=10, until=5, reason="x"), Malformed),
        (OpenOutage(since=10, until=1 << 60, reason="x"), Malformed),
        (OpenOutage(since=10, until=20, reason="x", planned=True), Malformed),
        (FindCause(outage=7, cause="x"), UnknownOutage),
        (FindCause(outage=1, cause=""), Malformed),
        (CloseOutage(outage=7, reason="x"), UnknownOutage),
        (CloseOutage(outage=1, reason="x"), OutageIsOver),
        (CloseOutage(outage=2, reason=""), Malformed),
        (CloseOutage(outage=2, reason="x", until=1), Malformed),
        (CloseOutage(outage=2, reason="x", until=1 << 60), Malformed),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(command: OpenOutage, refusal: type[Refusal]) -> None:
    story = cluster(n1="r1")
    opened(story, since=story.now - 2, until=story.now - 1)
    opened(story, "n1", since=story.now - 2)
    before = len(story.events)
    with pytest.raises(refusal):
        story.ask(OPERATOR, command)
    with pytest.raises((Forbidden, UnknownOutage)):
        story.ask("ann", command)
    assert len(story.events) == before


def test_a_cause_can_be_told_of_what_is_long_forgotten() -> None:
    story = cluster(n1="r1", n2="")
    story.silence("n1")
    story.contact("n1")
    story.tick(100)
    tend(story)
    story.tick(40 * 86_400)
    story.silence("n2")
    assert there(story) == {2: ["n2"]}
    story.ask(OPERATOR, FindCause(outage=1, cause="a mouse"))
    story.ask(OPERATOR, FindCause(outage=2, cause="a mouse"))
    before = len(story.events)
    story.ask(OPERATOR, FindCause(outage=2, cause="a mouse"))
    assert len(story.events) == before
