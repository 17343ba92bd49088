"""Why a job waits: computed afresh from the state, never remembered.

The words are Slurm's reason tokens where the meaning is the same, always beside a plain sentence.
"""

from typing import NamedTuple

from ledger.domain.errors import UnknownJob
from ledger.domain.schedule import (
    NAMED_PASSED,
    PoolView,
    could_ever,
    fitting,
    node_views,
    pool_view,
    suits,
)
from ledger.domain.state import Cluster, Job, Waiting

REASONS = {
    "None": "Nothing keeps it: it starts with the next pass of the planner.",
    "Priority": "Jobs that were submitted before it in the same pool come first.",
    "Resources": "It is next in its pool; not enough suitable nodes are free.",
    "BeginTime": "It may not begin before the time it asked for.",
    "Dependency": "It waits for the end of another job.",
    "DependencyNeverSatisfied": "A job it depends on has ended otherwise than asked for.",
    "JobHeldUser": "Its owner holds it.",
    "JobHeldAdmin": "An operator holds it.",
    "JobHeldSystem": "It was held after losing its nodes too often.",
    "ReqNodeNotAvail": "Nodes that it needs are out of service.",
    "BadConstraints": "Its pool no longer has enough nodes that suit it.",
}
"""Every reason there is, and what it means."""

_HOLDS = {"user": "JobHeldUser", "admin": "JobHeldAdmin", "system": "JobHeldSystem"}


class Heads:
    """The reason tokens of many jobs at once: what is common to a pool is looked at once."""

    def __init__(self, c: Cluster, now: int) -> None:
        self._cluster = c
        self._now = now
        self._pools: dict[str, tuple[PoolView, int]] = {}

    def reason(self, job: Job) -> str:
        """The token of one pending job; the same that `why` gives it."""
        if own := _own_reason(job, self._now):
            return own
        pool, head = self._pool(job.spec.pool)
        if head and head < job.id:
            mine = self._cluster.waiting[job.spec.pool][job.id]
            return "Priority" if could_ever(mine, pool) else why_not_ever(mine, pool)
        return queued_reason(self._cluster.waiting[job.spec.pool][job.id], pool)

    def _pool(self, name: str) -> tuple[PoolView, int]:
        found = self._pools.get(name)
        if found is None:
            pool = pool_view(self._cluster, name)
            queue = (pool.waiting[job_id] for job_id in sorted(pool.waiting))
            ready = (w for w in queue if w.begin_at <= self._now)
            head = next((w.job for w in ready if could_ever(w, pool)), 0)
            found = self._pools[name] = (pool, head)
        return found


def _own_reason(job: Job, now: int) -> str:
    """The token of a job that waits for anything but nodes; else empty."""
    if job.hold is not None:
        return _HOLDS[job.hold]
    if job.impossible:
        return "DependencyNeverSatisfied"
    if job.depends:
        return "Dependency"
    return "BeginTime" if job.spec.begin_at > now else ""


class Tally:
    """The reason tokens of all pending jobs, asked for in the order of their ids.

    Of jobs that ask for the same of the same pool one is looked at. So this is for a hundred
    thousand jobs, between which the state may go on; `Heads` is for some at one moment.
    """

    def __init__(self, now: int) -> None:
        self._now = now
        self._pools: dict[str, PoolView] = {}
        self._never: dict[tuple[object, ...], str] = {}
        self._headed: set[str] = set()

    def reason(self, c: Cluster, job: Job) -> str:
        """The token of a pending job of `c`."""
        if own := _own_reason(job, self._now):
            return own
        name = job.spec.pool
        mine = c.waiting[name][job.id]
        kind = (name, mine.nodes, mine.features, mine.exclude, mine.avoid)
        never = self._never.get(kind)
        if never is None:
            pool = self._pool(c, name)
            never = "" if could_ever(mine, pool) else why_not_ever(mine, pool)
            self._never[kind] = never
        if never:
            return never
        if name in self._headed:
            return "Priority"
        self._headed.add(name)
        return queued_reason(mine, self._pool(c, name))

    def _pool(self, c: Cluster, name: str) -> PoolView:
        if name not in self._pools:
            self._pools[name] = PoolView(name, node_views(c, name), {})
        return self._pools[name]


def why_not_ever(job: Waiting, pool: PoolView) -> str:
    """The token of a job that its pool can't serve as it is now."""
    suited = sum(1 for n in pool.nodes if suits(job, n))
    return "BadConstraints" if suited < job.nodes else "ReqNodeNotAvail"


def queued_reason(job: Waiting, pool: PoolView) -> str:
    """The token of a job that nothing stands before."""
    if not could_ever(job, pool):
        return why_not_ever(job, pool)
    return "None" if len(fitting(job, pool)) >= job.nodes else "Resources"


class Row(NamedTuple):
    """A piece of evidence: what was looked at, and what was found."""

    what: str
    found: str


class Why(NamedTuple):
    """The answer: a token, a sentence, the evidence, what would change it, and as of when.

    `ahead` counts the jobs that come first, `ahead_jobs` names at most 20 of them; `ahead_node_s`
    is what these asked for, in node-seconds.
    """

    job: int
    state: str
    reason: str
    sentence: str
    evidence: tuple[Row, ...]
    advice: tuple[str, ...]
    ahead: int
    ahead_jobs: tuple[int, ...]
    ahead_node_s: int
    position: int
    policy: int
    now: int


