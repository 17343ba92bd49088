"""Which losses of nodes are one outage: found from a list of who went and came when, by the rule
alone. No event is read, no outage's number is known."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Change(NamedTuple):
    """A node, of a domain that fails as one, went down or came back."""

    at: int
    node: str
    domain: str
    down: bool


@dataclass
class Lost:
    """Nodes that were lost together. `away`: those that are down; `last`: when one was lost;
    `losses`: each loss, by its place in the list."""

    domain: str
    first: int
    last: int
    nodes: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    losses: list[int] = field(default_factory=list)


def outages(changes: Iterable[Change], window: int) -> list[Lost]:
    """All outages, in the order in which they began.

    A node that its open outage has already stays in it. Another joins the oldest open one of its
    domain in which the last loss is at most a window back. One is over when all are back, and the
    last loss is more than a window back.
    """
    found: list[Lost] = []
    running: list[Lost] = []
    for place, change in enumerate(changes):
        if not change.down:
            for one in running:
                one.away.discard(change.node)
            continue
        running = [one for one in running if one.away or change.at - one.last <= window]
        of_domain = [one for one in running if one.domain == change.domain]
        has_it = [one for one in of_domain if change.node in one.nodes]
        fresh = [one for one in of_domain if change.at - one.last <= window]
        if has_it:
            joined = has_it[-1]
        elif fresh:
            joined = fresh[0]
        else:
            joined = Lost(change.domain, change.at, change.at)
            found.append(joined)
            running.append(joined)
        joined.nodes.add(change.node)
        joined.away.add(change.node)
        joined.last = change.at
        joined.losses.append(place)
    return found
