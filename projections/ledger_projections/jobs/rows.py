"""The tables of jobs, of the attempts at them and of where these were."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from ledger.events import (
    AttemptEnded,
    AttemptEvent,
    AttemptPlaced,
    AttemptStarted,
    Decision,
    Dependency,
    Event,
    JobCancelRequested,
    JobChanged,
    JobEnded,
    JobHeld,
    JobReleased,
    JobRequeued,
    JobsSubmitted,
    JobState,
    Machine,
    Output,
    Recorded,
)
from ledger.projection import Table
from ledger.projection.submitted import job_keys, spec_of, task_of


class JobRow(msgspec.Struct, frozen=True, gc=False):
    """A job. Times are µs; None: not yet. `task`: its index in the array that `first` begins, or
    -1. `hold` is empty, `user`, `admin` or `system`. `stopping`: told to stop, and by what.
    `started_at` is the first attempt's start; `nodes`, `cause`, `exit_code` and `signal` are the
    last attempt's; `attempts` counts them."""

    job: int
    first: int
    task: int
    user: str
    account: str
    pool: str
    name: str
    state: JobState
    submitted_at: int
    ended_at: int | None
    # From here on without columns of their own: no query looks for them.
    qos: str
    nodes_wanted: int
    time_limit_s: int
    restartable: bool
    features: tuple[str, ...]
    exclude: tuple[str, ...]
    depends: tuple[Dependency, ...]
    begin_at: int | None
    script_sha256: str
    text_sha256: str
    machine: str
    request: str
    hold: str
    held_by: str
    stopping: str = ""
    started_at: int | None = None
    attempts: int = 0
    nodes: tuple[str, ...] = ()
    cause: str = ""
    exit_code: int | None = None
    signal: int | None = None


class AttemptRow(msgspec.Struct, frozen=True, gc=False):
    """One try at a job. Times are µs; None: not yet. `decision`: why then and there, as recorded;
    `machines`: what each of the nodes was then. `cpu_us`: processor time, if it was measured."""

    job: int
    attempt: int
    user: str
    account: str
    pool: str
    nodes: tuple[str, ...]
    placed_at: int
    time_limit_s: int
    restartable: bool
    machines: tuple[Machine, ...]
    decision: Decision
    started_at: int | None = None
    ended_at: int | None = None
    outcome: str = ""
    cause: str = ""
    next: str = ""
    lost: tuple[str, ...] = ()
    held_us: int | None = None
    ran_us: int | None = None
    cpu_us: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    output: Output | None = None


class NodeRow(msgspec.Struct, frozen=True, gc=False):
    """An attempt was placed on this node."""

    job: int
    attempt: int
    node: str


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


def evolve_job(key: tuple[int], row: JobRow | None, r: Recorded) -> JobRow | None:
    """The job after an event."""
    e = r.event
    if type(e) is JobsSubmitted:
        return _submitted(key[0], e, r)
    return None if row is None else _AFTER[type(e)](row, e, r)


def _submitted(job: int, e: JobsSubmitted, r: Recorded) -> JobRow:
    spec = spec_of(e, job)
    return JobRow(
        job=job,
        first=e.array_job or e.first_job,
        task=task_of(e, job),
        user=e.user,
        account=spec.account,
        pool=spec.pool,
        name=spec.name,
        state="pending",
        submitted_at=r.at,
        ended_at=None,
        qos=spec.qos,
        nodes_wanted=spec.nodes,
        time_limit_s=spec.time_limit_s,
        restartable=spec.restartable,
        features=spec.features,
        exclude=spec.exclude,
        depends=spec.depends,
        begin_at=spec.begin_at or None,
        script_sha256=spec.script.sha256 if spec.script else "",
        text_sha256=spec.text.sha256 if spec.text else "",
        machine=r.envelope.via.machine,
        request=r.envelope.request,
        hold="user" if spec.held else "",
        held_by=e.user if spec.held else "",
    )


def _placed(row: JobRow, e: AttemptPlaced, r: Recorded) -> JobRow:
    return replace(row, state="running", attempts=e.attempt, nodes=e.nodes, hold="", held_by="")


def _started(row: JobRow, e: AttemptStarted, r: Recorded) -> JobRow:
    return row if row.started_at is not None else replace(row, started_at=e.started_at)


