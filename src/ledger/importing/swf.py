"""A trace in the Standard Workload Format as a cluster's past.

A trace tells of processors, seldom of nodes. Where it lists a job's nodes, they are kept; where the
machine has one processor a node, the processors are counted as nodes; else a job has as many nodes
as its processors need.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ledger.events import Outcome
from ledger.importing.past import Past, Try
from ledger.importing.tally import Tally
from ledger.importing.trace import TraceJob

OUTCOMES: dict[int, tuple[Outcome, str]] = {
    0: ("failed", "exit"),
    1: ("completed", "exit"),
    5: ("cancelled", "stopped"),
}
PARTS = (2, 3, 4)
"""Statuses of lines that tell of a part of a job: the whole has a line of its own."""


class Machine(NamedTuple):
    """What a trace says of the machine: when it began (s since 1970), and processors of a node."""

    began: int
    per_node: int


def machine(remarks: Mapping[str, str]) -> Machine:
    """The machine that a trace's remarks describe."""

    def number(name: str) -> int:
        first = remarks.get(name, "").split(" ")[0]
        return int(first) if first.isdigit() else 0

    nodes, procs = number("MaxNodes"), number("MaxProcs")
    return Machine(number("UnixStartTime"), max(1, procs // nodes) if nodes and procs else 1)


def read(jobs: Iterable[TraceJob], machine: Machine, tally: Tally) -> list[Past]:
    """The jobs of a trace, in its order; one whose number was used before is left out."""
    found: list[Past] = []
    seen: set[int] = set()
    for line, job in enumerate(jobs, 1):
        if job.status in PARTS:
            tally.skip("a part of a job, which has a line of its own", line)
        elif job.number in seen:
            tally.skip("a job number that was used before", line)
        else:
            seen.add(job.number)
            past = _past(job, machine)
            tally.job(past.user, past.tries)
            found.append(past)
    return found


def _past(job: TraceJob, machine: Machine) -> Past:
    submitted = (machine.began + job.submit) * 1_000_000
    began = submitted + max(0, job.wait) * 1_000_000
    nodes = len(job.nodes) or -(-job.procs // machine.per_node)
    outcome, cause = OUTCOMES.get(job.status, ("completed", "unknown"))
    left = outcome == "cancelled" and job.run == 0
    tries = (
        Try(
            start=began,
            end=began + job.run * 1_000_000,
            nodes=job.nodes,
            node_count=nodes,
            cpus=job.procs,
            outcome=outcome,
            cause=cause,
        ),
    )
    return Past(
        job=job.number,
        user=job.user,
        account=f"g{job.group}" if job.group >= 0 else "",
        pool=f"p{job.partition}" if job.partition >= 0 else "default",
        qos=f"q{job.queue}" if job.queue >= 0 else "",
        name="",
        submitted_at=submitted,
        nodes=nodes,
        time_limit_s=job.limit,
        tries=() if left else tries,
        ended_at=began if left else None,
    )
