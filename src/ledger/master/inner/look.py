"""What looking at a part of the inner state is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import NamedTuple, TypeVar

from ledger.domain.errors import NotNow
from ledger.domain.state import Cluster
from ledger.master.loop import Master
from ledger.master.service import Running, Service

SLICE_S = 0.001
"""How long looking keeps the event loop at a time."""

T = TypeVar("T")
Value = str | int | float | bool | None
Row = dict[str, Value]


class Seen(NamedTuple):
    """A part as it is: one sentence, facts by name, rows of one shape, and how many more rows there
    are than were asked for. What is named `…_at` is µs since 1970, 0 for never."""

    sentence: str
    facts: Row
    rows: Sequence[Row] = ()
    more: int = 0


Look = Callable[[Service, int], Awaitable[Seen]]


def reigning(service: Service) -> Running:
    """The parts of the running master. Raises `NotNow` before there are any."""
    if service.running is None:
        raise NotNow("The master is replaying its log.", retry_after_s=1)
    return service.running


async def sliced(
    master: Master, pick: Callable[[Cluster], Iterable[T]]
) -> AsyncIterator[tuple[Cluster, T]]:
    """Each thing that `pick` finds, with the settled state of the moment it is looked at in."""
    cluster = await master.settled()
    things = pick(cluster)
    began = perf_counter()
    for thing in things:
        if perf_counter() - began > SLICE_S:
            await asyncio.sleep(0)
            cluster = await master.settled()
            began = perf_counter()
        yield cluster, thing
