"""Is this log what was written? The whole chain, every row, every event, every text."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

from ledger.codec import CODEC, BrokenEvent, UnknownEvent
from ledger.events import Blob, Event, JobsSubmitted
from ledger.store.chain import EMPTY, Head, Row
from ledger.store.commits import PAGE, commits
from ledger.store.log import Log, LogCorrupt


class Verified(NamedTuple):
    """A whole log: its head, how many events it holds, of which unknown names how many, and the
    texts that events speak of and that are not there: digest to the position of the first of them.

    An unknown name is no damage: a newer release wrote it, and the chain covers it all the same. A
    text that is gone was erased or taken away; the log can't tell which.
    """

    head: Head
    events: int
    unknown: Mapping[str, int]
    missing: Mapping[str, int] = {}


def verify(log: Log, progress: Callable[[int], None] | None = None) -> Verified:
    """Walk every row: positions, headers, versions, clock, epochs, hashes, every event's bytes,
    and every text that events speak of; then have the database check itself.

    `progress` is told the position reached, at most once a page. Raises `LogCorrupt` with the
    first bad position.
    """
    head, events, unknown = EMPTY, 0, Counter[str]()
    texts: dict[str, int] = {}
    for commit in commits(EMPTY, _pages(log.rows(), progress), whole=True):
        head = commit.head
        events += len(commit.rows)
        for row in commit.rows:
            try:
                event, _ = CODEC.decode(row.name, row.data)
            except UnknownEvent as error:
                unknown[error.name] += 1
            except BrokenEvent as error:
                raise LogCorrupt(
                    f"commit {head.commit}, position {row.position}: {error}", row.position
                ) from error
            else:
                for blob in texts_of(event):
                    texts.setdefault(blob.sha256, row.position)
    _check_texts(log, texts)
    log.inspect(head.position)
    return Verified(head, events, unknown, texts)


def texts_of(event: Event) -> Iterator[Blob]:
    """The texts beside the log that an event speaks of."""
    if isinstance(event, JobsSubmitted):
        for spec in event.specs:
            yield from (blob for blob in (spec.script, spec.text) if blob is not None)
    elif isinstance(note := getattr(event, "note", None), Blob):
        yield note


def _check_texts(log: Log, texts: dict[str, int]) -> None:
    """Take out of `texts` those that are there. Raises `LogCorrupt` if one was changed, with the
    first position that speaks of one which is not there."""
    wrong = ""
    try:
        for digest, text in log.all_blobs():
            if isinstance(text, bytes) and sha256(text).hexdigest() == digest:
                texts.pop(digest, None)
            else:
                wrong = wrong or f"the text {digest} is not as it was written"
    except LogCorrupt as damage:
        wrong = f"the texts can't all be read: {damage}"
        for digest in [d for d in texts if _there(log, d)]:
            del texts[digest]
    if wrong:
        digest, position = min(texts.items(), key=lambda item: item[1], default=("", 0))
        spoken = f"; position {position} speaks of {digest}" if position else ""
        raise LogCorrupt(wrong + spoken, position)


def _there(log: Log, digest: str) -> bool:
    try:
        return digest in log.blobs([digest])
    except LogCorrupt:
        return False


def _pages(rows: Iterable[Row], progress: Callable[[int], None] | None) -> Iterator[list[Row]]:
    source = iter(rows)
    while page := list(islice(source, PAGE)):
        yield page
        if progress is not None:
            progress(page[-1].position)
