"""Who starts where: strictly in order within a pool, and why everybody else waits."""

import pytest

from ledger.commands import SYSTEM, Configure, Place
from ledger.domain.errors import StaleProposal, UnknownJob
from ledger.domain.explain import Heads, why
from ledger.domain.schedule import natural, plan, view
from ledger.events import Decision, Dependency
from ledger.testing.stories import OPERATOR, Story

SECOND = 1_000_000


def cluster(*nodes: str, pool: str = "default") -> Story:
    """A story with these nodes, idle."""
    story = Story()
    for name in nodes:
        story.node(name, pool=pool)
    return story


def proposals(story: Story) -> dict[int, tuple[str, ...]]:
    """What the planner proposes now."""
    return {p.job: p.nodes for p in plan(view(story.cluster, story.now)).places}


def reason(story: Story, job: int) -> str:
    """Why a job waits, asked in both ways."""
    token = why(story.cluster, job, story.now).reason
    assert Heads(story.cluster, story.now).reason(story.cluster.jobs[job]) == token
    return token


def test_first_come_first_served() -> None:
    story = cluster("n1", "n2")
    first, second, third = (story.submit(user) for user in ("bob", "ann", "bob"))
    assert proposals(story) == {first: ("n1",), second: ("n2",)}
    assert [reason(story, job) for job in (first, second, third)] == [
        "None",
        "Priority",
        "Priority",
    ]
    placed = story.plan()
    assert [(p.decision.rank, p.decision.of, p.decision.how) for p in placed] == [
        (1, 3, "in_order"),
        (2, 3, "in_order"),
    ]
    assert reason(story, third) == "Resources"


def test_a_wide_job_keeps_everybody_behind_it_waiting_in_its_own_pool_only() -> None:
    story = cluster("n1", "n2")
    story.node("g1", pool="gpu")
    story.submit("ann")
    story.plan()
    wide = story.submit("ann", nodes=2)
    narrow = story.submit("bob")
    elsewhere = story.submit("bob", pool="gpu")
    assert proposals(story) == {elsewhere: ("g1",)}
    assert plan(view(story.cluster, story.now)).heads == {"default": wide}
    assert (reason(story, wide), reason(story, narrow)) == ("Resources", "Priority")
    told = why(story.cluster, narrow, story.now)
    assert (told.ahead, told.ahead_jobs, told.ahead_node_s) == (1, (wide,), 2 * 3600)


def test_a_job_whose_nodes_are_out_of_service_blocks_nobody_and_that_is_on_record() -> None:
    story = cluster("n1", "n2")
    story.drain("n2")
    wide = story.submit("ann", nodes=2)
    narrow = story.submit("bob")
    assert (reason(story, wide), reason(story, narrow)) == ("ReqNodeNotAvail", "None")
    (placed,) = story.plan()
    assert placed.job == narrow
    assert (placed.decision.passed.count, placed.decision.passed.jobs) == (1, (wide,))
    story.resume("n2")
    assert reason(story, wide) == "Resources"


def test_a_job_that_may_not_begin_yet_blocks_nobody_and_wakes_the_planner() -> None:
    story = cluster("n1")
    soon, later = story.now + 5 * SECOND, story.now + 9 * SECOND
    late = story.submit("ann", begin_at=later)
    early = story.submit("ann", begin_at=soon)
    now = story.submit("bob")
    behind = story.submit("bob", nodes=1, begin_at=soon - SECOND)
    made = plan(view(story.cluster, story.now))
    assert [p.job for p in made.places] == [now]
    assert made.wake_at == soon - SECOND
    assert reason(story, late) == reason(story, behind) == "BeginTime"
    story.now = soon
    assert list(proposals(story)) == [early]
    decision = Decision(view=1, now=1, rules=1, policy=1, rank=1, of=1, how="in_order")
    with pytest.raises(StaleProposal, match="may not begin"):
        story.ask(SYSTEM, Place(job=late, nodes=("n1",), decision=decision))


def test_the_planner_wakes_for_jobs_behind_the_one_that_blocks() -> None:
    story = cluster("n1")
    story.submit("ann")
    story.plan()
    story.submit("ann")
    story.submit("ann", begin_at=story.now + SECOND)
    assert plan(view(story.cluster, story.now)).wake_at == story.now + SECOND


def test_nodes_are_chosen_plain_ones_first_and_in_natural_order() -> None:
    story = Story()
    story.node("n2", features=("ssd",))
    for name in ("n10", "n9", "m1"):
        story.node(name)
    job = story.submit("ann", nodes=3)
    picky = story.submit("ann", features=("ssd",))
    assert proposals(story) == {job: ("m1", "n9", "n10"), picky: ("n2",)}


