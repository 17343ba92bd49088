"""Tampering of every kind is found, and where."""

from collections.abc import Callable

import pytest

from ledger.store.chain import EMPTY, NO_HASH, Row, seal
from ledger.store.log import Log, LogCorrupt
from ledger.store.verify import verify
from places import Place, draft, fill, job_held, raw

APPEND_ONLY = {
    "sqlite": ["DROP TRIGGER stored_events_no_update", "DROP TRIGGER stored_events_no_delete"],
    "postgres": ["DROP TRIGGER stored_events_no_change ON stored_events"],
}


class Held:
    """A log of stored rows, as `verify` sees one."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def rows(self) -> list[Row]:
        return self._rows

    def all_blobs(self) -> list[tuple[str, bytes]]:
        return []

    def inspect(self, last: int) -> None:
        assert last == len(self._rows)


def test_a_whole_log_is_verified(log: Log) -> None:
    head = fill(log, commits=5, size=3)
    seen: list[int] = []
    assert verify(log, seen.append) == (head, 15, {}, {})
    assert seen == [20]


def test_a_log_may_grow_while_it_is_verified(log: Log) -> None:
    before = fill(log, 2, 1).position
    log.append([draft(job_held(99), at=3)])
    log.inspect(before)


def test_an_empty_log_is_whole(log: Log) -> None:
    assert verify(log) == (EMPTY, 0, {}, {})


TAMPERINGS = {
    "a changed byte": ("UPDATE stored_events SET state = {blob} WHERE {position} = 7", 5),
    "another stream": ("UPDATE stored_events SET originator_id = 'job-9' WHERE {position} = 7", 5),
    "another name": ("UPDATE stored_events SET topic = 'job.released.v1' WHERE {position} = 7", 5),
    "another version": ("UPDATE stored_events SET originator_version = 99 WHERE {position} = 7", 7),
    "a lost row": ("DELETE FROM stored_events WHERE {position} = 7", 7),
    "a lost header": ("DELETE FROM stored_events WHERE {position} = 5", 6),
    "a lost tail": ("DELETE FROM stored_events WHERE {position} > 10", 9),
    "a lost commit": ("DELETE FROM stored_events WHERE {position} BETWEEN 5 AND 8", 5),
    "a lost beginning": ("DELETE FROM stored_events WHERE {position} <= 4", 1),
    "a changed header": ("UPDATE stored_events SET state = {blob} WHERE {position} = 5", 5),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_tampering_is_found(log: Log, place: Place, database: str, kind: str) -> None:
    fill(log, commits=3, size=3)
    statement, position = TAMPERINGS[kind]
    names = {
        "sqlite": {"position": "rowid", "blob": "CAST('{}' AS BLOB)"},
        "postgres": {"position": "notification_id", "blob": r"'\x7b7d'"},
    }[database]
    for trigger in APPEND_ONLY[database]:
        raw(place, trigger)
    raw(place, statement.format(**names))
    with pytest.raises(LogCorrupt) as caught:
        verify(log)
    assert caught.value.position == position
    with pytest.raises(LogCorrupt):
        list(log.read())


def resealed(change: Callable[[Row], Row]) -> list[Row]:
    """A commit of one event, changed before it is sealed: the chain itself is whole."""
    data = b'{"event":{"job":1,"user":"a","account":"b","pool":"c","kind":"user"}}'
    event = change(Row(2, "job-1", 2, "job.held.v1", data))
    header, _ = seal(EMPTY, 1, 1, [event])
    return [header, event]


def test_an_event_that_does_not_decode_is_damage() -> None:
    rows = resealed(lambda row: row._replace(data=b'{"event":{}}'))
    with pytest.raises(LogCorrupt, match="position 2"):
        verify(Held(rows))  # type: ignore[arg-type]


def test_an_unknown_event_is_counted_and_is_no_damage() -> None:
    rows = resealed(lambda row: row._replace(name="job.teleported.v1"))
    found = verify(Held(rows))  # type: ignore[arg-type]
    assert found.unknown == {"job.teleported.v1": 1}
    assert found.head.position == 2


@pytest.mark.parametrize(("at", "epoch"), [(4, 2), (5, 1)])
def test_clock_and_epoch_may_not_turn_back(at: int, epoch: int) -> None:
    first, head = seal(EMPTY, 5, 2, [])
    second, _ = seal(head, at, epoch, [])
    with pytest.raises(LogCorrupt, match="turns back") as caught:
        verify(Held([first, second]))  # type: ignore[arg-type]
    assert caught.value.position == 2


def test_a_commit_of_another_chain_is_found() -> None:
    first, head = seal(EMPTY, 1, 1, [])
    second, _ = seal(head._replace(hash=NO_HASH), 2, 1, [])
    with pytest.raises(LogCorrupt, match="does not follow"):
        verify(Held([first, second]))  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["first", "version"])
def test_a_header_that_says_another_place_than_its_own_is_found(what: str) -> None:
    """Whoever can compute hashes can forge a header; it still has to lie where it says."""
    header, _ = seal(EMPTY, 1, 1, [])
    if what == "version":
        header = header._replace(version=2)
    else:
        moved, _ = seal(EMPTY._replace(position=5), 1, 1, [])
        header = moved._replace(position=1)
    with pytest.raises(LogCorrupt, match="should begin"):
        verify(Held([header]))  # type: ignore[arg-type]
