"""The tables of demand: what waits, runs and serves, as differences over a grid of time.

`flow` takes them out of each event alone. What an event does not say (how many nodes a job asked
for that is cancelled, the pool that a node leaves) is known to the row of its job or node: it keeps
the differences between what really changed and what `flow` could tell. Queries add the two.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    DemandRefused,
    JobChanged,
    JobEnded,
    JobHeld,
    JobReleased,
    JobsSubmitted,
    NodeConfigured,
    NodeEnrolled,
    NodeEvent,
    NodeRetired,
    NodeState,
    NodeStateChanged,
    Recorded,
)
from ledger.projection import Table, grid
from ledger.projection.grid import slot_of
from ledger.projection.submitted import job_keys, spec_of

MINUTE_US = 60_000_000
SERVING: tuple[NodeState, ...] = ("idle", "allocated")
"""The states of nodes that are in service: they take a job, now or when their present one ends."""


class FlowRow(msgspec.Struct, frozen=True, gc=False):
    """Changes in one slot (a number of `SLOT_US` since 1970), as far as events alone tell.

    `queued`: jobs that wait, and the nodes they ask for; `running`: jobs, and the nodes they have;
    `serving`: nodes in service, in rows of no user. What ends in `_us` is what of the slot's own
    time the changes before it make. `asked`, `started` (for the first time), `withdrawn` (ended
    while waiting), `refused`: jobs, and the node-seconds that they asked for.
    """

    slot: int
    pool: str
    user: str
    account: str
    queued_jobs: int = 0
    queued_jobs_us: int = 0
    queued_nodes: int = 0
    queued_nodes_us: int = 0
    running_jobs: int = 0
    running_jobs_us: int = 0
    used_nodes: int = 0
    used_nodes_us: int = 0
    serving_nodes: int = 0
    serving_nodes_us: int = 0
    asked_jobs: int = 0
    asked_node_s: int = 0
    started_jobs: int = 0
    started_node_s: int = 0
    withdrawn_jobs: int = 0
    refused_jobs: int = 0
    refused_node_s: int = 0


class Late(msgspec.Struct, frozen=True, array_like=True):
    """By how much the queue, and the part of it that is held, changed at a moment (µs) beyond what
    `flow` could tell."""

    at: int
    queued_jobs: int
    queued_nodes: int
    held_jobs: int
    held_nodes: int


class JobRow(msgspec.Struct, frozen=True, gc=False):
    """A job that lives, or has `late` corrections, or left the queue without having been started:
    at `left_at` (µs), which `flow` could not tell how many nodes it took along."""

    job: int
    user: str
    account: str
    pool: str
    nodes: int
    time_limit_s: int
    queued: bool
    held: bool
    left_at: int | None = None
    left_slot: int | None = None
    corrected: bool = False
    late: tuple[Late, ...] = ()


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """By how many nodes the service of a pool changed at a moment beyond what `flow` could tell."""

    at: int
    pool: str
    nodes: int


class NodeRow(msgspec.Struct, frozen=True, gc=False):
    """A node: its pool, is it in service, and what `flow` alone can't tell of it."""

    node: str
    pool: str
    serving: bool
    late: tuple[Moved, ...] = ()


# ── what events alone tell ───────────────────────────────────────────────────────────────────────

Whose = tuple[str, str, str]
"""Pool, user and account."""

Changes = dict[str, int]
"""By how much which columns of a `FlowRow` change."""


def told(r: Recorded) -> Mapping[Whose, Changes]:
    """What an event says of the queue, of use and of service."""
    e = r.event
    if isinstance(e, JobsSubmitted):
        return _asked(_Same(e))
    if isinstance(e, NodeStateChanged):
        served = (e.to in SERVING) - (e.was in SERVING)
        return {(e.pool, "", ""): {"serving_nodes": served}} if served else {}
    assert isinstance(e, AttemptPlaced | AttemptEnded | JobEnded | DemandRefused)
    found: Changes = {}
    if isinstance(e, AttemptPlaced):
        n = _count(e)
        found = {"queued_jobs": -1, "queued_nodes": -n, "running_jobs": 1, "used_nodes": n}
        if e.attempt == 1:
            found |= {"started_jobs": 1, "started_node_s": n * e.time_limit_s}
    elif isinstance(e, AttemptEnded):
        n = _count(e)
        found = {"running_jobs": -1, "used_nodes": -n}
        if e.next != "final":
            found |= {"queued_jobs": 1, "queued_nodes": n}
    elif isinstance(e, JobEnded):
        found = {"queued_jobs": -1, "withdrawn_jobs": 1}
    else:
        found = {"refused_jobs": e.jobs, "refused_node_s": e.node_seconds}
    return {(e.pool, e.user, e.account): found}


def moment(r: Recorded) -> int:
    """When it happened, µs."""
    e = r.event
    if isinstance(e, AttemptPlaced):
        return e.placed_at
    if isinstance(e, AttemptEnded):
        return e.placed_at + e.held_us
    return e.minute * MINUTE_US if isinstance(e, DemandRefused) else r.at


def _count(e: AttemptPlaced | AttemptEnded) -> int:
    return len(e.nodes) if e.node_count is None else e.node_count


class _Same:
    """An event as a key: the same object, whatever it is equal to."""

    def __init__(self, event: JobsSubmitted) -> None:
        self.event = event

    def __hash__(self) -> int:
        return id(self.event)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.event is self.event