def test_natural_order_has_no_surprise() -> None:
    names = ["", "1", "2", "10", "a", "a1", "a1b", "a2", "a10", "b"]
    names_apart = sorted(names, key=len)
    assert sorted(names_apart, key=natural) == names


def test_features_exclusions_and_lost_nodes_are_respected() -> None:
    story = Story()
    for name in ("n1", "n2", "n3"):
        story.node(name, features=("ssd",) if name != "n3" else ())
    job = story.submit("ann", features=("ssd",), exclude=("n1",), restartable=True)
    assert proposals(story) == {job: ("n2",)}
    story.plan()
    story.start(job)
    story.end(job, "node_fail", None)
    assert story.cluster.jobs[job].avoid == ("n2",)
    assert proposals(story) == {job: ("n2",)}, "there is no other: better there than never"
    free = story.submit("bob", restartable=True)
    story.place(free, "n3")
    story.start(free)
    story.end(free, "node_fail", None)
    assert proposals(story)[free] == ("n1",)
    story.drain("n1")
    story.drain("n2")
    assert reason(story, free) == "ReqNodeNotAvail"


def test_exclusions_are_respected_without_any_features_too() -> None:
    story = cluster("n1", "n2")
    job = story.submit("ann", exclude=("n1",))
    assert proposals(story) == {job: ("n2",)}
    story.drain("n2")
    assert proposals(story) == {}


def test_a_proposal_is_decided_again_against_the_state_of_then() -> None:
    story = cluster("n1", "n2")
    job, wide = story.submit("ann"), story.submit("ann", nodes=2)
    decision = Decision(view=1, now=1, rules=1, policy=1, rank=1, of=1, how="in_order")

    def propose(job: int, *nodes: str) -> None:
        story.ask(SYSTEM, Place(job=job, nodes=nodes, decision=decision))

    story.drain("n2")
    for nodes in (("n2",), ("n1", "n2"), ("n9",), ()):
        with pytest.raises(StaleProposal):
            propose(job, *nodes)
    with pytest.raises(StaleProposal):
        propose(wide, "n1", "n1")
    propose(job, "n1")
    with pytest.raises(StaleProposal):
        propose(job, "n1")
    with pytest.raises(StaleProposal):
        propose(99, "n1")


def test_a_proposal_for_a_node_that_does_not_suit_is_dropped() -> None:
    """Whatever the planner thought: what it should not have proposed does not happen."""
    story = cluster("n1", "n2")
    story.node("g1", pool="gpu")
    decision = Decision(view=1, now=1, rules=1, policy=1, rank=1, of=1, how="in_order")
    first = story.submit("ann")
    story.place(first, "n1")
    picky = story.submit("ann", exclude=("n2",))
    story.node("s1", features=("ssd",))
    fast = story.submit("ann", features=("ssd",))
    for job, node in ((story.submit("ann"), "n1"), (picky, "n2"), (fast, "n2"), (fast, "g1")):
        with pytest.raises(StaleProposal, match=f"Node {node} can't take job {job}"):
            story.ask(SYSTEM, Place(job=job, nodes=(node,), decision=decision))
    with pytest.raises(StaleProposal, match="Node g1"):
        story.ask(SYSTEM, Place(job=picky, nodes=("g1",), decision=decision))
    assert story.cluster.running == {first}


def test_the_reasons_that_need_no_nodes() -> None:
    story = cluster("n1")
    other = story.submit("ann")
    after = story.submit("bob", depends=(Dependency(kind="afterok", job=other),))
    held = story.submit("ann", held=True)
    assert (reason(story, after), reason(story, held)) == ("Dependency", "JobHeldUser")
    story.cancel(other)
    assert reason(story, after) == "DependencyNeverSatisfied"
    story.hold(after)
    assert reason(story, after) == "JobHeldUser"
    with pytest.raises(UnknownJob):
        why(story.cluster, other, story.now)


def test_a_pool_that_has_become_too_small() -> None:
    story = cluster("n1", "n2")
    wide = story.submit("ann", nodes=2)
    story.ask(OPERATOR, Configure(node="n2", pool="attic"))
    assert reason(story, wide) == "BadConstraints"
    assert list(proposals(story)) == []


def test_a_running_job_is_told_apart_from_one_out_of_contact() -> None:
    story = cluster("n1")
    job = story.submit("ann")
    story.plan()
    assert "runs as attempt 1 on n1" in why(story.cluster, job, story.now).sentence
    story.cancel(job)
    assert "told to stop" in why(story.cluster, job, story.now).sentence
    story.silence("n1")
    assert "out of contact" in why(story.cluster, job, story.now).sentence
