"""What an older or newer release wrote is read as far as it can be, and refused where it can't."""

import re
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.codec import BrokenEvent, Codec, Raw, UnknownEvent
from ledger.events import EVENTS, Envelope, JobHeld, NodeConfigured, NodeRetired, Origin

ENVELOPE = Envelope(by="alice", request="r1")


def first_to_second(old: Raw) -> tuple[str, Raw]:
    """An event that called its node `host`."""
    return "test.retired.v2", {"node": old["host"], "why": old.get("why", "")}


def second_to_now(old: Raw) -> tuple[str, Raw]:
    """An event that called its reason `why`."""
    return "node.retired.v1", {"node": old["node"], "reason": old["why"]}


UPCASTERS = {"test.retired.v1": first_to_second, "test.retired.v2": second_to_now}


def stored(**fields: object) -> bytes:
    """The bytes of an event as some release might have written them."""
    return msgspec.json.encode({"by": "alice", "request": "r1", "event": fields})


def test_what_was_written_is_read_back() -> None:
    held = JobHeld(job=1, user="alice", account="a", pool="p", kind="user")
    codec = Codec()
    assert codec.decode(held.name, codec.encode(held, ENVELOPE)) == (held, ENVELOPE)


def test_an_old_event_is_brought_up_to_date_step_by_step() -> None:
    now = (NodeRetired(node="n1", reason="age"), ENVELOPE)
    assert decoded("test.retired.v1", stored(host="n1", why="age")) == now
    assert decoded("test.retired.v2", stored(node="n1", why="age")) == now
    assert decoded("node.retired.v1", stored(node="n1", reason="age")) == now


def decoded(name: str, data: bytes) -> object:
    """What a codec with the test's upcasters makes of stored bytes; or why it does not know it."""
    try:
        return Codec(upcasters=UPCASTERS).decode(name, data)
    except UnknownEvent as unknown:
        return unknown


def test_fields_of_a_newer_release_are_ignored() -> None:
    data = stored(node="n1", reason="age", colour="red")
    assert Codec().decode("node.retired.v1", data)[0] == NodeRetired(node="n1", reason="age")


@pytest.mark.fault("H6")
def test_an_event_of_a_newer_release_is_refused_by_name() -> None:
    with pytest.raises(UnknownEvent, match=r"'node\.painted\.v1'.*newer"):
        Codec().decode("node.painted.v1", stored(node="n1"))


@pytest.mark.fault("H2")
@pytest.mark.parametrize("data", [b"", b"{", b'{"event":{}}', b'{"event":{"node":1}}', b"\xff"])
def test_bytes_that_are_not_the_event_are_refused(data: bytes) -> None:
    with pytest.raises(BrokenEvent, match=r"node\.retired\.v1"):
        Codec().decode("node.retired.v1", data)


@pytest.mark.fault("H2", "H3")
@pytest.mark.parametrize("fields", [{"node": "\ud800"}, {"node": 7}])
def test_what_would_not_be_read_back_is_not_written(fields: dict[str, Any]) -> None:
    with pytest.raises(BrokenEvent):
        Codec().encode(NodeRetired(**fields), ENVELOPE)


def test_what_would_come_back_as_something_else_is_not_written() -> None:
    with pytest.raises(BrokenEvent, match="would not be read back"):
        Codec().encode(
            NodeConfigured(node="n1", pool="p", features=["gpu"]),  # type: ignore[arg-type]
            ENVELOPE,
        )


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Every value that a field of an event may have."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is Literal:
        return st.sampled_from(arguments)
    if kind in (Union, UnionType):
        return st.one_of(*map(values, arguments))
    if kind is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if kind is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structs(hint)
    return {
        int: st.integers(-(2**63), 2**63 - 1),
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        bool: st.booleans(),
        NoneType: st.none(),
    }[hint]


def structs(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Every instance of a piece of an event."""
    fields = {field.name: values(field.type) for field in msgspec.structs.fields(cls)}
    return st.builds(cls, **fields)


@pytest.mark.parametrize("name", EVENTS)
@given(data=st.data())
@settings(max_examples=15)
def test_every_event_has_a_stream_and_an_origin_and_comes_back(
    name: str, data: st.DataObject
) -> None:
    cls = EVENTS[name]
    event, envelope = data.draw(structs(cls)), data.draw(structs(Envelope))
    assert event.stream.partition("-")[0] in STREAMS
    assert cls.origin in get_args(Origin)
    assert re.fullmatch(r"[a-z]+\.[a-z_]+\.v[1-9]", name)
    codec = Codec()
    assert codec.decode(name, codec.encode(event, envelope)) == (event, envelope)


STREAMS = {
    "job",
    "node",
    "outage",
    "notice",
    "contact",
    "policy",
    "identity",
    "master",
    "reasons",
    "abuse",
}
