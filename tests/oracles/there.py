"""Whose attempts were on nodes in a window: a brute-force scan, which knows nothing but events."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ledger.events import AttemptEnded, AttemptPlaced, JobEnded, Recorded


class Was(NamedTuple):
    """An attempt as the log leaves it; `end` and `how` None: it has not ended."""

    user: str
    account: str
    job: int
    attempt: int
    nodes: tuple[str, ...]
    start: int
    end: int | None
    how: AttemptEnded | None


class There(NamedTuple):
    """An attempt that was on a node in the window."""

    user: str
    account: str
    job: int
    attempt: int
    node: str
    start: int
    end: int | None
    outcome: str
    state: str


def attempts(log: Sequence[Recorded]) -> list[Was]:
    """Every attempt there ever was."""
    ends = {(e.job, e.attempt): (r.at, e) for r in log if isinstance(e := r.event, AttemptEnded)}
    found = []
    for r in log:
        e = r.event
        if isinstance(e, AttemptPlaced):
            end, how = ends.get((e.job, e.attempt), (None, None))
            found.append(Was(e.user, e.account, e.job, e.attempt, e.nodes, e.placed_at, end, how))
    return found


def states(log: Iterable[Recorded]) -> dict[int, str]:
    """The state of every job that was ever placed."""
    found: dict[int, str] = {}
    for r in log:
        e = r.event
        if isinstance(e, AttemptPlaced):
            found[e.job] = "running"
        elif isinstance(e, AttemptEnded | JobEnded) and e.job in found:
            found[e.job] = e.state
    return found


def there(
    past: Sequence[Was],
    states: dict[int, str],
    nodes: Sequence[str] | None,
    since: int,
    until: int | None,
) -> list[There]:
    """Who was on these nodes (None: on any) in the window; whoever lost one of them at its very
    beginning was, too. By user, account, job, attempt and node."""
    found = []
    for was in past:
        for node in dict.fromkeys(was.nodes or ("",)):
            if nodes is not None and node not in nodes:
                continue
            if until is not None and was.start >= until:
                continue
            if was.end is not None and (
                was.end < since or (was.end == since and not lost(was, node))
            ):
                continue
            outcome = was.how.outcome if was.how else ""
            key = (was.user, was.account, was.job, was.attempt, node)
            found.append(There(*key, was.start, was.end, outcome, states[was.job]))
    return sorted(found, key=lambda one: one[:5])


def lost(was: Was, node: str) -> bool:
    """Did the loss of this node end it, for all that the log tells?"""
    how = was.how
    return how is not None and how.outcome == "node_fail" and (node in how.lost or not how.lost)
