"""From drafts to rows and from rows to events, by whole commits: what both databases share."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ledger.codec import CODEC
from ledger.events import Recorded
from ledger.store.chain import (
    COMMIT_NAME,
    COMMIT_STREAM,
    CommitHeader,
    Head,
    Row,
    commit_hash,
    decode_header,
    hashed_part,
    seal,
)
from ledger.store.log import Draft, Fenced, LogCorrupt

PAGE = 10_000
"""Rows of a chunk of an export, and of a step of `verify`."""


class Commit(NamedTuple):
    """A commit that was found whole: the head it makes, and its rows without the header."""

    head: Head
    rows: Sequence[Row]


def draft_rows(head: Head, drafts: Sequence[Draft]) -> tuple[list[Row], Head]:
    """The rows that append `drafts` behind `head`, headers included, and the head they make.

    Raises `codec.BrokenEvent` for an event that can't be stored, ValueError for a commit that
    would turn back the log's clock or its epoch.
    """
    rows: list[Row] = []
    encode = CODEC.encode
    for at, epoch, facts, _ in drafts:
        if at < head.at or epoch < head.epoch:
            raise ValueError(
                f"a commit at {at} in epoch {epoch} can't follow one at {head.at} "
                f"in epoch {head.epoch}"
            )
        events = [
            Row(position, event.stream, position, event.name, data or encode(event, envelope))
            for position, (event, envelope, data) in enumerate(facts, head.position + 2)
        ]
        header, head = seal(head, at, epoch, events)
        rows.append(header)
        rows += events
    return rows, head


def commits(head: Head, pages: Iterable[Sequence[Row]], *, whole: bool = False) -> Iterator[Commit]:
    """The whole commits in pages of rows that follow `head`, each checked against the chain.

    Rows of an unfinished commit at the end are left out, or an error if it must be `whole`.
    Raises `LogCorrupt`.
    """
    rest: Sequence[Row] = ()
    for page in pages:
        rows = [*rest, *page] if rest else page
        start = 0
        while start < len(rows):
            header = read_header(rows[start])
            end = start + 1 + header.count
            if end > len(rows):
                break
            try:
                head = check(head, header, rows[start], rows[start + 1 : end])
            except (TypeError, AttributeError, OverflowError, struct.error) as error:
                raise LogCorrupt(
                    f"commit {head.commit + 1} (position {head.position + 1} on) holds values of "
                    f"another kind than were written: {error}",
                    head.position + 1,
                ) from error
            yield Commit(head, rows[start + 1 : end])
            start = end
        rest = rows[start:]
    if rest and whole:
        raise LogCorrupt(f"commit {head.commit + 1} is not whole", head.position + 1)


def read_header(row: Row) -> CommitHeader:
    """The header in `row`. Raises `LogCorrupt` if it is none."""
    position, stream, _, name, data = row
    if stream != COMMIT_STREAM or name != COMMIT_NAME:
        raise LogCorrupt(
            f"position {position} should hold a commit's header, not a {name}", position
        )
    try:
        header = decode_header(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
        raise LogCorrupt(
            f"the header at position {position} can't be read: {error}", position
        ) from error
    if header.count < 0:
        raise LogCorrupt(f"the header at position {position} counts below zero", position)
    return header


def check(head: Head, header: CommitHeader, header_row: Row, rows: Sequence[Row]) -> Head:
    """The head after a commit, once everything in it agrees with the chain behind `head`.

    `rows` are its events, as many as its header counts. Raises `LogCorrupt` with the position of
    the first row that is wrong, or of the header where only the whole can be judged.
    """
    position, _, version, _, data = header_row
    n, first = head.commit + 1, head.position + 1
    if position != first or header.first != first:
        raise LogCorrupt(f"commit {n} should begin at position {first}, not {position}", first)
    if header.n != n or version != n:
        raise LogCorrupt(f"position {first} should begin commit {n}, not {header.n}", first)
    if header.prev != head.hash:
        raise LogCorrupt(f"commit {n} does not follow the commit before it", first)
    if header.at < head.at or header.epoch < head.epoch:
        raise LogCorrupt(f"commit {n} turns back the log's clock or its epoch", first)
    _check_numbers(n, first, rows)
    try:
        digest = commit_hash(hashed_part(data), n, header.prev, rows)
    except ValueError as error:
        raise LogCorrupt(f"the header of commit {n} is not as it was written", first) from error
    if digest != header.hash:
        raise LogCorrupt(f"commit {n} (position {first} on) is not as it was written", first)
    return Head(first + header.count, n, digest, header.at, header.epoch)


def _check_numbers(n: int, first: int, rows: Sequence[Row]) -> None:
    if not rows:
        return
    positions, streams, versions, _, _ = zip(*rows, strict=True)
    expected = tuple(range(first + 1, first + 1 + len(rows)))
    if positions != expected:
        wrong = next(want for want, got in zip(expected, positions, strict=True) if want != got)
        raise LogCorrupt(f"commit {n} has no row at position {wrong}", wrong)
    if COMMIT_STREAM in streams:
        raise LogCorrupt(f"commit {n} has fewer events than its header counts", first)
    if versions != expected:
        wrong = next(row[0] for row in rows if row[2] != row[0])
        raise LogCorrupt(f"commit {n}: the version at position {wrong} is another", wrong)


def recorded(commit: Commit, incarnation: str) -> Iterator[Recorded]:
    """The events of a commit. Raises `codec.UnknownEvent` or `codec.BrokenEvent`."""
    decode = CODEC.decode
    _, n, _, at, epoch = commit.head
    for position, stream, version, name, data in commit.rows:
        event, envelope = decode(name, data)
        yield Recorded(position, stream, version, n, at, epoch, incarnation, event, envelope)


def check_rows(head: Head, rows: Sequence[Row]) -> Head:
    """The head after appending stored rows: whole commits, right behind `head`, chain unbroken."""
    for commit in commits(head, [rows], whole=True):
        head = commit.head
    return head


def recorded_alone(row: Row, header: bytes, incarnation: str) -> Recorded:
    """One event out of its row and its commit's stored header."""
    commit = decode_header(header)
    event, envelope = CODEC.decode(row.name, row.data)
    return Recorded(
        row.position,
        row.stream,
        row.version,
        commit.n,
        commit.at,
        commit.epoch,
        incarnation,
        event,
        envelope,
    )


def head_of(header: bytes) -> Head:
    """The head that the commit with this stored header makes."""
    commit = decode_header(header)
    return Head(commit.first + commit.count, commit.n, commit.hash, commit.at, commit.epoch)


def check_fence(fence: Head, now: Head) -> None:
    """Raise `Fenced` if the log's head, read inside the appending transaction, is another."""
    if now != fence:
        raise Fenced(
            f"another writer has appended commit {now.commit} in epoch {now.epoch}; "
            f"this one knows the log up to commit {fence.commit} of epoch {fence.epoch}"
        )


def check_blobs(blobs: Mapping[str, bytes]) -> None:
    """Raise ValueError if a text is not what its digest says: it could never be put right."""
    for digest, text in blobs.items():
        if sha256(text).hexdigest() != digest:
            raise ValueError(f"a blob is not what its digest {digest} says")
