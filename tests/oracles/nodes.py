"""What a node was at a moment, why, and what came of what ran there: brute-force scans of the log,
which know nothing but events."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ledger.events import (
    AgentSeen,
    AttemptEnded,
    AttemptPlaced,
    JobsSubmitted,
    NodeConfigured,
    NodeEnrolled,
    NodeRetired,
    NodeSoftwareChanged,
    NodeStateChanged,
    Recorded,
)


def state_at(log: Sequence[Recorded], node: str, moment: int) -> str | None:
    """The word for a node's state at a moment; None: it had not joined."""
    word: str | None = None
    there: set[tuple[int, int]] = set()
    for r in log:
        if r.at > moment:
            break
        e = r.event
        if isinstance(e, AttemptPlaced) and node in e.nodes:
            there.add((e.job, e.attempt))
        elif isinstance(e, AttemptEnded):
            there.discard((e.job, e.attempt))
        elif isinstance(e, NodeEnrolled) and e.node == node:
            word = "checking"
        elif isinstance(e, NodeRetired) and e.node == node:
            word = "retired"
        elif isinstance(e, NodeStateChanged) and e.node == node:
            word = e.to
    if word in ("idle", "allocated"):
        return "allocated" if there else "idle"
    if word in ("draining", "drained"):
        return "draining" if there else "drained"
    return word


def drained_because(log: Sequence[Recorded], node: str, moment: int) -> list[str]:
    """What operators said why a node is to take no jobs, the first of it first, also while it is
    down; empty where it may take some."""
    said: list[str] = []
    for r in log:
        e = r.event
        if r.at > moment:
            break
        if isinstance(e, NodeEnrolled | NodeRetired) and e.node == node:
            said = []
        elif isinstance(e, NodeStateChanged) and e.node == node:
            if e.to in ("idle", "allocated") or e.cause == "resumed":
                said = []
            elif e.cause in ("operator", "drained", "declared_dead"):
                said.append(e.reason)
    return said


class Facts(NamedTuple):
    """What a node was, and had installed."""

    pool: str = ""
    serial: str = ""
    rack: str = ""
    image: str = ""
    kernel: str = ""
    packages: str = ""
    build: str = ""


def facts_at(log: Sequence[Recorded], node: str, moment: int) -> Facts:
    """What was known of a node at a moment."""
    known = Facts()
    for r in log:
        e = r.event
        if r.at > moment or getattr(e, "node", "") != node:
            continue
        if isinstance(e, NodeEnrolled):
            known = Facts(e.pool, e.serial, e.rack)
        elif isinstance(e, NodeConfigured):
            known = known._replace(pool=e.pool, serial=e.serial, rack=e.rack)
        elif isinstance(e, NodeSoftwareChanged):
            known = known._replace(
                image=e.image, kernel=e.kernel, packages=e.packages_sha256, build=e.build
            )
        elif isinstance(e, AgentSeen):
            known = known._replace(build=e.build)
    return known


class Run(NamedTuple):
    """An attempt on a node; `elsewhere`: it failed, and its work was completed by this job, in this
    attempt, without the node, before any other."""

    job: int
    attempt: int
    left_at: int | None
    failed: bool
    elsewhere: tuple[int, int] | None


def runs(log: Sequence[Recorded], node: str) -> list[Run]:
    """All attempts that were on a node, in the order of their jobs."""
    ends = [(r.at, r.event) for r in log if isinstance(r.event, AttemptEnded)]
    done = [(at, e) for at, e in ends if e.outcome == "completed"]
    same = _works(log)
    found = []
    for r in log:
        placed = r.event
        if not isinstance(placed, AttemptPlaced) or node not in placed.nodes:
            continue
        mine = [x for x in ends if (x[1].job, x[1].attempt) == (placed.job, placed.attempt)]
        if not mine:
            found.append(Run(placed.job, placed.attempt, None, False, None))
            continue
        ((at, end),) = mine
        failed = end.outcome in ("failed", "timeout", "out_of_memory") or (
            end.outcome == "node_fail" and (not end.lost or node in end.lost)
        )
        later = [
            (when, e.job, e.attempt)
            for when, e in done
            if same[e.job] == same[end.job] and when > at and node not in e.nodes
        ]
        first = min(later)[1:] if failed and later else None
        found.append(Run(placed.job, placed.attempt, at, failed, first))
    return sorted(found)


def _works(log: Sequence[Recorded]) -> dict[int, object]:
    """Jobs that do the same work have the same value."""
    works: dict[int, object] = {}
    for r in log:
        e = r.event
        if isinstance(e, JobsSubmitted):
            for i in range(e.count):
                spec = e.specs[0 if e.array else i]
                known = spec.script or spec.text
                works[e.first_job + i] = (
                    (e.user, spec.script, spec.text, _task(e.array, i))
                    if known
                    else e.first_job + i
                )
    return works


def _task(array: str, place: int) -> int:
    tasks: list[int] = []
    for part in array.split(",") if array else ():
        span, _, step = part.partition(":")
        low, _, high = span.partition("-")
        tasks += range(int(low), int(high or low) + 1, int(step or 1))
    return tasks[place] if tasks else -1


def suspects(
    log: Sequence[Recorded], nodes: Sequence[str], since: int, until: int
) -> list[tuple[str, int, int, int, int]]:
    """Node, how many attempts ended there in a window, failed, succeeded elsewhere later, and of
    how many users these were; the worst first."""
    users = {r.event.job: r.event.user for r in log if isinstance(r.event, AttemptPlaced)}
    found = []
    for node in nodes:
        mine = [x for x in runs(log, node) if x.left_at is not None and since <= x.left_at < until]
        failed = [x for x in mine if x.failed]
        later = [x for x in failed if x.elsewhere]
        if failed:
            whose = Counter(users[x.job] for x in later)
            found.append((node, len(mine), len(failed), len(later), len(whose)))
    return sorted(found, key=lambda x: (-x[3], -x[2], x[0]))
