"""Nodes: what they are told, when they are out of service, and when they come back."""

from typing import Any

import pytest
from msgspec.structs import replace

from ledger.commands import SYSTEM, Contact, Down, Drain, Enrol, GiveUp, Subject
from ledger.domain.attempt import give_up_at
from ledger.domain.errors import StaleSync
from ledger.domain.orders import wanted
from ledger.domain.state import MOST_REASONS
from ledger.events import AttemptEnded, AttemptPlaced, Event, NodeStateChanged
from ledger.testing.stories import OPERATOR, START, Story


def cluster(*nodes: str) -> Story:
    """A story with these nodes, idle."""
    story = Story()
    for name in nodes:
        story.node(name)
    return story


def placed(story: Story, *nodes: str, restartable: bool = True) -> int:
    """A job that was placed on these nodes and has not been started."""
    job = story.submit("ann", nodes=len(nodes), restartable=restartable)
    story.place(job, *nodes)
    return job


def happened(story: Story, kind: type[Event], since: int = 0) -> list[Event]:
    """The events of a kind."""
    return [r.event for r in story.events[since:] if isinstance(r.event, kind)]


def test_a_node_that_speaks_with_something_foreign_is_told_what_to_do_and_nothing_is_given_up() -> (
    None
):
    """Its agent gets orders again, and may start what it is told: that must not start elsewhere."""
    story = cluster("n1", "n2")
    job = placed(story, "n1")
    story.silence("n1")
    story.contact("n1", has={(999, 1)})
    node = story.cluster.nodes["n1"]
    assert (node.state, node.silent_since) == ("down", 0)
    assert give_up_at(story.cluster, story.cluster.jobs[job]) is None
    story.tick(100_000)
    story.ask(SYSTEM, GiveUp(job=job, attempt=1))
    assert happened(story, AttemptEnded) == []
    story.contact("n1", has={(job, 1)})
    assert story.cluster.nodes["n1"].state == "allocated"


def test_a_dead_node_that_speaks_stays_dead_until_it_is_empty() -> None:
    story = cluster("n1")
    job = placed(story, "n1")
    story.start(job)
    story.silence("n1")
    story.down("n1")
    story.contact("n1")
    assert story.cluster.nodes["n1"].cause == "declared_dead"
    assert [w.stop for w in wanted(story.cluster, "n1")] == ["node_down"]
    story.end(job, "stopped", None)
    story.contact("n1")
    before = story.cluster.nodes["n1"].state
    story.resume("n1")
    assert (before, story.cluster.nodes["n1"].state) == ("drained", "idle")


def contact(story: Story, node: str, spool: str) -> None:
    """The agent with this spool says that it has nothing."""
    command = Contact(node=node, spool=spool, boot_id=spool, build="0", protocol=1)
    story.ask(Subject(node, "node"), command)


def test_what_an_earlier_agent_said_and_comes_late_is_not_believed() -> None:
    """A call that hung in the network while the machine started anew knows nothing of now."""
    story = cluster("n1", "n2")
    story.reboot("n1")
    job = placed(story, "n1")
    story.start(job)
    with pytest.raises(StaleSync):
        contact(story, "n1", "n1-1")
    assert happened(story, AttemptEnded) == []


def test_an_agent_that_has_lost_its_memory_has_lost_its_job() -> None:
    story = cluster("n1", "n2")
    job = placed(story, "n1")
    story.start(job)
    story.reboot("n1")
    (ended,) = happened(story, AttemptEnded)
    assert isinstance(ended, AttemptEnded)
    assert (ended.cause, ended.next, ended.lost) == ("agent_forgot", "requeued", ("n1",))


def test_a_draining_node_is_drained_when_the_last_of_its_attempts_has_ended() -> None:
    """The rules place one job a node; a log of another kind of cluster need not."""
    story = cluster("n1", "n2")
    first = placed(story, "n1")
    second = placed(story, "n2")
    (event,) = [e for e in happened(story, AttemptPlaced) if getattr(e, "job", 0) == second]
    story.record(replace(event, nodes=("n1",)))
    story.drain("n1")
    story.end(first)
    assert story.cluster.nodes["n1"].state == "draining"
    assert [getattr(e, "to", "") for e in happened(story, NodeStateChanged)][-1] == "draining"
    story.end(second)
    assert [getattr(e, "to", "") for e in happened(story, NodeStateChanged)][-1] == "drained"


def test_why_a_node_is_drained_is_still_known_after_its_silence() -> None:
    story = cluster("n1")
    story.ask(OPERATOR, Drain(node="n1", reason="new disk"))
    story.silence("n1")
    assert (story.cluster.nodes["n1"].state, story.cluster.nodes["n1"].reason) == (
        "down",
        "new disk",
    )
    story.contact("n1")
    assert story.cluster.nodes["n1"].reason == "new disk"
    assert story.cluster.nodes["n1"].state == "drained"


