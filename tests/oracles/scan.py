"""What became of jobs, and whom the trouble of nodes hit: brute-force scans of the log, which know
nothing but events."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    AttemptStarted,
    JobEnded,
    JobsSubmitted,
    NodeStateChanged,
    Recorded,
)


class Fate(NamedTuple):
    """A job as the log leaves it; None: not yet."""

    job: int
    user: str
    account: str
    state: str
    submitted_at: int
    started_at: int | None
    ended_at: int | None
    attempts: int
    nodes_ever: frozenset[str]


def fates(log: Sequence[Recorded]) -> list[Fate]:
    """Every job there ever was, by id."""
    found = []
    for r in log:
        e = r.event
        if isinstance(e, JobsSubmitted):
            for i in range(e.count):
                account = e.specs[0 if e.array else i].account
                found.append(fate(log, e.first_job + i, e.user, account, r.at))
    return found


def fate(log: Sequence[Recorded], job: int, user: str, account: str, submitted_at: int) -> Fate:
    """One job."""
    about = [r for r in log if getattr(r.event, "job", 0) == job]
    placed = [r.event for r in about if isinstance(r.event, AttemptPlaced)]
    starts = [r.event.started_at for r in about if isinstance(r.event, AttemptStarted)]
    ends = [
        r.at
        for r in about
        if isinstance(r.event, JobEnded)
        or (isinstance(r.event, AttemptEnded) and r.event.next == "final")
    ]
    assert len(ends) <= 1, f"job {job} ended twice"
    assert [e.attempt for e in placed] == list(range(1, len(placed) + 1))
    return Fate(
        job,
        user,
        account,
        state_of(log, job),
        submitted_at,
        starts[0] if starts else None,
        ends[0] if ends else None,
        len(placed),
        frozenset(node for e in placed for node in e.nodes),
    )


def state_of(log: Sequence[Recorded], job: int) -> str:
    """The state that the last word about a job leaves it in."""
    state = "pending"
    for r in log:
        e = r.event
        if isinstance(e, AttemptPlaced) and e.job == job:
            state = "running"
        elif isinstance(e, AttemptEnded | JobEnded) and e.job == job:
            state = e.state
    return state


class Hit(NamedTuple):
    """An attempt on a node that was in trouble."""

    user: str
    account: str
    job: int
    attempt: int
    node: str
    struck_at: int
    restartable: bool
    lost_us: int
    effect: str
    state: str


def impact(
    log: Sequence[Recorded],
    nodes: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
) -> list[Hit]:
    """Everyone hit in the window, sorted by user, account, job, attempt, node."""

    def inside(at: int) -> bool:
        return (since is None or at >= since) and (until is None or at < until)

    hits = set()
    for r in log:
        e = r.event
        if isinstance(e, NodeStateChanged) and inside(r.at):
            hits |= {(s.job, s.attempt, e.node) for s in e.struck}
        if isinstance(e, AttemptEnded) and e.outcome == "node_fail" and inside(r.at):
            for node in e.lost:
                if first_silence(log, e.job, e.attempt, node) is None:
                    hits.add((e.job, e.attempt, node))
    return sorted(describe(log, *hit) for hit in hits if nodes is None or hit[2] in nodes)


def describe(log: Sequence[Recorded], job: int, attempt: int, node: str) -> Hit:
    """All that there is to say about one hit."""
    silence = first_silence(log, job, attempt, node)
    end = next(
        (
            r
            for r in log
            if isinstance(r.event, AttemptEnded)
            and (r.event.job, r.event.attempt) == (job, attempt)
        ),
        None,
    )
    if silence is not None:
        assert isinstance(silence.event, NodeStateChanged)
        struck = next(s for s in silence.event.struck if (s.job, s.attempt) == (job, attempt))
        user, account, restartable = struck.user, struck.account, struck.restartable
        struck_at = silence.at
    else:
        assert end is not None
        assert isinstance(end.event, AttemptEnded)
        user, account = end.event.user, end.event.account
        restartable, struck_at = end.event.next != "final", end.at
    lost_us = 0
    if end is None:
        effect = "out_of_contact" if down_at_the_end(log, node) else "continued"
    else:
        assert isinstance(end.event, AttemptEnded)
        effect = "continued"
        if end.event.outcome == "node_fail":
            effect = {"final": "lost", "held": "held", "requeued": "requeued"}[end.event.next]
            lost_us = (end.at - end.event.placed_at) * len(end.event.nodes)
    state = state_of(log, job)
    return Hit(user, account, job, attempt, node, struck_at, restartable, lost_us, effect, state)


def first_silence(log: Sequence[Recorded], job: int, attempt: int, node: str) -> Recorded | None:
    """The first event that has this attempt among those its node's trouble struck."""
    for r in log:
        e = r.event
        if (
            isinstance(e, NodeStateChanged)
            and e.node == node
            and any((s.job, s.attempt) == (job, attempt) for s in e.struck)
        ):
            return r
    return None


def down_at_the_end(log: Sequence[Recorded], node: str) -> bool:
    """Is the node down when the log ends?"""
    changes = [r.event for r in log if isinstance(r.event, NodeStateChanged)]
    states = [e.to for e in changes if e.node == node]
    return states[-1] == "down"


def totals(hits: Sequence[Hit]) -> dict[tuple[str, str], tuple[int, int, int]]:
    """By user and account: node-time lost, jobs that wait again, jobs their owner must look at."""
    found = {}
    for who in {(h.user, h.account) for h in hits}:
        mine = [h for h in hits if (h.user, h.account) == who]
        lost = sum(us for _, _, us in {(h.job, h.attempt, h.lost_us) for h in mine})
        requeued = owner = 0
        for job in {h.job for h in mine}:
            latest = max(h.attempt for h in mine if h.job == job)
            effects = {h.effect for h in mine if (h.job, h.attempt) == (job, latest)}
            requeued += "requeued" in effects
            owner += not effects.isdisjoint({"lost", "held", "out_of_contact"})
        found[who] = (lost, requeued, owner)
    return found


class Use(NamedTuple):
    """What was used in a period: times are µs, `wasted` of attempts that came to nothing,
    `measured_us` the processor time that those which ended in it had used."""

    jobs: int
    node_us: int
    cpu_us: int
    wasted: int
    measured_us: int


def use(log: Sequence[Recorded], edges: Sequence[int], **whose: str) -> list[Use]:
    """What was used between each two of these moments, by a `user`, an `account`, or everybody."""
    ended = {(e.job, e.attempt): e for r in log if isinstance(e := r.event, AttemptEnded)}
    found = [Use(0, 0, 0, 0, 0)] * (len(edges) - 1)
    for r in log:
        e = r.event
        if not isinstance(e, AttemptPlaced):
            continue
        if any(getattr(e, name) != value for name, value in whose.items()):
            continue
        its = ended.get((e.job, e.attempt))
        end = its.placed_at + its.held_us if its else edges[-1]
        nodes = len(e.nodes) if e.node_count is None else e.node_count
        for i, (since, until) in enumerate(pairwise(edges)):
            part = max(0, min(end, until) - max(e.placed_at, since))
            ends = its is not None and since <= end < until
            over = ends and its is not None and its.next == "final"
            lost = its is not None and its.outcome != "completed"
            was = found[i]
            found[i] = Use(
                was.jobs + over,
                was.node_us + part * nodes,
                was.cpu_us + part * (e.cpus or 0),
                was.wasted + part * nodes * lost,
                was.measured_us + ((its.cpu_us or 0) if ends and its is not None else 0),
            )
    return found
