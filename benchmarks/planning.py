"""A planning pass that finds nothing to do, under queues of three lengths."""

import statistics
import time
from collections.abc import Iterator, Sequence

from benchmarks.logs import START, submitted
from benchmarks.table import Growth
from ledger.domain.cluster import evolve
from ledger.domain.schedule import plan, view
from ledger.domain.state import Cluster, Node
from ledger.events import Envelope, Recorded

NODES = 1000


def measure(pending: Sequence[int], *, turns: int) -> Iterator[Growth]:
    """Milliseconds of a pass: no node free; some free, but of no use to any job that waits."""
    queues = [_queue(jobs) for jobs in pending]
    sizes = [f"{jobs:,} pending" for jobs in pending]
    yield Growth("plan", "no node free", "-", sizes, [_pass(c, turns) for c in queues], " ms")
    for cluster in queues:
        cluster.nodes["n0"].attempts.clear()
    what = "one node free, all jobs ask for two"
    yield Growth("plan", what, "-", sizes, [_pass(c, turns) for c in queues], " ms")


def _queue(jobs: int) -> Cluster:
    cluster = Cluster()
    for number in range(NODES):
        name = f"n{number}"
        cluster.nodes[name] = Node(name, "default", health="ok", attempts={(1, 1)})
        cluster.pools.setdefault("default", set()).add(name)
    for job in range(1, jobs + 1):
        event = submitted(job, nodes=2)
        place = (job, event.stream, job, job, START, 1)
        evolve(cluster, Recorded(*place, "", event, Envelope()))
    return cluster


def _pass(cluster: Cluster, turns: int) -> float:
    took = []
    for _ in range(turns):
        began = time.perf_counter()
        made = plan(view(cluster, START))
        took.append(time.perf_counter() - began)
        assert not made.places
    return statistics.median(took) * 1e3
