"""The tables of `node_history`: changes of state, what machines were, who was there, and why."""

from collections.abc import Iterable
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from ledger.events import (
    AgentSeen,
    AttemptEnded,
    AttemptEvent,
    AttemptPlaced,
    JobSpec,
    JobsSubmitted,
    NodeConfigured,
    NodeEnrolled,
    NodeEvent,
    NodeRetired,
    NodeSoftwareChanged,
    NodeStateChanged,
    Recorded,
)
from ledger.projection import Table
from ledger.projection.submitted import job_keys, spec_of, task_of

STILL_THERE = 2**63 - 1
"""Where an attempt has not ended: it leaves later than any time there is."""

FAILED = ("failed", "timeout", "out_of_memory")
"""Outcomes that may be the fault of any of an attempt's nodes."""


class ChangeRow(msgspec.Struct, frozen=True):
    """A node was from now on in this state, or something more was said of why it is. Times are µs.

    `to` is a `NodeState` or `retired`. `by`: who decided it. `outage` is the one it belongs to, 0
    for none.
    """

    node: str
    position: int
    at: int
    to: str
    cause: str
    reason: str
    by: str
    silent_since: int | None = None
    outage: int = 0


class FactRow(msgspec.Struct, frozen=True):
    """What was new about a machine and its software at `at` (µs). None: that was as before."""

    node: str
    position: int
    at: int
    pool: str | None = None
    serial: str | None = None
    rack: str | None = None
    switch: str | None = None
    power: str | None = None
    image: str | None = None
    kernel: str | None = None
    packages_sha256: str | None = None
    build: str | None = None
    boot_id: str | None = None


class StayRow(msgspec.Struct, frozen=True):
    """An attempt on one of its nodes, from its placement to its end (µs).

    `outcome` and `next` are empty until it has ended. `failed`: it came to nothing, and this node
    may be why; where other nodes were lost, it is not.
    """

    node: str
    job: int
    attempt: int
    user: str
    account: str
    pool: str
    placed_at: int
    left_at: int = STILL_THERE
    outcome: str = ""
    next: str = ""
    failed: bool = False
    cause: str = ""
    exit_code: int | None = None
    signal: int | None = None
    outage: int = 0


class TryRow(msgspec.Struct, frozen=True):
    """A job as a try at some piece of work, and when (µs) and in which attempt it was completed.

    Jobs of one user with the same script, arguments and working directory, and the same index in
    their arrays, are tries at the same `work`. Where these are not known, a job is its own.
    """

    job: int
    work: str
    completed_at: int | None = None
    completed_in: int = 0


# ── changes of state ─────────────────────────────────────────────────────────────────────────────


def change_keys(r: Recorded) -> Iterable[tuple[str, int]]:
    """The change itself."""
    assert isinstance(r.event, NodeEvent)
    return ((r.event.node, r.position),)


def evolve_change(key: tuple[str, int], row: ChangeRow | None, r: Recorded) -> ChangeRow:
    """The change, as it was recorded."""
    e, by = r.event, r.envelope.by
    if isinstance(e, NodeEnrolled):
        return ChangeRow(*key, r.at, "checking", "enrolled", "", by)
    if isinstance(e, NodeRetired):
        return ChangeRow(*key, r.at, "retired", "retired", e.reason, by)
    assert isinstance(e, NodeStateChanged)
    since = e.silent_since or None
    return ChangeRow(*key, r.at, e.to, e.cause, e.reason, by, since, e.outage)


CHANGES = Table(
    "changes",
    ChangeRow,
    key=2,
    events=(NodeEnrolled, NodeStateChanged, NodeRetired),
    keys=change_keys,
    evolve=evolve_change,
    indexes=[("node", "at")],
)

# ── machines and their software ──────────────────────────────────────────────────────────────────


def evolve_fact(key: tuple[str, int], row: FactRow | None, r: Recorded) -> FactRow:
    """What the event says. Of a machine that has just joined, no software is known."""
    e = r.event
    if isinstance(e, NodeSoftwareChanged):
        return FactRow(
            *key,
            r.at,
            image=e.image,
            kernel=e.kernel,
            packages_sha256=e.packages_sha256,
            build=e.build,
        )
    if isinstance(e, AgentSeen):
        return FactRow(*key, r.at, build=e.build, boot_id=e.boot_id)
    assert isinstance(e, NodeEnrolled | NodeConfigured)
    place = FactRow(
        *key, r.at, pool=e.pool, serial=e.serial, rack=e.rack, switch=e.switch, power=e.power
    )
    if isinstance(e, NodeConfigured):
        return place
    return replace(place, image="", kernel="", packages_sha256="", build="", boot_id=e.boot_id)


FACTS = Table(
    "facts",
    FactRow,
    key=2,
    events=(NodeEnrolled, NodeConfigured, NodeSoftwareChanged, AgentSeen),
    keys=change_keys,
    evolve=evolve_fact,
)

# ── who was there ────────────────────────────────────────────────────────────────────────────────


def stay_keys(r: Recorded) -> Iterable[tuple[str, int, int]]:
    """Each node of an attempt that is placed or ends."""
    e = r.event
    assert isinstance(e, AttemptEvent)
    return ((node, e.job, e.attempt) for node in dict.fromkeys(e.nodes))


def evolve_stay(key: tuple[str, int, int], row: StayRow | None, r: Recorded) -> StayRow | None:
    """From its placement on; its end completes it."""
    e = r.event
    if isinstance(e, AttemptPlaced):
        return StayRow(*key, e.user, e.account, e.pool, e.placed_at)
    assert isinstance(e, AttemptEnded)
    if row is None:
        return None
    lost = e.outcome == "node_fail" and (key[0] in e.lost or not e.lost)
    return replace(
        row,
        left_at=r.at,
        outcome=e.outcome,
        next=e.next,
        failed=lost or e.outcome in FAILED,
        cause=e.cause,
        exit_code=e.exit_code,
        signal=e.signal,
        outage=e.outage,
    )


STAYS = Table(
    "stays",
    StayRow,
    key=3,
    events=(AttemptPlaced, AttemptEnded),
    keys=stay_keys,
    evolve=evolve_stay,
    indexes=[
        ("node", "left_at", "job", "attempt", "placed_at"),
        ("failed", "left_at", "user", "pool"),
    ],
)

# ── what they were tries at ──────────────────────────────────────────────────────────────────────


def try_keys(r: Recorded) -> Iterable[tuple[int]]:
    """Every job of a submission; the job of an attempt that completes it."""
    if isinstance(r.event, AttemptEnded) and r.event.outcome != "completed":
        return ()
    return job_keys(r)


def evolve_try(key: tuple[int], row: TryRow | None, r: Recorded) -> TryRow | None:
    """A job is submitted once, and completed at most once."""
    e, job = r.event, key[0]
    if isinstance(e, JobsSubmitted):
        return TryRow(job, _work(job, e.user, spec_of(e, job), task_of(e, job)))
    assert isinstance(e, AttemptEnded)
    return None if row is None else replace(row, completed_at=r.at, completed_in=e.attempt)


def _work(job: int, user: str, spec: JobSpec, task: int) -> str:
    if spec.script is None and spec.text is None:
        return f"job {job}"
    digests = [blob.sha256 if blob else "" for blob in (spec.script, spec.text)]
    return sha256(repr((user, *digests, task)).encode()).hexdigest()[:32]


TRIES = Table(
    "tries",
    TryRow,
    key=1,
    events=(JobsSubmitted, AttemptEnded),
    keys=try_keys,
    evolve=evolve_try,
    indexes=[("work", "completed_at", "completed_in")],
)
