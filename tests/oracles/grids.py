"""What waited, ran and served, and what was asked for: brute-force scans of the log over time, that
know nothing but events."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

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
    NodeRetired,
    NodeStateChanged,
    Recorded,
)

QUARTER_US = 15 * 60 * 1_000_000
FOR_EVER = 2**62


class Stretch(NamedTuple):
    """Something that lasted (µs): `queued`, `held`, `running` or `serving`."""

    kind: str
    since: int
    until: int
    pool: str
    user: str
    account: str
    nodes: int


class Once(NamedTuple):
    """Something that happened: `asked`, `started`, `withdrawn` or `refused`, and how much of it."""

    kind: str
    at: int
    pool: str
    user: str
    account: str
    jobs: int
    node_s: int


class Known(NamedTuple):
    """A job as it was asked for, and since when it waits, is held, runs (None: it does not)."""

    user: str
    account: str
    pool: str
    nodes: int
    limit_s: int
    queued: int | None
    held: int | None = None
    running: int | None = None
    has: int = 0
    hold: bool = False


def stretches(log: Sequence[Recorded]) -> list[Stretch]:
    """All that lasted."""
    return [*_of_jobs(log), *_of_nodes(log)]


def _of_jobs(log: Sequence[Recorded]) -> Iterator[Stretch]:
    jobs: dict[int, Known] = {}

    def over(job: Known, kind: str, until: int) -> Iterator[Stretch]:
        since = getattr(job, kind)
        nodes = job.has if kind == "running" else job.nodes
        if since is not None:
            yield Stretch(kind, since, until, job.pool, job.user, job.account, nodes)

    for r in log:
        e = r.event
        if isinstance(e, JobsSubmitted):
            for i in range(e.count):
                spec = e.specs[0 if e.array else i]
                asked = (spec.account, spec.pool, spec.nodes, spec.time_limit_s)
                since = r.at if spec.held else None
                jobs[e.first_job + i] = Known(e.user, *asked, r.at, since, hold=spec.held)
            continue
        job = jobs.get(getattr(e, "job", 0))
        if job is None:
            continue
        if isinstance(e, AttemptPlaced):
            yield from over(job, "queued", e.placed_at)
            yield from over(job, "held", e.placed_at)
            has = len(e.nodes) if e.node_count is None else e.node_count
            job = job._replace(queued=None, held=None, running=e.placed_at, has=has)
        elif isinstance(e, AttemptEnded):
            at = e.placed_at + e.held_us
            yield from over(job, "running", at)
            again, hold = at if e.next != "final" else None, job.hold or e.next == "held"
            job = job._replace(running=None, queued=again, held=again if hold else None, hold=hold)
        elif isinstance(e, JobEnded):
            yield from over(job, "queued", r.at)
            yield from over(job, "held", r.at)
            job = job._replace(queued=None, held=None)
        elif isinstance(e, JobHeld):
            since = r.at if job.queued is not None and job.held is None else job.held
            job = job._replace(held=since, hold=True)
        elif isinstance(e, JobReleased):
            yield from over(job, "held", r.at)
            job = job._replace(held=None, hold=False)
        jobs[e.job] = job  # type: ignore[attr-defined]
    for job in jobs.values():
        for kind in ("queued", "held", "running"):
            yield from over(job, kind, FOR_EVER)


def _of_nodes(log: Sequence[Recorded]) -> Iterator[Stretch]:
    pools: dict[str, str] = {}
    since: dict[str, int] = {}

    def over(node: str, until: int) -> Iterator[Stretch]:
        if node in since:
            yield Stretch("serving", since.pop(node), until, pools[node], "", "", 1)

    for r in log:
        e = r.event
        if not isinstance(e, NodeEnrolled | NodeConfigured | NodeStateChanged | NodeRetired):
            continue
        serves = e.node in since
        yield from over(e.node, r.at)
        if isinstance(e, NodeEnrolled | NodeConfigured):
            pools[e.node] = e.pool
        if isinstance(e, NodeStateChanged):
            serves = e.to in ("idle", "allocated")
        if serves and not isinstance(e, NodeEnrolled | NodeRetired):
            since[e.node] = r.at
    for node in list(since):
        yield from over(node, FOR_EVER)


def once(log: Sequence[Recorded]) -> Iterator[Once]:
    """All that happened."""
    specs: dict[int, tuple[int, int]] = {}
    for r in log:
        e = r.event
        if isinstance(e, JobsSubmitted):
            for i in range(e.count):
                spec = e.specs[0 if e.array else i]
                specs[e.first_job + i] = (spec.nodes, spec.time_limit_s)
                node_s = spec.nodes * spec.time_limit_s
                yield Once("asked", r.at, spec.pool, e.user, spec.account, 1, node_s)
        elif isinstance(e, JobChanged) and e.time_limit_s is not None:
            specs[e.job] = (specs[e.job][0], e.time_limit_s)
        elif isinstance(e, AttemptPlaced) and e.attempt == 1:
            node_s = (len(e.nodes) if e.node_count is None else e.node_count) * e.time_limit_s
            yield Once("started", e.placed_at, e.pool, e.user, e.account, 1, node_s)
        elif isinstance(e, JobEnded):
            nodes, limit_s = specs[e.job]
            yield Once("withdrawn", r.at, e.pool, e.user, e.account, 1, nodes * limit_s)
        elif isinstance(e, DemandRefused):
            at = e.minute * 60_000_000
            yield Once("refused", at, e.pool, e.user, e.account, e.jobs, e.node_seconds)


class Demanded(NamedTuple):
    """A period: integrals of jobs and nodes over time (µs), levels at its end, counts."""

    jobs_us: dict[str, int]
    nodes_us: dict[str, int]
    jobs: dict[str, int]
    nodes: dict[str, int]
    counted: dict[str, tuple[int, int]]
    unmet_us: int


def demand(log: Sequence[Recorded], edges: Sequence[int], **whose: str) -> list[Demanded]:
    """What was demanded between each two of these moments, by a `user`, an `account`, of a `pool`,
    or by everybody of all."""

    def wanted(one: Stretch | Once) -> bool:
        return all(getattr(one, name) == value for name, value in whose.items())

    lasted = [one for one in stretches(log) if wanted(one)]
    happened = [one for one in once(log) if wanted(one)]
    pools = {one.pool for one in lasted}
    return [
        Demanded(
            {kind: _integral(lasted, kind, low, high, jobs=True) for kind in KINDS},
            {kind: _integral(lasted, kind, low, high) for kind in KINDS},
            {kind: len(_there(lasted, kind, high)) for kind in KINDS},
            {kind: sum(s.nodes for s in _there(lasted, kind, high)) for kind in KINDS},
            {kind: _sums(happened, kind, low, high) for kind in COUNTED},
            sum(_unmet([s for s in lasted if s.pool == pool], low, high) for pool in pools),
        )
        for low, high in pairwise(edges)
    ]


def _there(lasted: Sequence[Stretch], kind: str, at: int) -> list[Stretch]:
    """What there is of a kind just before a moment."""
    return [s for s in lasted if s.kind == kind and s.since < at <= s.until]


KINDS = ("queued", "held", "running", "serving")
COUNTED = ("asked", "started", "withdrawn", "refused")


def _integral(
    lasted: Sequence[Stretch], kind: str, low: int, high: int, *, jobs: bool = False
) -> int:
    return sum(
        max(0, min(s.until, high) - max(s.since, low)) * (1 if jobs else s.nodes)
        for s in lasted
        if s.kind == kind
    )


def _sums(happened: Sequence[Once], kind: str, low: int, high: int) -> tuple[int, int]:
    these = [one for one in happened if one.kind == kind and low <= one.at < high]
    return sum(one.jobs for one in these), sum(one.node_s for one in these)


def _unmet(lasted: Sequence[Stretch], low: int, high: int) -> int:
    """Of a pool, quarter by quarter: what waited and was not held, as far as it and what was in use
    were more than what served."""
    found = 0
    for begin in range(low, high, QUARTER_US):
        end = min(begin + QUARTER_US, high)
        queued, held, used, serving = (_integral(lasted, kind, begin, end) for kind in KINDS)
        waits = queued - held
        found += max(0, min(waits, used + waits - serving))
    return found
