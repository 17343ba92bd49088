"""One cause, one outage: which losses belong together, and when it is over."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.commands import Configure, ReportEnded, Retire, Subject
from ledger.domain.state import Outage
from ledger.events import AttemptEnded, NodeStateChanged, OutageClosed, OutageGrew, OutageOpened
from ledger.testing.stories import OPERATOR, Story, Wanderer
from oracles.outages import Outages

from .outage_support import cluster, happened, numbers, tend, there


def test_nodes_of_a_rack_lost_within_the_window_are_one_outage() -> None:
    story = cluster(n1="r1", n2="r1", n3="r2", n4="r1", n5="")
    story.silence("n1", "n2", "n3", "n5")
    story.tick(60)
    story.down("n4")
    assert there(story) == {1: ["n1", "n2", "n4"], 2: ["n3"], 3: ["n5"]}
    opened = happened(story, OutageOpened)[0]
    grew = happened(story, OutageGrew)
    assert isinstance(opened, OutageOpened)
    assert (opened.kind, opened.rack, opened.cause) == ("nodes", "r1", "silent")
    assert opened.since == story.now - 360_000_000  # it fell silent a lease before that was known
    assert [(e.nodes, e.rack) for e in grew if isinstance(e, OutageGrew)] == [
        (("n2",), "r1"),
        (("n4",), "r1"),
    ]
    assert numbers(story, NodeStateChanged)[-5:] == [1, 1, 2, 3, 1]


def test_later_than_the_window_is_another_outage() -> None:
    story = cluster(n1="r1", n2="r1")
    story.down("n1")
    story.tick(60.000001)
    story.down("n2")
    assert there(story) == {1: ["n1"], 2: ["n2"]}


def test_each_loss_begins_the_window_anew() -> None:
    story = cluster(n1="r1", n2="r1", n3="r1")
    for name in ("n1", "n2", "n3"):
        story.down(name)
        story.tick(59)
    assert there(story) == {1: ["n1", "n2", "n3"]}


def test_the_pool_stands_for_the_place_of_nodes_that_have_none() -> None:
    story = cluster(n1="", n2="", n3="", n4="r1", n5="")
    story.ask(OPERATOR, Configure(node="n3", pool="other"))
    story.silence("n1", "n2", "n3", "n4")
    assert there(story) == {1: ["n1", "n2"], 2: ["n3"], 3: ["n4"]}
    story.ask(OPERATOR, Configure(node="n1", pool="other"))
    story.down("n5")
    assert there(story)[1] == ["n1", "n2", "n5"], "where it stood then"


def test_what_all_have_in_common_narrows_as_it_grows() -> None:
    """Two in a rack, on different feeds: then it was not the feed."""
    story = cluster(n1="", n2="", n3="", n4="")
    places = {"n1": ("r1", "p1"), "n2": ("r1", "p2"), "n3": ("r9", "p1"), "n4": ("r1", "p9")}
    for name, (rack, power) in places.items():
        story.ask(OPERATOR, Configure(node=name, rack=rack, power=power))
    for name in places:
        story.down(name)
    assert there(story) == {1: ["n1", "n2", "n4"], 2: ["n3"]}
    first = story.cluster.outages[1]
    assert (first.rack, first.switch, first.power) == ("r1", "", "")


def test_a_member_that_is_lost_again_stays_however_late() -> None:
    story = cluster(n1="r1", n2="r1")
    story.silence("n1", "n2")
    story.contact("n1")
    story.tick(7200)
    story.silence("n1")
    assert there(story) == {1: ["n1", "n2"]}
    assert len(happened(story, OutageOpened, OutageGrew)) == 2


def test_a_node_that_is_down_is_not_lost_once_more() -> None:
    story = cluster(n1="r1", n2="r1")
    story.silence("n1")
    story.tick(3600)
    story.down("n1")
    story.down("n2")
    assert there(story) == {1: ["n1"], 2: ["n2"]}, "declaring n1 dead did not open the window again"
    last = happened(story, NodeStateChanged)[-2]
    assert isinstance(last, NodeStateChanged)
    assert (last.node, last.outage) == ("n1", 1)


def test_an_outage_is_over_when_all_are_back_and_the_window_is() -> None:
    story = cluster(n1="r1", n2="r1")
    story.silence("n1", "n2")
    story.tick(10)
    story.contact("n1")
    story.tick(100)
    tend(story)
    assert 1 in story.cluster.outages
    story.contact("n2")
    back_at = story.now
    story.tick(5)
    tend(story)
    (closed,) = happened(story, OutageClosed)
    assert isinstance(closed, OutageClosed)
    assert closed.until == back_at


def test_within_the_window_it_stays_open_though_all_are_back() -> None:
    story = cluster(n1="r1")
    story.silence("n1")
    story.contact("n1")
    story.tick(60)
    tend(story)
    assert happened(story, OutageClosed) == []
    story.tick(0.000001)
    tend(story)
    assert len(happened(story, OutageClosed)) == 1


def test_a_loss_closes_what_was_over_so_that_nothing_hangs_on_when_the_clock_looked() -> None:
    """A node that is lost again after its outage was over is a new outage, tended or not."""
    stories = [cluster(n1="r1"), cluster(n1="r1")]
    for story in stories:
        story.silence("n1")
        story.contact("n1")
        story.tick(61)
        if story is stories[0]:
            tend(story)
        story.silence("n1")
        assert there(story) == {1: ["n1"], 2: ["n1"]}
        assert list(story.cluster.outages) == [2]


def test_a_retired_node_keeps_no_outage_open() -> None:
    story = cluster(n1="r1")
    story.silence("n1")
    story.tick(100)
    story.ask(OPERATOR, Retire(node="n1"))
    tend(story)
    assert story.cluster.outages == {}


def test_an_attempt_that_a_node_lost_without_silence_is_a_loss_of_the_node() -> None:
    """A power dip: both machines of a rack start anew within their lease."""
    story = cluster(n1="r1", n2="r1")
    jobs = [story.submit("ann", restartable=True) for _ in range(2)]
    for node, job in zip(("n1", "n2"), jobs, strict=True):
        story.place(job, node)
        story.start(job)
    story.reboot("n1")
    story.tick(20)
    about: dict[str, Any] = {"node": "n2", "job": jobs[1], "attempt": 1}
    report = ReportEnded(**about, end="node_fail", cause="agent_restarted")
    story.ask(Subject("n2", "node"), report)
    assert there(story) == {1: ["n1", "n2"]}
    assert numbers(story, AttemptEnded) == [1, 1]
    story.tick(61)
    tend(story)
    assert story.cluster.past_outages[1].until == story.now - 61_000_000


def test_an_attempt_that_is_given_up_names_the_outage_that_took_its_node() -> None:
    story = cluster(n1="r1", n2="r2")
    job = story.submit("ann", restartable=True)
    story.place(job, "n1")
    story.silence("n1")
    story.give_up(job)
    (ended,) = happened(story, AttemptEnded)
    assert isinstance(ended, AttemptEnded)
    assert ended.outage == 1
    assert there(story) == {1: ["n1"]}


def test_what_was_cancelled_was_not_lost() -> None:
    story = cluster(n1="r1")
    job = story.submit("ann")
    story.place(job, "n1")
    story.start(job)
    story.cancel(job)
    story.reboot("n1")
    assert happened(story, OutageOpened) == []


# ── any story ──


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(20, 150))
def test_any_story_has_the_outages_that_the_rule_says(rng: Random, steps: int) -> None:
    story = Wanderer(Story(), rng, nodes=5).walk(steps)
    found = Outages(story.events)
    c = story.cluster
    assert {o.n for o in c.outages.values()} == {n for n, g in found.groups.items() if g.open}
    for o in c.outages.values():
        assert looks(o) == (found.groups[o.n].nodes, found.groups[o.n].away), o


def looks(o: Outage) -> tuple[set[str], set[str]]:
    """Its nodes, and those that are away."""
    return o.nodes, o.away


def test_long_stories_have_outages_of_every_kind() -> None:
    kinds: set[str] = set()
    members = losses = 0
    for seed in range(4):
        story = Wanderer(Story(), Random(seed), nodes=6).walk(600)  # noqa: S311
        found = Outages(story.events)
        kinds |= {group.kind for group in found.groups.values()}
        members = max(members, *(len(g.nodes) for g in found.groups.values() if g.kind == "nodes"))
        losses += found.losses
    assert kinds == {"nodes", "master", "operator", "planned"}
    assert members >= 3
    assert losses > 40