@lru_cache(maxsize=8)
def _asked(submission: _Same) -> Mapping[Whose, Changes]:
    """What a submission asks for. Its jobs are gone through once, whatever accounts they name."""
    e = submission.event
    found: dict[Whose, Changes] = {}
    times = e.count if e.array else 1
    for spec in e.specs:
        nodes = times * spec.nodes
        more = (times, nodes, times, nodes * spec.time_limit_s)
        changes = found.setdefault((spec.pool, e.user, spec.account), dict.fromkeys(ASKED, 0))
        for name, n in zip(ASKED, more, strict=True):
            changes[name] += n
    return found


ASKED = ("queued_jobs", "queued_nodes", "asked_jobs", "asked_node_s")


def flow_keys(r: Recorded) -> Iterable[tuple[int, str, str, str]]:
    """The slot of the event, and whose demand or which pool it is about."""
    slot = slot_of(moment(r))
    return [(slot, *whose) for whose in told(r)]


def evolve_flow(key: tuple[int, str, str, str], row: FlowRow | None, r: Recorded) -> FlowRow:
    """The slot's changes, and this one."""
    return grid.changed(row or FlowRow(*key), told(r)[key[1:]], moment(r))


FLOW = Table(
    "flow",
    FlowRow,
    key=4,
    events=(
        JobsSubmitted,
        AttemptPlaced,
        AttemptEnded,
        JobEnded,
        DemandRefused,
        NodeStateChanged,
    ),
    keys=flow_keys,
    evolve=evolve_flow,
    indexes=[("pool", "slot"), ("user", "slot"), ("account", "slot")],
)

# ── what only a job or a node knows ──────────────────────────────────────────────────────────────


def evolve_job(key: tuple[int], row: JobRow | None, r: Recorded) -> JobRow | None:
    """The job, as long as it lives; for ever, if there is more to it than `flow` could tell."""
    e = r.event
    if isinstance(e, JobsSubmitted):
        spec = spec_of(e, key[0])
        whose = (e.user, spec.account, spec.pool)
        was = JobRow(key[0], *whose, spec.nodes, spec.time_limit_s, queued=True, held=False)
        return _corrected(was, replace(was, held=spec.held), r.at, {})
    if row is None:
        return None
    now, flow = row, {}
    if isinstance(e, AttemptPlaced):
        now = replace(row, queued=False)
    elif isinstance(e, AttemptEnded) and e.next != "final":
        now = replace(row, queued=True, held=row.held or e.next == "held")
    elif isinstance(e, AttemptEnded) and not row.corrected:
        return None
    elif isinstance(e, JobEnded):
        now = replace(row, queued=False, left_at=r.at, left_slot=slot_of(r.at))
    elif isinstance(e, JobHeld | JobReleased):
        return _corrected(row, replace(row, held=isinstance(e, JobHeld)), r.at, {})
    elif isinstance(e, JobChanged) and e.time_limit_s is not None:
        return replace(row, time_limit_s=e.time_limit_s)
    if isinstance(e, AttemptPlaced | AttemptEnded | JobEnded):
        (flow,) = told(r).values()
    if isinstance(e, JobEnded):
        flow = flow | {"queued_nodes": -row.nodes}  # by `left_at`
    return _corrected(row, now, moment(r), flow)


def _corrected(was: JobRow, now: JobRow, at: int, flow: Changes) -> JobRow:
    """The job now, and what really changed beyond what is told otherwise."""
    queued, held = now.queued - was.queued, _held(now) - _held(was)
    late = Late(
        at,
        queued - flow.get("queued_jobs", 0),
        queued * now.nodes - flow.get("queued_nodes", 0),
        held,
        held * now.nodes,
    )
    if not (late.queued_jobs or late.queued_nodes or held):
        return now
    return replace(now, corrected=True, late=(*now.late, late))


def _held(row: JobRow) -> int:
    return int(row.queued and row.held)


JOBS = Table(
    "jobs",
    JobRow,
    key=1,
    events=(
        JobsSubmitted,
        AttemptPlaced,
        AttemptEnded,
        JobEnded,
        JobHeld,
        JobReleased,
        JobChanged,
    ),
    keys=job_keys,
    evolve=evolve_job,
    indexes=[("left_slot",), ("corrected",)],
)


def node_keys(r: Recorded) -> Iterable[tuple[str]]:
    """The node."""
    assert isinstance(r.event, NodeEvent)
    return ((r.event.node,),)


def evolve_node(key: tuple[str], row: NodeRow | None, r: Recorded) -> NodeRow | None:
    """Where it serves; for ever, if there is more to it than `flow` could tell."""
    e, flow = r.event, dict[str, int]()
    was = now = row or NodeRow(key[0], "", serving=False)
    if isinstance(e, NodeStateChanged):
        now = replace(was, pool=was.pool or e.pool, serving=e.to in SERVING)
        flow = {pool: n for (pool, *_), changes in told(r).items() for n in changes.values()}
    elif isinstance(e, NodeEnrolled):
        now = replace(was, pool=e.pool, serving=False)
    elif isinstance(e, NodeConfigured):
        now = replace(was, pool=e.pool)
    else:
        now = replace(was, serving=False)
    late = []
    for pool in dict.fromkeys((was.pool, now.pool, *flow)):
        changed = (now.pool == pool) * now.serving - (was.pool == pool) * was.serving
        if n := changed - flow.get(pool, 0):
            late.append(Moved(r.at, pool, n))
    if isinstance(e, NodeRetired) and not (late or was.late):
        return None
    return replace(now, late=(*now.late, *late))


NODES = Table(
    "nodes",
    NodeRow,
    key=1,
    events=(NodeEnrolled, NodeConfigured, NodeStateChanged, NodeRetired),
    keys=node_keys,
    evolve=evolve_node,
)
