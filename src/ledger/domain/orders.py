"""What each node is to have: derived from the state, so that repeating an order costs nothing."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from ledger.domain.attempt import give_up_at
from ledger.domain.state import Cluster, Job
from ledger.wire import Has, Report

STOP_REASONS = {
    "cancelled": "the job was cancelled",
    "requeued": "the job is to wait again",
    "member_lost": "another node of the attempt was lost",
    "node_down": "the node was declared dead",
}


class Wanted(NamedTuple):
    """An attempt a node is to have: the job, whether this node leads, why it should stop."""

    job: Job
    attempt: int
    leads: bool
    stop: str


def wanted(
    c: Cluster, node_name: str, members_lost: frozenset[tuple[int, int]] = frozenset()
) -> list[Wanted]:
    """The attempts of a node, in order; `members_lost`: those a member of which has ended."""
    node = c.nodes.get(node_name)
    if node is None:
        return []
    found = []
    for job_id, n in sorted(node.attempts):
        job = c.jobs.get(job_id)
        if job is None or job.attempt is None or job.attempt.n != n:
            continue
        stop = job.attempt.stop
        if not stop and node.cause == "declared_dead":
            stop = "node_down"
        if not stop and ((job_id, n) in members_lost or _lost_member(c, job)):
            stop = "member_lost"
        found.append(Wanted(job, n, job.attempt.nodes[0] == node_name, stop))
    return found


def _lost_member(c: Cluster, job: Job) -> bool:
    assert job.attempt is not None
    return any(n not in c.nodes or c.nodes[n].health == "down" for n in job.attempt.nodes[1:])


class Untold(NamedTuple):
    """What an agent is to do about an attempt and has not said that it does."""

    job: int
    attempt: int
    order: Literal["start", "go", "stop", "forget"]


def untold(
    wants: Sequence[Wanted],
    has: Sequence[Has],
    reports: Sequence[Report],
    goes: Callable[[Job, int], bool],
) -> Iterator[Untold]:
    """What an agent that says this of itself has yet to be told, or to obey.

    `goes`: has every node but the leader reported its hold of an attempt?
    """
    phases = {(h.job, h.attempt): h.phase for h in has}
    ended = {(r.job, r.attempt) for r in reports if r.kind == "ended"}
    for want in wants:
        key = (want.job.id, want.attempt)
        if key in ended:
            continue
        phase = phases.pop(key, None)
        if want.stop:
            if phase != "stopping":
                yield Untold(*key, "stop")
        elif phase is None:
            yield Untold(*key, "start")
        elif phase == "held" and want.leads and goes(want.job, want.attempt):
            yield Untold(*key, "go")
    for key in phases:
        yield Untold(*key, "forget")


def due(c: Cluster) -> list[tuple[int, Job]]:
    """When each running job whose leader is silent may be given up: (µs, job), soonest first."""
    found = []
    for node in c.nodes.values():
        if node.health != "down":
            continue
        for job_id, n in node.attempts:
            job = c.jobs.get(job_id)
            if job is None or job.attempt is None or job.attempt.n != n:
                continue
            when = give_up_at(c, job)
            if job.attempt.nodes[0] == node.name and when is not None:
                found.append((when, job))
    return sorted(found, key=lambda pair: (pair[0], pair[1].id))
