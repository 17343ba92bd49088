"""Everything that can happen: the facts a jobledger log is made of, on one page.

An event is past tense and noun first. It is never changed once it is written: a new meaning is a
new class with a new version in its name, and an upcaster (`ledger.codec`) that turns the old one
into the new. Adding a field with a default is allowed; removing one, or changing its type, is not
(a test compares this page with `docs/reference/events.md`).

Units: every `*_at` is microseconds since 1970 UTC on the log's clock, `*_us` microseconds, `*_s`
seconds, `bytes` bytes. There are no floats. Nothing in an event needs another event to be
understood, save its time and epoch, which stand in its commit's header (`Recorded`).
"""

from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, TypeVar

import msgspec

Origin = Literal["person", "agent", "clock", "planner", "import", "master"]
JobState = Literal[
    "pending",
    "running",
    "completed",
    "failed",
    "timeout",
    "out_of_memory",
    "node_fail",
    "cancelled",
    "deadline",
]
Outcome = Literal[
    "completed",
    "failed",
    "timeout",
    "out_of_memory",
    "node_fail",
    "cancelled",
    "deadline",
    "preempted",
    "requeued",
]
Next = Literal["final", "requeued", "held"]
NodeState = Literal[
    "idle",
    "allocated",
    "checking",
    "draining",
    "drained",
    "suspected",
    "quarantined",
    "down",
    "maintenance",
]
HoldKind = Literal["user", "admin", "system"]
DependencyKind = Literal["afterok", "afterany", "afternotok"]
How = Literal["in_order", "backfill", "reservation", "interactive"]


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A piece of an event. It is a tree: the garbage collector need not look for cycles in it."""


class Via(Part, frozen=True, kw_only=True):
    """How a request reached us: submitting machine, network peer, client build."""

    machine: str = ""
    peer: str = ""
    build: str = ""


class Envelope(Part, frozen=True):
    """Who caused an event and by which request; `by` is a subject, or `system` for our own acts."""

    by: str = "system"
    via: Via = Via()
    request: str = ""


class Event(Part, frozen=True, kw_only=True):
    """A fact. `name` is its stable name in the log, `origin` what kind of cause it has."""

    name: ClassVar[str]
    origin: ClassVar[Origin]

    @property
    def stream(self) -> str:
        """The stream this event belongs to, such as `job-17`."""
        raise NotImplementedError


class Fact(NamedTuple):
    """An event that is about to be appended; `data` are its bytes where they are made already."""

    event: Event
    envelope: Envelope
    data: bytes = b""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An event as every reader sees it: the fact, and where and when it stands in the log."""

    position: int
    stream: str
    version: int
    commit: int
    at: int
    epoch: int
    incarnation: str
    event: Event
    envelope: Envelope


EVENTS: dict[str, type[Event]] = {}
E = TypeVar("E", bound=type[Event])


def event(name: str, origin: Origin) -> Callable[[E], E]:
    """Enter a class into the closed registry. A stored name never imports a module."""

    def register(cls: E) -> E:
        assert name not in EVENTS, f"two events are called {name}"
        cls.name, cls.origin = name, origin
        EVENTS[name] = cls
        return cls

    return register
