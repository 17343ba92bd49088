"""Evolving never refuses: whatever a log says, even one that no master of ours would write."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain import cluster
from ledger.domain.cluster import evolve, fold
from ledger.domain.explain import Heads, why
from ledger.domain.orders import due, wanted
from ledger.domain.schedule import plan, view
from ledger.domain.snapshot import from_bytes, to_bytes
from ledger.domain.state import Cluster
from ledger.events import (
    EVENTS,
    Dependency,
    Envelope,
    Event,
    JobEnded,
    JobSpec,
    JobsSubmitted,
    NodeConfigured,
    NodeEnrolled,
    NodeStateChanged,
    Recorded,
)
from ledger.testing.stories import Story

NAMES = ("ann", "bob", "n1", "n2")
BEGINNING: list[Event] = [
    NodeEnrolled(node="n1", pool="default"),
    NodeEnrolled(node="n2", pool="default"),
    JobsSubmitted(first_job=1, count=3, user="ann", specs=(JobSpec(),), array="0-2", key="ann"),
]
SMALL = st.integers(1, 6)


def of_type(hint: Any, name: str) -> st.SearchStrategy[Any]:
    """Values of an event's field, few enough that events speak of the same things."""
    if name in ("first_job", "job", "attempt", "count", "part", "nodes") and hint is int:
        return SMALL
    if name in ("at", "placed_at", "submitted_at", "begin_at"):
        return st.integers(0, 10)
    if name in ("node", "user", "by", "key", "token", "sha256"):
        return st.sampled_from(NAMES)
    if name == "nodes" or name == "lost":
        return st.lists(st.sampled_from(NAMES), max_size=3).map(tuple)
    if name == "pool":
        return st.sampled_from(("default", "gpu"))
    if name == "array":
        return st.sampled_from(("", "", "0-2", "7,3", "no array"))
    if name == "depends":
        kinds = st.sampled_from(("afterok", "afterany", "afternotok"))
        return st.lists(st.builds(Dependency, kind=kinds, job=SMALL), max_size=2).map(tuple)
    if hint is int:
        return st.integers(0, 3)
    if hint is str:
        return st.sampled_from(("", "x"))
    return any_of(hint)


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type."""
    arguments = get_args(hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structs(hint)
    if getattr(hint, "__origin__", None) is tuple:
        return st.lists(of_type(arguments[0], ""), max_size=2).map(tuple)
    if arguments and type(None) in arguments:
        return st.none() | of_type(next(a for a in arguments if a is not type(None)), "")
    return st.from_type(hint)


def structs(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Instances of a struct with all of its fields."""
    hints = get_type_hints(cls)
    return st.builds(cls, **{name: of_type(hints[name], name) for name in cls.__struct_fields__})


def recorded(events: list[Event]) -> list[Recorded]:
    """Events one after the other, one second apart."""
    return [
        Recorded(n, e.stream, n, n, n * 1_000_000, 1, "i", e, Envelope(by="ann"))
        for n, e in enumerate(events, 1)
    ]


@given(st.lists(st.one_of([structs(cls) for cls in EVENTS.values()]), max_size=30))
@settings(max_examples=300)
def test_any_events_in_any_order_can_be_folded_looked_at_and_saved(events: list[Event]) -> None:
    c = fold(recorded([*BEGINNING, *events]))
    for now in (0, 10**15):
        plan(view(c, now))
        heads = Heads(c, now)
        for job in c.jobs.values():
            told = why(c, job.id, now)
            assert job.attempt is not None or told.reason == heads.reason(job)
    due(c)
    for node in c.nodes:
        wanted(c, node)
    saved = to_bytes(c)
    assert to_bytes(from_bytes(saved)) == saved


def test_every_event_has_its_rule() -> None:
    assert set(cluster.EVOLVE) == set(EVENTS.values())


def test_a_state_that_no_rule_leads_to_takes_no_jobs() -> None:
    story = Story()
    story.node("n1")
    story.record(NodeStateChanged(node="n1", was="idle", to="quarantined", cause="imported"))
    story.submit("ann")
    assert story.plan() == []


def test_an_end_without_an_end_state_is_an_end() -> None:
    story = Story()
    story.node("n1")
    job = story.submit("ann")
    about: dict[str, Any] = {"job": job, "user": "ann", "account": "", "pool": "default"}
    story.record(JobEnded(**about, state="pending", cause="?", submitted_at=0))
    assert story.cluster.outcome(job) == "failed"


def test_what_is_configured_is_what_the_node_is() -> None:
    story = Story()
    story.node("n1")
    story.record(NodeConfigured(node="n1", pool="gpu", cpus=64, memory_bytes=1 << 30))
    node = story.cluster.nodes["n1"]
    assert (node.pool, node.cpus, node.memory_bytes) == ("gpu", 64, 1 << 30)
    assert story.cluster.pools == {"gpu": {"n1"}}


def test_events_come_in_order_or_not_at_all() -> None:
    first = recorded([NodeEnrolled(node="n1", pool="default")])
    c = fold(first)
    with pytest.raises(AssertionError):
        evolve(c, first[0])
    assert isinstance(c, Cluster)
