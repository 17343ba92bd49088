"""Is this log what was written? The whole chain, every row, every event."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from ledger.codec import CODEC, BrokenEvent, UnknownEvent
from ledger.store.chain import EMPTY, Head, Row
from ledger.store.commits import PAGE, commits
from ledger.store.log import Log, LogCorrupt


class Verified(NamedTuple):
    """A whole log: its head, how many events it holds, and of which unknown names how many.

    An unknown name is no damage: a newer release wrote it, and the chain covers it all the same.
    """

    head: Head
    events: int
    unknown: Mapping[str, int]


def verify(log: Log, progress: Callable[[int], None] | None = None) -> Verified:
    """Walk every row: positions, headers, versions, clock, epochs, hashes, and every event's bytes.

    `progress` is told the position reached, at most once a page. Raises `LogCorrupt` with the
    first bad position.
    """
    head, events, unknown = EMPTY, 0, Counter[str]()
    for commit in commits(EMPTY, _pages(log.rows(), progress), whole=True):
        head = commit.head
        events += len(commit.rows)
        for row in commit.rows:
            try:
                CODEC.decode(row.name, row.data)
            except UnknownEvent as error:
                unknown[error.name] += 1
            except BrokenEvent as error:
                raise LogCorrupt(
                    f"commit {head.commit}, position {row.position}: {error}", row.position
                ) from error
    return Verified(head, events, unknown)


def _pages(rows: Iterable[Row], progress: Callable[[int], None] | None) -> Iterator[list[Row]]:
    source = iter(rows)
    while page := list(islice(source, PAGE)):
        yield page
        if progress is not None:
            progress(page[-1].position)
