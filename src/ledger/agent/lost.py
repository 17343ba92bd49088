"""What a restored log does not know: the attempts that spools name and it never placed.

A log that was restored from a backup ends where the backup did; what happened behind it is lost
there, but every agent remembers for 30 days which attempts it began, and for whom.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ledger.agent.spool import recall
from ledger.events import AttemptPlaced, LogRestored
from ledger.store.log import Log


class Lost(NamedTuple):
    """An attempt that ran, or began, behind the end of the backup. `began_at` in microseconds since
    1970 by its node's clock; `end` is how it ended, empty if the spool does not say."""

    job: int
    attempt: int
    user: str
    nodes: tuple[str, ...]
    began_at: int
    end: str


def lost(log: Log, spools: Iterable[Path]) -> list[Lost]:
    """The attempts of the range that the last restore lost, each once, in their order.

    An attempt counts if the log did not place it before its last `LogRestored`, and a node began it
    before that by its own clock. None, for a log that was never restored. Raises
    `spool.SpoolCorrupt`, OSError.
    """
    placed: set[tuple[int, int, tuple[str, ...]]] = set()
    before: set[tuple[int, int, tuple[str, ...]]] = set()
    restored_at = 0
    for recorded in log.read():
        event = recorded.event
        if isinstance(event, AttemptPlaced):
            placed.add((event.job, event.attempt, event.nodes))
        elif isinstance(event, LogRestored):
            before, restored_at = set(placed), recorded.at
    found: dict[tuple[int, int, tuple[str, ...]], Lost] = {}
    for path in spools:
        memory = recall(path)
        for key, begun in memory.begun.items():
            if begun.at < restored_at and (*key, begun.nodes) not in before:
                report = memory.ended.get(key)
                end = (report.end or "") if report is not None else ""
                one = Lost(*key, begun.user, begun.nodes, begun.at, end)
                known = found.setdefault((*key, begun.nodes), one)
                if end and not known.end:
                    found[*key, begun.nodes] = one
    return sorted(found.values())
