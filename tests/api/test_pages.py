"""Pages of the event stream: nothing between them is skipped, whatever is appended meanwhile."""

import json
from collections.abc import Iterator
from itertools import count

from ledger.api import answers
from ledger.events import Recorded
from ledger.store.log import Log
from places import Place, draft, fill, job_held


class Growing:
    """A log as a reader sees it, which grows by a commit whenever somebody has read it."""

    def __init__(self, reader: Log, writer: Log, times: int) -> None:
        self._reader, self._writer, self._left = reader, writer, times
        self._at = count(100)

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        """The events; then the log grows."""
        yield from self._reader.read(after, upto)
        if self._left:
            self._left -= 1
            at = next(self._at)
            self._writer.append([draft(job_held(at), at=at)])


def test_what_is_appended_while_a_page_is_read_comes_with_the_next(log: Log, place: Place) -> None:
    fill(log, 3, 2)
    reader = place.open(write=False)
    growing, after, seen = Growing(reader, log, 5), 0, []
    while after < log.head().position:
        page, after = answers._page(growing, after, sse=False)  # type: ignore[arg-type]
        seen += [json.loads(line)["position"] for line in page.splitlines()]
    assert seen == [r.position for r in reader.read()]
    reader.close()