def _attempt_ended(row: JobRow, e: AttemptEnded, r: Recorded) -> JobRow:
    holder = "system" if e.next == "held" else ""
    return replace(
        row,
        state=e.state,
        hold=holder,
        held_by=holder,
        stopping="",
        ended_at=r.at if e.next == "final" else None,
        cause=e.cause,
        exit_code=e.exit_code,
        signal=e.signal,
    )


def _ended(row: JobRow, e: JobEnded, r: Recorded) -> JobRow:
    return replace(
        row, state=e.state, cause=e.cause, ended_at=r.at, hold="", held_by="", stopping=""
    )


def _held(row: JobRow, e: JobHeld, r: Recorded) -> JobRow:
    return replace(row, hold=e.kind, held_by=r.envelope.by)


def _released(row: JobRow, e: JobReleased, r: Recorded) -> JobRow:
    return replace(row, hold="", held_by="")


def _cancelling(row: JobRow, e: JobCancelRequested, r: Recorded) -> JobRow:
    return replace(row, stopping="cancelled")


def _requeuing(row: JobRow, e: JobRequeued, r: Recorded) -> JobRow:
    return replace(row, stopping="requeued")


def _changed(row: JobRow, e: JobChanged, r: Recorded) -> JobRow:
    return replace(
        row,
        restartable=row.restartable if e.restartable is None else e.restartable,
        time_limit_s=row.time_limit_s if e.time_limit_s is None else e.time_limit_s,
    )


# A table of them, for each question after an event's kind takes as long as half a change.
_AFTER: dict[type[Event], Callable[[JobRow, Any, Recorded], JobRow]] = {
    AttemptPlaced: _placed,
    AttemptStarted: _started,
    AttemptEnded: _attempt_ended,
    JobEnded: _ended,
    JobHeld: _held,
    JobReleased: _released,
    JobCancelRequested: _cancelling,
    JobRequeued: _requeuing,
    JobChanged: _changed,
}

JOBS = Table(
    "jobs",
    JobRow,
    key=1,
    events=(JobsSubmitted, *_AFTER),
    keys=job_keys,
    evolve=evolve_job,
    columns=10,
    indexes=[
        ("user", "job"),
        ("account", "job"),
        ("pool", "job"),
        ("state", "job"),
        ("name", "job"),
        ("first",),
    ],
)

# ── attempts ─────────────────────────────────────────────────────────────────────────────────────


def attempt_keys(r: Recorded) -> Iterable[tuple[int, int]]:
    """The one attempt that an event is about."""
    assert isinstance(r.event, AttemptEvent)
    return ((r.event.job, r.event.attempt),)


def evolve_attempt(key: tuple[int, int], row: AttemptRow | None, r: Recorded) -> AttemptRow | None:
    """The attempt after an event."""
    e = r.event
    if type(e) is AttemptPlaced:
        return AttemptRow(
            job=e.job,
            attempt=e.attempt,
            user=e.user,
            account=e.account,
            pool=e.pool,
            nodes=e.nodes,
            placed_at=e.placed_at,
            time_limit_s=e.time_limit_s,
            restartable=e.restartable,
            machines=e.machines,
            decision=e.decision,
        )
    if row is None:
        return None
    if type(e) is AttemptStarted:
        return replace(row, started_at=e.started_at)
    assert type(e) is AttemptEnded
    return replace(
        row,
        ended_at=r.at,
        outcome=e.outcome,
        cause=e.cause,
        next=e.next,
        lost=e.lost,
        held_us=e.held_us,
        ran_us=e.ran_us,
        cpu_us=e.cpu_us,
        exit_code=e.exit_code,
        signal=e.signal,
        detail=e.detail,
        output=e.output,
    )


ATTEMPTS = Table(
    "attempts",
    AttemptRow,
    key=2,
    events=(AttemptPlaced, AttemptStarted, AttemptEnded),
    keys=attempt_keys,
    evolve=evolve_attempt,
    columns=2,
)


def node_keys(r: Recorded) -> Iterable[tuple[int, int, str]]:
    """Each node of a placement."""
    e = r.event
    assert isinstance(e, AttemptPlaced)
    return [(e.job, e.attempt, node) for node in e.nodes]


def evolve_node(key: tuple[int, int, str], row: NodeRow | None, r: Recorded) -> NodeRow:
    """The attempt was placed there."""
    return row or NodeRow(*key)


NODES = Table(
    "nodes",
    NodeRow,
    key=3,
    events=(AttemptPlaced,),
    keys=node_keys,
    evolve=evolve_node,
    indexes=[("node", "job")],
)
