"""What the master remembers: the shape of the state that the fold builds from the log.

Only live things are here. A job that has ended leaves one byte behind (its outcome, in `ended`), so
that a dependency on it can be judged; nothing else grows with the number of finished jobs.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ledger.commands import Subject
from ledger.domain.watch import SUBMISSIONS_PER_MIN, Watch
from ledger.events import (
    Dependency,
    Event,
    HoldKind,
    JobSpec,
    JobState,
    NodeState,
    OutageKind,
    Why,
)

RULES = 1
"""The version of our own arithmetic: raised whenever `domain/` would decide differently."""

KEY_LIFETIME_US = 7 * 86_400 * 1_000_000
"""An idempotency key is remembered this long after the last of its jobs has ended."""

SETTLED_REMEMBERED = 10_000
"""End reports that need no further event when they are repeated: the latest of them, at least this
many and less than twice as many, are remembered."""

OUTAGE_LIFETIME_US = 30 * 86_400 * 1_000_000
"""An outage is remembered this long after it was closed."""

SERVICE = "*"
"""In place of a pool: all of them."""

FORMER_SPOOLS = 8
"""Spools of earlier agents that are remembered for each node."""

MOST_REASONS = 8
"""Why a node takes no jobs: the first reason is remembered, and the last of all that follow."""

END_STATES: tuple[JobState, ...] = (
    "completed",
    "failed",
    "timeout",
    "out_of_memory",
    "node_fail",
    "cancelled",
    "deadline",
)
"""Final job states; the byte in `Cluster.ended` is the place here plus one."""

END_CODES: dict[str, int] = {state: code for code, state in enumerate(END_STATES, 1)}


@dataclass(slots=True)
class Policy:
    """What an operator may set; the defaults hold until the first PolicySet. Units: PolicySet."""

    number: int = 0
    job_lease_s: int = 300
    lease_margin_s: int = 10
    lost_after_s: int = 86_400
    kill_grace_s: int = 10
    max_jobs_per_user: int = 500_000
    max_time_limit_s: int = 366 * 86_400
    output_head_bytes: int = 1 << 20
    output_tail_bytes: int = 1 << 20
    abuse_submissions_per_min: int = SUBMISSIONS_PER_MIN
    abuse_fail_within_s: int = 10
    abuse_fail_percent: int = 80
    abuse_fail_jobs: int = 50
    abuse_idle_node_s: int = 14_400
    abuse_idle_percent: int = 5
    outage_window_s: int = 60
    absence_s: int = 60
    notify: int = 1
    notice_delay_s: int = 60
    notice_jobs: int = 20


class Attempt(msgspec.Struct, gc=False):
    """The current try of a running job. `stop` is why it was told to stop, "" if it was not.

    `restartable`: the job was so when this was placed, and has been ever since. Only then has the
    agent surely killed it when its lease ran out: an agent may not know of a later change.
    """

    n: int
    nodes: tuple[str, ...]
    placed_at: int
    started_at: int = 0
    stop: str = ""
    restartable: bool = False


class Job(msgspec.Struct, gc=False):
    """A live job: pending while `attempt` is None, else running."""

    id: int
    user: str
    spec: JobSpec
    first: int
    index: int
    submitted_at: int
    restartable: bool
    time_limit_s: int
    hold: HoldKind | None = None
    held_by: str = ""
    depends: tuple[Dependency, ...] = ()
    impossible: bool = False
    attempts: int = 0
    node_fails: int = 0
    attempt: Attempt | None = None
    avoid: tuple[str, ...] = ()
    key: tuple[str, str] | None = None
    request: str = ""

    @property
    def state(self) -> JobState:
        """`pending` or `running`: an ended job is not here."""
        return "pending" if self.attempt is None else "running"


class Ask(NamedTuple):
    """Who asks, when (µs on the log's clock), and under which request id."""

    subject: Subject
    at: int
    request: str = ""


class Outcome(NamedTuple):
    """What a decision comes to: the events to append, and an answer for the one who asked."""

    events: list[Event]
    reply: object = None


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A pending job that only nodes or its begin time keep from starting. Never changed."""

    job: int
    user: str
    nodes: int
    time_limit_s: int
    features: frozenset[str]
    exclude: frozenset[str]
    avoid: frozenset[str]
    begin_at: int


class Said(msgspec.Struct, frozen=True, gc=False):
    """Why a node is to take no jobs: who said so, when (µs), the cause and his own words."""

    at: int
    by: str
    cause: str
    reason: str


@dataclass(slots=True)
class Node:
    """A machine. `health`: ok, checking (not yet reported empty) or down; `drain`: no new jobs.

    `said` is why it drains, the first reason first: none while it does not.
    `former` are the spools of its earlier agents, latest last: what these say now is late.
    `absent_us` is the cluster's as it was when the node fell silent. `outage` is the one that its
    last loss belongs to, open or not.
    """

    name: str
    pool: str
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    features: frozenset[str] = frozenset()
    cpus: int = 0
    memory_bytes: int = 0
    image: str = ""
    kernel: str = ""
    packages_sha256: str = ""
    build: str = ""
    boot_id: str = ""
    spool: str = ""
    spool_since: int = 0
    former: tuple[str, ...] = ()
    health: str = "checking"
    drain: bool = False
    said: tuple[Said, ...] = ()
    since: int = 0
    cause: str = "enrolled"
    reason: str = ""
    silent_since: int = 0
    absent_us: int = 0
    outage: int = 0
    attempts: set[tuple[int, int]] = field(default_factory=set)

    @property
    def state(self) -> NodeState:
        """The one word a person sees."""
        if self.health == "down":
            return "down"
        if self.drain:
            return "draining" if self.attempts else "drained"
        if self.health == "checking":
            return "checking"
        return "allocated" if self.attempts else "idle"

    @property
    def free(self) -> bool:
        """May a job be placed on it now?"""
        return self.health == "ok" and not self.drain and not self.attempts

    @property
    def serves(self) -> bool:
        """Will it take a job, now or when its present one ends?"""
        return self.health == "ok" and not self.drain


class Key(msgspec.Struct, gc=False):
    """A remembered submission: what was asked (digest), what came of it, who still lives."""

    body_sha256: str
    first_job: int
    count: int
    items: tuple[int, ...] | None
    live: int
    ended_at: int = 0


@dataclass(slots=True)
class Token:
    """A credential's public half."""

    id: str
    owner: str
    role: str
    expires_at: int
    issued_at: int
    note: str = ""


@dataclass(slots=True)
class Outage:
    """One cause and all that it hits; no `nodes`: the whole service.

    `until` is the planned end, or the end once it is closed. `rack`, `switch`, `power`: what all of
    its nodes have in common; `pool` where none of these was known of the first. `away`: those that
    are down by it now; `lost_at` is when one was lost last, `absent_us` the cluster's then,
    `back_at` when the last one came back. `told` are users and for what they have notices; `failed`
    the pools of whose failing the desks have one (`SERVICE`: of all). `touched` is the position of
    the last event by which it may have hit somebody who is not told, `touched_at` its time,
    `untold_at` that of the first such; `told_as_of` the position by which all were told.
    """

    n: int
    kind: OutageKind
    since: int
    opened_at: int
    until: int = 0
    closed_at: int = 0
    nodes: set[str] = field(default_factory=set)
    rack: str = ""
    switch: str = ""
    power: str = ""
    pool: str = ""
    away: set[str] = field(default_factory=set)
    lost_at: int = 0
    absent_us: int = 0
    back_at: int = 0
    reason: str = ""
    cause: str = ""
    cause_at: int = 0
    touched: int = 0
    touched_at: int = 0
    untold_at: int = 0
    told_as_of: int = 0
    told: dict[str, set[Why]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    done: set[Why] = field(default_factory=set)


class Notice(msgspec.Struct, gc=False):
    """A notice that has not gone out yet; `next_at` is when it is tried (again)."""

    n: int
    to: str
    desk: bool
    outage: int
    why: Why
    due_at: int
    next_at: int
    tries: int = 0


class Recipient(msgspec.Struct, gc=False):
    """How a user or a support desk is told; `addresses` is the digest of a text, if any."""

    owner: str
    desk: bool
    channels: tuple[str, ...]
    addresses: str


@dataclass(slots=True)
class Cluster:
    """The fold: all that the master decides from. Changed by `cluster.evolve` alone.

    `begins`: when those waiting jobs may begin that asked for a time.
    `idle_keys` and `settled` are ordered by age; the first, whose keys go one by one, is no plain
    dict, which is slow to find its first once many are gone.
    `lease_until`: agents that were told of a longer lease, since shortened, may hold it until then.
    `absent_us`: how much of the log's time no master reigned, or its clock was put forward by.
    `outages` are open, in the order of their numbers; `past_outages` were closed within a month, in
    that order. `recipients` are by owner and whether he is a desk.
    """

    position: int = 0
    at: int = 0
    epoch: int = 0
    started_at: int = 0
    lease_until: int = 0
    absent_us: int = 0
    incarnation: str = ""
    clean_stop: bool = True
    next_job: int = 1
    policy: Policy = field(default_factory=Policy)
    jobs: dict[int, Job] = field(default_factory=dict)
    waiting: dict[str, dict[int, Waiting]] = field(default_factory=dict)
    begins: dict[int, int] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    ended: bytearray = field(default_factory=lambda: bytearray(1))
    dependents: dict[int, set[int]] = field(default_factory=dict)
    per_user: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, str], Key] = field(default_factory=dict)
    idle_keys: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    nodes: dict[str, Node] = field(default_factory=dict)
    pools: dict[str, set[str]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    settled: dict[tuple[int, int, str], int] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)
    next_outage: int = 1
    next_notice: int = 1
    outages: dict[int, Outage] = field(default_factory=dict)
    past_outages: OrderedDict[int, Outage] = field(default_factory=OrderedDict)
    notices: dict[int, Notice] = field(default_factory=dict)
    recipients: dict[tuple[str, bool], Recipient] = field(default_factory=dict)

    def outcome(self, job: int) -> JobState | None:
        """How a job ended; None while it lives or if it never was."""
        code = self.ended[job] if 0 < job < len(self.ended) else 0
        return END_STATES[code - 1] if code else None

    def exists(self, job: int) -> bool:
        """Was there ever a job of this id? A log that was restored has left some numbers out."""
        return job in self.jobs or self.outcome(job) is not None

    def outage(self, number: int) -> Outage | None:
        """An outage that is open, or was until lately."""
        return self.outages.get(number) or self.past_outages.get(number)
