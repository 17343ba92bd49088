"""Placement: a pure function from a view of the cluster to proposals, with their reasons.

First come, first served, one queue a pool: jobs are looked at in the order of their ids; the first
that could run once nodes get free, but cannot yet, keeps everything behind it waiting. A job that
waits for a time, or for nodes that are out of service, keeps nobody waiting.

The view is a copy: making the plan may take its time in another thread while the log goes on. Every
proposal is decided again against the state of then.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ledger.commands import Place
from ledger.domain.state import RULES, Cluster, Waiting
from ledger.events import Decision, Passed

NAMED_PASSED = 20
"""How many of the jobs that a placement went past are named in its decision."""


class NodeView(NamedTuple):
    """A node as the planner sees it; `serves`: it will take jobs, now or after its present one."""

    name: str
    features: frozenset[str]
    serves: bool
    free: bool


class PoolView(NamedTuple):
    """One pool: all its nodes, and by their ids all jobs that only nodes or time keep waiting."""

    name: str
    nodes: tuple[NodeView, ...]
    waiting: Mapping[int, Waiting]


class View(NamedTuple):
    """What a plan is made from: the state at `position`, without anything that can change.

    `pools` are those with a free node, and `wake_at` when the next job that waits for a time may
    begin (µs, 0: none).
    """

    position: int
    now: int
    policy: int
    wake_at: int
    pools: tuple[PoolView, ...]


class Plan(NamedTuple):
    """`places` in order; `heads`: the job that each pool with free nodes waits for; `wake_at`: when
    a job that waits for a time may begin (µs, 0: none); `looked_at`: how many jobs were considered.
    """

    view: int
    now: int
    places: tuple[Place, ...]
    heads: dict[str, int]
    wake_at: int
    looked_at: int


def view(c: Cluster, now: int) -> View:
    """Copy what a plan needs: pools that have a free node, for in no other can a job start.

    So under 100,000 waiting jobs a pass costs nothing while all nodes are busy, and a reference a
    job where one is free.
    """
    pools = [
        pool_view(c, name)
        for name in sorted(c.waiting)
        if c.waiting[name] and any(c.nodes[n].free for n in c.pools.get(name, ()))
    ]
    wake_at = min((at for at in c.begins.values() if at > now), default=0)
    return View(c.position, now, c.policy.number, wake_at, tuple(pools))


def pool_view(c: Cluster, name: str) -> PoolView:
    """Copy one pool."""
    return PoolView(name, node_views(c, name), c.waiting.get(name, {}).copy())


def node_views(c: Cluster, name: str) -> tuple[NodeView, ...]:
    """Copy the nodes of one pool."""
    return tuple(
        NodeView(n, c.nodes[n].features, c.nodes[n].serves, c.nodes[n].free)
        for n in sorted(c.pools.get(name, ()))
    )


def plan(v: View) -> Plan:
    """Who starts where, now."""
    places: list[Place] = []
    heads: dict[str, int] = {}
    looked_at = 0
    for pool in v.pools:
        looked_at += _plan_pool(v, pool, places, heads)
    return Plan(v.position, v.now, tuple(places), heads, v.wake_at, looked_at)


def _plan_pool(v: View, pool: PoolView, places: list[Place], heads: dict[str, int]) -> int:
    free = sorted(
        (n for n in pool.nodes if n.free), key=lambda n: (len(n.features), natural(n.name))
    )
    queue = sorted(pool.waiting)
    passed: list[int] = []
    passed_count = 0
    for rank, job_id in enumerate(queue, 1):
        job = pool.waiting[job_id]
        if job.begin_at > v.now:
            continue
        fit = [n for n in free if suits(job, n)] if job.features or job.exclude else free
        fit = _without_avoided(job, fit, pool)
        if len(fit) >= job.nodes:
            chosen = fit[: job.nodes]
            taken = {n.name for n in chosen}
            free = [n for n in free if n.name not in taken]
            decision = Decision(
                view=v.position,
                now=v.now,
                rules=RULES,
                policy=v.policy,
                rank=rank,
                of=len(queue),
                how="in_order",
                passed=Passed(count=passed_count, jobs=tuple(passed)),
            )
            places.append(
                Place(job=job.job, nodes=tuple(n.name for n in chosen), decision=decision)
            )
        elif could_ever(job, pool):
            heads[pool.name] = job.job
            return rank
        else:
            passed_count += 1
            if len(passed) < NAMED_PASSED:
                passed.append(job.job)
    return len(queue)


def suits(job: Waiting, node: NodeView) -> bool:
    """Has the node what the job asks for, and is it not one that the job excludes?"""
    return job.features <= node.features and node.name not in job.exclude


def fitting(job: Waiting, pool: PoolView) -> list[NodeView]:
    """The free nodes that the job could have now."""
    return _without_avoided(job, [n for n in pool.nodes if n.free and suits(job, n)], pool)


def could_ever(job: Waiting, pool: PoolView) -> bool:
    """Are there enough suitable nodes in service, free or busy?"""
    serving = [n for n in pool.nodes if n.serves and suits(job, n)]
    return len(_without_avoided(job, serving, pool)) >= job.nodes


def _without_avoided(job: Waiting, nodes: list[NodeView], pool: PoolView) -> list[NodeView]:
    """Leave out the nodes that lost this job before, unless its pool is too small without them."""
    if not job.avoid:
        return nodes
    others = sum(1 for n in pool.nodes if suits(job, n) and n.name not in job.avoid)
    if others < job.nodes:
        return nodes
    return [n for n in nodes if n.name not in job.avoid]


def natural(name: str) -> tuple[str | int, ...]:
    """A sort key by which n2 comes before n10."""
    parts: list[str | int] = []
    digits = ""
    text = ""
    for ch in name:
        if ch.isascii() and ch.isdigit():
            if not digits:
                parts.append(text)
                text = ""
            digits += ch
        else:
            if digits:
                parts.append(int(digits))
                digits = ""
            text += ch
    parts.append(int(digits) if digits else text)
    return tuple(parts)
