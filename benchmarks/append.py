"""Row 3: the append path alone, beside an insertion of the same rows and nothing else."""

import time
from collections.abc import Iterator

import psycopg
import pysqlite3  # type: ignore[import-untyped]

from benchmarks.logs import START, facts, submitted
from benchmarks.places import Place, Places
from benchmarks.table import Bound, Figure, busy
from ledger.events import Fact
from ledger.store.chain import EMPTY, Row
from ledger.store.commits import draft_rows
from ledger.store.log import Draft
from ledger.store.sqlite import make_durable

SIZE = 1000
TARGETS = {"sqlite": 120_000, "postgres": 80_000}
RAW_SQLITE = "INSERT INTO stored_events (rowid, {columns}) VALUES (?,?,?,?,?)"
COLUMNS = "originator_id, originator_version, topic, state"


def measure(places: Places, *, turns: int, commits: int) -> Iterator[Figure]:
    """Events a second, with their bytes made before, and with the making of them."""
    made = list(facts(submitted(job) for job in range(1, commits * SIZE + 1)))
    bare = [Fact(fact.event, fact.envelope) for fact in made]
    for database in places.databases:
        bases, given, encoded = [], [], []
        for _ in range(turns):
            bases.append(_raw(places, database, made))
            given.append(_ours(places, database, made))
            encoded.append(_ours(places, database, bare))
        target, ratio = Bound(TARGETS[database]), Bound(0.33)
        for what, values in (
            ("append, commits of 1,000, as the master hands them over", given),
            ("append, commits of 1,000, encoding and proof included", encoded),
        ):
            yield Figure(
                "3", what, database, values, "/s", target, "raw append", bases, ratio, busy()
            )


def _ours(places: Places, database: str, found: list[Fact]) -> float:
    with places.fresh(database) as place:
        log = place.log()
        began = time.perf_counter()
        for start in range(0, len(found), SIZE):
            log.append([Draft(START, 1, found[start : start + SIZE])])
        took = time.perf_counter() - began
        log.close()
    return len(found) / took


def _raw(places: Places, database: str, found: list[Fact]) -> float:
    """The same rows, a transaction for a thousand: executemany, or binary COPY."""
    pieces, head = [], EMPTY
    for start in range(0, len(found), SIZE):
        rows, head = draft_rows(head, [Draft(START, 1, found[start : start + SIZE])])
        pieces.append(rows)
    with places.fresh(database) as place:
        place.log().close()
        took = _copy(place, pieces) if place.url else _executemany(place, pieces)
    return len(found) / took


def _executemany(place: Place, pieces: list[list[Row]]) -> float:
    connection = pysqlite3.connect(place.data / "log.db", isolation_level=None)
    make_durable(connection)
    statement = RAW_SQLITE.format(columns=COLUMNS)
    began = time.perf_counter()
    for rows in pieces:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, rows)
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return took


def _copy(place: Place, pieces: list[list[Row]]) -> float:
    assert place.url is not None
    statement = f"COPY stored_events (notification_id, {COLUMNS}) FROM STDIN (FORMAT BINARY)"
    with psycopg.connect(place.url, autocommit=True) as connection:
        began = time.perf_counter()
        for rows in pieces:
            with (
                connection.transaction(),
                connection.cursor() as cursor,
                cursor.copy(statement.encode()) as copy,
            ):
                copy.set_types(["int8", "text", "int8", "text", "bytea"])
                for row in rows:
                    copy.write_row(row)
        return time.perf_counter() - began