def drained(story: Story, *reasons: str) -> None:
    """The operator drains n1, a second apart, for each of these reasons."""
    for reason in reasons:
        story.tick(1)
        story.ask(OPERATOR, Drain(node="n1", reason=reason))


def test_the_first_reason_to_drain_stays_and_later_ones_follow() -> None:
    story = cluster("n1")
    drained(story, "new disk", "fan is loud")
    node = story.cluster.nodes["n1"]
    assert [(s.reason, s.by, s.at) for s in node.said] == [
        ("new disk", "root", START + 1_000_000),
        ("fan is loud", "root", START + 2_000_000),
    ]
    assert (node.reason, node.cause, node.since) == ("new disk", "operator", START + 1_000_000)
    last = happened(story, NodeStateChanged)[-1]
    assert (getattr(last, "was", ""), getattr(last, "to", "")) == ("drained", "drained")


def test_a_reason_that_is_known_is_no_event() -> None:
    story = cluster("n1")
    drained(story, "new disk", "fan is loud")
    before = len(story.events)
    drained(story, "new disk", "fan is loud", "")
    assert len(story.events) == before


def test_reasons_outlive_silence_and_end_by_resuming() -> None:
    story = cluster("n1")
    drained(story, "new disk")
    story.silence("n1")
    drained(story, "fan is loud")
    node = story.cluster.nodes["n1"]
    assert (node.state, node.cause) == ("down", "silent"), "a reason to drain is no news of it"
    assert node.silent_since == START + 1_000_000
    story.contact("n1")
    assert [s.reason for s in node.said] == ["new disk", "fan is loud"]
    story.resume("n1")
    assert [s.reason for s in node.said] == []
    drained(story, "again")
    assert [s.reason for s in node.said] == ["again"]


def test_whoever_declares_a_drained_node_dead_adds_his_reason() -> None:
    story = cluster("n1")
    drained(story, "new disk")
    story.ask(OPERATOR, Down(node="n1", reason="burnt"))
    story.contact("n1")
    node = story.cluster.nodes["n1"]
    assert [(s.cause, s.reason) for s in node.said] == [
        ("operator", "new disk"),
        ("declared_dead", "burnt"),
    ]


def test_a_node_that_was_drained_before_it_was_empty_is_not_free_when_it_is_resumed() -> None:
    story, name = cluster("n1"), "n2"
    story.ask(OPERATOR, Enrol(node=name, pool="default", token=f"t-{name}", sha256="digest"))
    node = story.cluster.nodes[name]
    story.ask(OPERATOR, Drain(node=name, reason="too early"))
    assert node.state == "drained"
    story.resume("n2")
    assert (node.state, node.free) == ("checking", False)
    story.drain("n2")
    story.contact("n2", has=())
    assert node.state == "drained"
    story.resume("n2")
    assert (node.state, node.free) == ("idle", True)


def test_of_many_reasons_the_first_and_the_last_ones_are_remembered() -> None:
    story = cluster("n1")
    reasons = [f"reason {n}" for n in range(MOST_REASONS + 5)]
    drained(story, *reasons)
    said = [s.reason for s in story.cluster.nodes["n1"].said]
    assert said == [reasons[0], *reasons[-(MOST_REASONS - 1) :]]


def test_a_node_that_cant_record_gets_no_job_keeps_what_it_has_and_comes_back() -> None:
    story = cluster("n1", "n2")
    job = placed(story, "n1")
    story.start(job)
    for name in ("n1", "n2", "n2"):
        said = Contact(**spoken(story, name), cannot_record="No space left on device")
        story.ask(Subject(name, "node"), said)
    nodes = story.cluster.nodes
    assert [(n.state, n.cause, n.reason, n.free) for n in nodes.values()] == [
        ("checking", "cannot_record", "No space left on device", False)
    ] * 2
    assert story.cluster.jobs[job].state == "running"
    for name in nodes:
        story.ask(Subject(name, "node"), Contact(**spoken(story, name)))
    assert [(n.state, n.cause) for n in nodes.values()] == [
        ("allocated", "records_again"),
        ("idle", "records_again"),
    ]


def spoken(story: Story, name: str) -> dict[str, Any]:
    """What the agent of a node says of itself, as it did before."""
    node = story.cluster.nodes[name]
    return {
        "node": name,
        "spool": node.spool,
        "boot_id": node.boot_id,
        "build": node.build,
        "protocol": 1,
        "image": node.image,
        "kernel": node.kernel,
        "packages_sha256": node.packages_sha256,
        "has": frozenset(node.attempts),
    }
