"""The commit header and the hash chain: what makes a log one unbroken, checkable line.

Every commit begins with a header, the row of the reserved stream `commit` whose version is the
commit's number. The header is at once the fence (two writers cannot both insert header n), the
tamper evidence (its hash covers the one before it and every byte of its events), the answer to "did
that commit happen?", and the log's clock (`at` is the time of all its events).

    hash = SHA-256( prev, 32 raw bytes, zeros for commit 1
                    then, for the header (its JSON without `hash`) and for each event of the commit:
                        u32be(len(stream)) stream  u64be(version)
                        u32be(len(name)) name  u32be(len(data)) data )

Stored bytes are hashed, never a re-encoding of them. The version of every other event is its
position: so a position is covered by the hash too, and no writer has to remember, or to look up,
how many events a stream has. `docs/reference/log.md` has a test vector.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from typing import NamedTuple

import msgspec

COMMIT_STREAM = "commit"
COMMIT_NAME = "commit.v1"
NO_HASH = "0" * 64


class Row(NamedTuple):
    """A row of the log exactly as it is stored. Positions are 1, 2, 3 … without gaps."""

    position: int
    stream: str
    version: int
    name: str
    data: bytes


class CommitHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first row of a commit: its number, its extent (header included), time, epoch, chain.

    `first` is the position of the header itself, `count` the number of events after it.
    """

    n: int
    first: int
    count: int
    at: int
    epoch: int
    prev: str
    hash: str = ""


class Head(NamedTuple):
    """The last whole commit of a log; `position` is its last row's. An empty log has `EMPTY`."""

    position: int
    commit: int
    hash: str
    at: int
    epoch: int


EMPTY = Head(0, 0, NO_HASH, 0, 0)

_decode_header = msgspec.json.Decoder(CommitHeader).decode
_encode = msgspec.json.Encoder().encode
_u32 = struct.Struct(">I").pack
_u64 = struct.Struct(">Q").pack


def decode_header(data: bytes) -> CommitHeader:
    """A header out of its stored bytes. Raises `msgspec.MsgspecError` if they are not one."""
    return _decode_header(data)


def commit_hash(header: bytes, n: int, prev: str, events: Iterable[Row]) -> str:
    """The hash of a commit, from its header's JSON without `hash` and its events' rows."""
    parts = [bytes.fromhex(prev)]
    first = (Row(0, COMMIT_STREAM, n, COMMIT_NAME, header),)
    for _, stream, version, name, data in chain(first, events):
        s = stream.encode()
        parts += (_u32(len(s)), s, _u64(version), _framed_name(name), _u32(len(data)), data)
    return sha256(b"".join(parts)).hexdigest()


def hashed_part(data: bytes) -> bytes:
    """The bytes of a stored header that its hash covers: all of it but the `hash` field.

    `hash` is the last field, so what is covered is a prefix of what is stored.
    """
    cut = data.rindex(b',"hash":')
    return data[:cut] + b"}"


def seal(head: Head, at: int, epoch: int, events: list[Row]) -> tuple[Row, Head]:
    """The header row that makes `events` the next commit after `head`, and the new head."""
    n, first = head.commit + 1, head.position + 1
    header = CommitHeader(
        n=n, first=first, count=len(events), at=at, epoch=epoch, prev=head.hash, hash="-"
    )
    covered = hashed_part(_encode(header))
    digest = commit_hash(covered, n, head.hash, events)
    data = covered[:-1] + b',"hash":"' + digest.encode() + b'"}'
    row = Row(first, COMMIT_STREAM, n, COMMIT_NAME, data)
    return row, Head(first + len(events), n, digest, at, epoch)


@lru_cache(256)
def _framed_name(name: str) -> bytes:
    """There are few names, and each event has one."""
    n = name.encode()
    return _u32(len(n)) + n
