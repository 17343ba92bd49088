"""The chain, checked against the worked example of the page that promises it."""

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from ledger.store.chain import (
    EMPTY,
    NO_HASH,
    Head,
    Row,
    commit_hash,
    decode_header,
    hashed_part,
    seal,
)
from ledger.store.log import Log
from places import draft, fill, job_held

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "log.md"
EVENTS = [
    Row(2, "job-17", 2, "job.held.v1", b'{"by":"alice","event":{"job":17}}'),
    Row(3, "node-n1", 3, "node.retired.v1", '{"event":{"node":"ñ1"}}'.encode()),
]


def by_the_page(prev: str, header: bytes, rows: list[Row]) -> str:
    """The hash, written from the text of `docs/reference/log.md` and nothing else."""
    covered = re.sub(rb',"hash":"[0-9a-f]{64}"}$', b"}", header)
    framed = bytes.fromhex(prev)
    commit = json.loads(header)["n"]
    for stream, version, name, data in [
        ("commit", commit, "commit.v1", covered),
        *[(row.stream, row.version, row.name, row.data) for row in rows],
    ]:
        s, n = stream.encode(), name.encode()
        framed += struct.pack(">I", len(s)) + s + struct.pack(">Q", version)
        framed += struct.pack(">I", len(n)) + n + struct.pack(">I", len(data)) + data
    return hashlib.sha256(framed).hexdigest()


def test_vector() -> None:
    row, head = seal(EMPTY, 1_700_000_000_000_000, 1, EVENTS)
    page = PAGE.read_text()
    assert row.data.decode() in page
    assert all(event.data.decode() in page for event in EVENTS)
    assert head == Head(3, 1, decode_header(row.data).hash, 1_700_000_000_000_000, 1)
    assert head.hash == by_the_page(NO_HASH, row.data, EVENTS)


def test_the_chain_on_disk_is_the_one_on_the_page(log: Log) -> None:
    fill(log, commits=3, size=2)
    rows, prev = list(log.rows()), NO_HASH
    for start in (0, 3, 6):
        header, *events = rows[start : start + 3]
        assert decode_header(header.data).prev == prev
        prev = by_the_page(prev, header.data, events)
        assert decode_header(header.data).hash == prev
    assert log.head().hash == prev


@pytest.mark.parametrize("field", ["stream", "version", "name", "data"])
def test_the_hash_covers_every_field_of_an_event(field: str) -> None:
    others: dict[str, Any] = {"stream": "job-18", "version": 9, "name": "job.held.v2"}
    others["data"] = b"{}"
    header, _ = seal(EMPTY, 1, 1, EVENTS)
    covered = hashed_part(header.data)
    changed = [EVENTS[0]._replace(**{field: others[field]}), EVENTS[1]]
    assert commit_hash(covered, 1, NO_HASH, changed) != commit_hash(covered, 1, NO_HASH, EVENTS)


def test_the_hash_covers_where_one_field_ends_and_the_next_begins() -> None:
    one = [Row(2, "job-1", 2, "ab", b"c")]
    two = [Row(2, "job-1", 2, "a", b"bc")]
    assert commit_hash(b"{}", 1, NO_HASH, one) != commit_hash(b"{}", 1, NO_HASH, two)


def test_the_hash_covers_the_order_and_the_commit_before() -> None:
    backwards = EVENTS[::-1]
    assert commit_hash(b"{}", 1, NO_HASH, EVENTS) != commit_hash(b"{}", 1, NO_HASH, backwards)
    assert commit_hash(b"{}", 1, "1" * 64, EVENTS) != commit_hash(b"{}", 1, NO_HASH, EVENTS)


def test_the_header_is_the_first_row_of_its_commit(log: Log) -> None:
    log.append([draft(job_held(1), job_held(2)), draft(job_held(3))])
    found = [(row.position, row.stream, row.version) for row in log.rows()]
    assert found == [
        (1, "commit", 1),
        (2, "job-1", 2),
        (3, "job-2", 3),
        (4, "commit", 2),
        (5, "job-3", 5),
    ]
    header = decode_header(next(log.rows()).data)
    assert (header.n, header.first, header.count) == (1, 1, 2)
