"""Rows 5 and 6: how fast a projection is made again, and how far it is behind under load."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

import psycopg
import pysqlite3  # type: ignore[import-untyped]

from benchmarks import library
from benchmarks.logs import PERSON, START, fill, life
from benchmarks.places import Place, Places, environment
from benchmarks.table import Bound, Figure, Growth, busy, growth
from ledger.codec import CODEC
from ledger.events import Fact
from ledger.projection.database import file_of
from ledger.projection.discover import discover
from ledger.projection.rebuild import rebuild
from ledger.store.log import Draft

TARGETS = {"sqlite": 100_000, "postgres": 60_000}
NAMES = ("jobs", "usage", "outage_impact")
PARTS = (64, 8, 1)
RATE, A_COMMIT = 2_000, 20
"""Events a second, and of one commit: a commit every 10 ms."""

RUNNER_LIVES = 1_000
"""What the library's runner is given: it takes some hundred times as long for each event."""

PATIENCE_S = 60.0
POSITION = "SELECT position FROM checkpoints"
POSITIONS = "SELECT min(position), count(*) FROM projections.checkpoints"


def rebuilding(places: Places, *, turns: int, lives: int) -> Iterator[Figure | Growth]:
    """Row 5: some projections from logs of three lengths; the last is the figure, beside the
    library's own runner."""
    for database in places.databases:
        found = [
            _rebuilt(places, database, lives // part, turns, beside=part == 1) for part in PARTS
        ]
        yield from found[-1]
        sizes = [f"{4 * (lives // part):,} events" for part in PARTS]
        for same in zip(*found, strict=True):
            yield growth([replace(figure, baselines=()) for figure in same], sizes)


def _rebuilt(
    places: Places, database: str, lives: int, turns: int, *, beside: bool
) -> list[Figure]:
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    runner = []
    with places.fresh(database) as place, closing(place.log()) as log:
        fill(log, lives=lives, pending=0)
        place.settle()
        projections = discover().projections
        for _ in range(turns):
            for name in NAMES:
                began = time.perf_counter()
                rebuild(projections[name], place.data, place.url, log)
                rates[name].append(4 * lives / (time.perf_counter() - began))
            if beside and database == "postgres":
                with places.database("runner") as url:
                    runner.append(library.rate(url, RUNNER_LIVES))
    target, ratio = Bound(TARGETS[database]), Bound(50) if runner else None
    return [
        Figure(
            "5",
            f"rebuild of `{name}` from {4 * lives:,} events",
            database,
            rates[name],
            "/s",
            target,
            "the library's `ProjectionRunner`" if runner else "",
            runner,
            ratio,
            load=busy(),
        )
        for name in NAMES
    ]


def lagging(places: Places, *, seconds: int) -> Iterator[Figure | Growth]:
    """Row 6: from the moment that events are durable to that in which all projections show them,
    with all of them kept by one process."""
    for database in places.databases:
        with places.fresh(database) as place:
            lags = sorted(_lags(place, seconds))
        for which, at, most in (("median", 0.5, 50), ("p99", 0.99, 250)):
            lag = lags[min(len(lags) - 1, int(at * len(lags)))] * 1000
            what = f"follower's lag at {RATE:,} events/s, {which} of {len(lags)} commits"
            bound = Bound(most, at_least=False)
            yield Figure("6", what, database, [lag], " ms", bound, load=busy())


def _lags(place: Place, seconds: int) -> list[float]:
    log = place.log()
    program = [sys.executable, "-m", "ledger", "follow", "--data", str(place.data)]
    process = subprocess.Popen(program, env=environment(place), stderr=subprocess.DEVNULL)
    shown = Shown(place)
    try:
        appended: list[tuple[int, float]] = []
        events = (event for job in range(1, 10**9) for event in life(job))
        lags: list[float] = []
        began = time.monotonic()
        for n in range(-RATE // A_COMMIT, seconds * RATE // A_COMMIT):  # a second to warm up
            facts = [Fact(e, PERSON, CODEC.encode(e, PERSON)) for e in islice(events, A_COMMIT)]
            head = log.append([Draft(START + 10_000 * (n + 10_000), 1, facts)])
            if n == 0 or n == -RATE // A_COMMIT:
                shown.wait(head.position)
                began = time.monotonic() - max(n, 0) * A_COMMIT / RATE
            if n >= 0:
                appended.append((head.position, time.monotonic()))
            due = began + (n + 1 if n >= 0 else n + 1 + RATE // A_COMMIT) * A_COMMIT / RATE
            while (now := time.monotonic()) < due:
                if appended and shown.position() >= appended[0][0]:
                    lags.append(time.monotonic() - appended.pop(0)[1])
                else:
                    time.sleep(min(0.001, due - now))
        while appended:
            shown.wait(appended[0][0])
            lags.append(time.monotonic() - appended.pop(0)[1])
        return lags
    finally:
        process.terminate()
        process.wait()
        shown.close()
        log.close()


class Shown:
    """How far all projections have come, as whoever asks them would find it. It asks their tables
    itself: what it takes is taken from those whom it watches."""

    def __init__(self, place: Place) -> None:
        self._projections = list(discover().projections.values())
        self._url = place.url
        self._files = [file_of(place.data, projection) for projection in self._projections]
        self._open: list[Any] = []

    def position(self) -> int:
        """The position that all have reached; 0 while one is not there yet."""
        try:
            if not self._open:
                self._open = self._connected()
            found = [c.execute(POSITIONS if self._url else POSITION).fetchone() for c in self._open]
        except (pysqlite3.OperationalError, psycopg.errors.UndefinedTable):
            return 0
        whole = self._url is None or found[0][1] == len(self._projections)
        return min(row[0] if row else 0 for row in found) if whole else 0

    def wait(self, position: int) -> None:
        """Until all have come so far."""
        deadline = time.monotonic() + PATIENCE_S
        while self.position() < position:
            assert time.monotonic() < deadline, "the projections don't follow"
            time.sleep(0.001)

    def close(self) -> None:
        """Let go of the databases."""
        for connection in self._open:
            connection.close()

    def _connected(self) -> list[Any]:
        if self._url is not None:
            return [psycopg.connect(self._url, autocommit=True)]
        return [pysqlite3.connect(f"file:{file}?mode=ro", uri=True) for file in self._files]