def why(c: Cluster, job_id: int, now: int) -> Why:
    """Why a job is where it is. Raises `UnknownJob` for one that is not live or never was."""
    job = c.jobs.get(job_id)
    if job is None:
        raise UnknownJob(f"There is no live job {job_id}.")
    if job.attempt is not None:
        return _running(c, job, now)
    if job.hold is not None:
        return _held(c, job, now)
    if job.impossible:
        return _answer(
            c,
            job,
            now,
            "DependencyNeverSatisfied",
            "it depends on the end of a job that has ended otherwise than asked for",
            advice=(f"Cancel it: jobledger cancel {job.id}; and submit it anew.",),
        )
    if job.depends:
        rows = tuple(
            Row(f"{d.kind} {d.job}", c.jobs[d.job].state if d.job in c.jobs else "ended")
            for d in job.depends
        )
        jobs = ", ".join(str(d.job) for d in job.depends)
        return _answer(c, job, now, "Dependency", f"it waits for the end of job {jobs}", rows)
    if job.spec.begin_at > now:
        seconds = (job.spec.begin_at - now) // 1_000_000
        rows = (Row("may begin in", f"{seconds} s"),)
        return _answer(c, job, now, "BeginTime", "it may not begin yet", rows)
    return _queued(c, job, now)


def _running(c: Cluster, job: Job, now: int) -> Why:
    assert job.attempt is not None
    a = job.attempt
    leader = c.nodes.get(a.nodes[0])
    sentence = f"it runs as attempt {a.n} on {','.join(a.nodes)}"
    if leader is not None and leader.health == "down" and leader.silent_since:
        sentence = f"attempt {a.n} on {','.join(a.nodes)} is out of contact"
    elif a.stop:
        sentence = f"attempt {a.n} was told to stop ({a.stop})"
    return _answer(c, job, now, "None", sentence)


def _held(c: Cluster, job: Job, now: int) -> Why:
    assert job.hold is not None
    token = _HOLDS[job.hold]
    sentence = f"it is held by {job.held_by}"
    if job.hold == "system":
        sentence = f"it was held after {job.node_fails} attempts were lost with their nodes"
    return _answer(
        c, job, now, token, sentence, advice=(f"Release it: jobledger release {job.id}",)
    )


def _queued(c: Cluster, job: Job, now: int) -> Why:
    """It waits for nodes: say for which, and behind whom."""
    pool = pool_view(c, job.spec.pool)
    mine = c.waiting[job.spec.pool][job.id]
    rows = _tally(mine, pool)
    never = "" if could_ever(mine, pool) else why_not_ever(mine, pool)
    if never == "BadConstraints":
        sentence = f"the pool {pool.name} no longer has {mine.nodes} nodes that suit it"
        advice = (f"Cancel it: jobledger cancel {job.id}; and ask for other nodes.",)
        return _answer(c, job, now, "BadConstraints", sentence, rows, advice)
    if never:
        sentence = f"too many of the {pool.name} nodes that suit it are out of service"
        return _answer(c, job, now, "ReqNodeNotAvail", sentence, rows)
    ahead = [
        w
        for w in c.waiting[job.spec.pool].values()
        if w.job < job.id and w.begin_at <= now and could_ever(w, pool)
    ]
    if ahead:
        noun = "job" if len(ahead) == 1 else "jobs"
        sentence = f"{len(ahead)} {noun} in the pool {pool.name} were submitted before it"
        return _answer(c, job, now, "Priority", sentence, rows, ahead=ahead)
    free = len(fitting(mine, pool))
    if free >= mine.nodes:
        return _answer(c, job, now, "None", "it starts with the planner's next pass", rows)
    are = "is" if free == 1 else "are"
    sentence = f"it is next, and needs {mine.nodes} of the pool's nodes; {free} {are} free"
    return _answer(c, job, now, "Resources", sentence, rows)


def _tally(job: Waiting, pool: PoolView) -> tuple[Row, ...]:
    """How the pool's nodes stand to this job: every node is counted once."""
    counts = {"free": 0, "busy": 0, "out of service": 0, "lost this job before": 0, "unsuited": 0}
    for node in pool.nodes:
        if not suits(job, node):
            counts["unsuited"] += 1
        elif node.name in job.avoid:
            counts["lost this job before"] += 1
        elif node.free:
            counts["free"] += 1
        elif node.serves:
            counts["busy"] += 1
        else:
            counts["out of service"] += 1
    rows = [Row("nodes wanted", str(job.nodes))]
    rows += [Row(f"nodes {what}", str(n)) for what, n in counts.items() if n or what == "free"]
    return tuple(rows)


def _answer(
    c: Cluster,
    job: Job,
    now: int,
    reason: str,
    sentence: str,
    rows: tuple[Row, ...] = (),
    advice: tuple[str, ...] = (),
    ahead: list[Waiting] | None = None,
) -> Why:
    assert reason in REASONS, reason
    first = sorted(w.job for w in ahead or ())
    verb = "waits because" if job.attempt is None else "does not wait:"
    return Why(
        job=job.id,
        state=job.state,
        reason=reason,
        sentence=f"Job {job.id} {verb} {sentence}.",
        evidence=rows,
        advice=advice,
        ahead=len(first),
        ahead_jobs=tuple(first[:NAMED_PASSED]),
        ahead_node_s=sum(w.nodes * w.time_limit_s for w in ahead or ()),
        position=c.position,
        policy=c.policy.number,
        now=now,
    )
