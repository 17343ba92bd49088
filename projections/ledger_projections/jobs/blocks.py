"""Between which times the jobs of a block of numbers were in the system.

Jobs of all users in a window long ago lie side by side, and no index leads there: a job is in it
by two of its times, and is wanted by its number. A block sums up the times of `BLOCK` jobs, so
that all others are passed over.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from ledger.events import AttemptEnded, JobEnded, JobEvent, JobsSubmitted, Recorded
from ledger.projection import Table

BLOCK = 1_000
AT_ONCE = 100
"""Blocks that are looked at in one query."""


class BlockRow(msgspec.Struct, frozen=True, gc=False):
    """The jobs whose number, divided by `BLOCK`, is `block`: when the first of them was submitted,
    and when the last of those that have ended did (µs; None: none has)."""

    block: int
    submitted_at: int
    ended_at: int | None = None


def block_keys(r: Recorded) -> Iterable[tuple[int]]:
    """The blocks of a submission's jobs, or that of the job that has ended."""
    e = r.event
    if type(e) is not JobsSubmitted:
        assert isinstance(e, JobEvent)
        return ((e.job // BLOCK,),)
    first, last = e.first_job // BLOCK, (e.first_job + e.count - 1) // BLOCK
    return ((first,),) if first == last else [(block,) for block in range(first, last + 1)]


def evolve_block(key: tuple[int], row: BlockRow | None, r: Recorded) -> BlockRow | None:
    """The log's clock never goes back: whatever is first is first, and the last is the last."""
    e = r.event
    if type(e) is JobsSubmitted:
        return row or BlockRow(key[0], r.at)
    if row is None or (type(e) is AttemptEnded and e.next != "final"):
        return row
    return replace(row, ended_at=r.at)


BLOCKS = Table(
    "blocks",
    BlockRow,
    key=1,
    events=(JobsSubmitted, AttemptEnded, JobEnded),
    keys=block_keys,
    evolve=evolve_block,
)


def runs(
    connection: sa.Connection,
    *,
    since: int | None,
    until: int | None,
    beyond: int | None,
    ascending: bool,
) -> Iterator[tuple[int, int]]:
    """The first and the last number of each run in which jobs may be that had not ended before
    `since` and were submitted before `until` (µs), and have ended. They come in their order, from
    the block of the job `beyond` on."""
    block = BLOCKS.c.block
    query = sa.select(block).where(BLOCKS.c.ended_at.is_not(None))
    if since is not None:
        query = query.where(BLOCKS.c.ended_at >= since)
    if until is not None:
        query = query.where(BLOCKS.c.submitted_at < until)
    query = query.order_by(block if ascending else block.desc()).limit(AT_ONCE)
    last = None if beyond is None else beyond // BLOCK + (-1 if ascending else 1)
    while True:
        some = query
        if last is not None:
            some = query.where(block > last if ascending else block < last)
        found = list(connection.execute(some).scalars())
        yield from _joined(sorted(found), ascending=ascending)
        if len(found) < AT_ONCE:
            return
        last = found[-1]


def _joined(blocks: list[int], *, ascending: bool) -> Iterator[tuple[int, int]]:
    """Blocks side by side as one run."""
    found = []
    for _, side_by_side in groupby(enumerate(blocks), lambda numbered: numbered[1] - numbered[0]):
        run = [block for _, block in side_by_side]
        found.append((run[0] * BLOCK, run[-1] * BLOCK + BLOCK - 1))
    yield from found if ascending else reversed(found)
