"""What `/v1` answers about the history of nodes."""

from datetime import datetime
from typing import Literal

from ledger.events import NodeState
from ledger.models.answered import Answer


class NodeCauseOut(Answer):
    """Why a node came to a state, or what was said of it later: the cause
    (docs/reference/causes.md), the words of whoever decided it, and who that was; the number of
    the outage that it belongs to, 0 for none."""

    at: datetime
    cause: str
    reason: str
    by: str
    outage: int


class NodePeriodOut(Answer):
    """A time that a node was in one state; `until` null: it still is. `serving` is idle or
    allocated. The first of its causes is why; what was said later follows. `drain` is why it is to
    take no jobs, the first reason first, also while it is down."""

    state: NodeState | Literal["serving", "retired"]
    since: datetime
    until: datetime | None
    silent_since: datetime | None
    causes: list[NodeCauseOut]
    drain: list[NodeCauseOut]


class MachineOut(Answer):
    """What a node was, and had installed, for a time; `until` null: it still is so."""

    since: datetime
    until: datetime | None
    pool: str
    serial: str
    rack: str
    switch: str
    power: str
    image: str
    kernel: str
    packages_sha256: str
    build: str
    boot_id: str


class NodeHistoryOut(Answer):
    """The states of a node, and what it was and had installed, the latest first. `next` is the
    cursor of the next page of states."""

    node: str
    states: list[NodePeriodOut]
    machines: list[MachineOut]
    next: int | None
    position: int


class ElsewhereOut(Answer):
    """Where what failed was completed later, on other nodes."""

    job: int
    attempt: int
    at: datetime


class StayOut(Answer):
    """An attempt that was on a node; `left_at` null: it is there. Why it ended, and which other job
    did the same work later, is told to its owner and to operators; `failed` says that it came to
    nothing, and that this node may be why."""

    job: int
    attempt: int
    user: str
    account: str
    pool: str
    placed_at: datetime
    left_at: datetime | None
    outcome: str
    next: str
    failed: bool
    outage: int
    cause: str | None
    exit_code: int | None
    signal: int | None
    elsewhere: ElsewhereOut | None


class StaysOut(Answer):
    """A page of attempts that were on a node; `next` is the cursor of the next one."""

    node: str
    attempts: list[StayOut]
    next: str | None
    position: int


class SuspectOut(Answer):
    """What came of the attempts that ended on a node: `elsewhere` of the `failed` ones did the work
    of jobs that were completed on other nodes later, of so many `users`."""

    node: str
    ended: int
    failed: int
    elsewhere: int
    users: int


class NodeFailuresOut(Answer):
    """The nodes where jobs failed, the one first where most of them succeeded elsewhere later."""

    since: datetime | None
    until: datetime | None
    nodes: list[SuspectOut]
    position: int
