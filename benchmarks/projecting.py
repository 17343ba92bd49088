"""Rows 5 and 6: how fast a projection is made again, and how far it is behind under load."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice

from benchmarks import library
from benchmarks.logs import PERSON, START, fill, life
from benchmarks.places import Place, Places, environment
from benchmarks.table import Bound, Figure, Growth, busy, growth
from ledger.codec import CODEC
from ledger.events import Fact
from ledger.projection.discover import discover
from ledger.projection.reader import Reader, Unavailable
from ledger.projection.rebuild import rebuild
from ledger.store.log import Draft

TARGETS = {"sqlite": 100_000, "postgres": 60_000}
NAMES = ("jobs", "usage", "outage_impact")
PARTS = (16, 4, 1)
RATE, A_COMMIT = 2_000, 20
"""Events a second, and of one commit: a commit every 10 ms."""

RUNNER_LIVES = 1_000
"""What the library's runner is given: it takes some hundred times as long for each event."""

PATIENCE_S = 60.0


def rebuilding(places: Places, *, turns: int, lives: int) -> Iterator[Figure | Growth]:
    """Row 5: some projections from logs of three lengths; the last is the figure, beside the
    library's own runner."""
    for database in places.databases:
        found = [_rebuilt(places, database, lives // part, turns) for part in PARTS]
        yield from found[-1]
        sizes = [f"{4 * (lives // part):,} events" for part in PARTS]
        for same in zip(*found, strict=True):
            yield growth([replace(figure, baselines=()) for figure in same], sizes)


def _rebuilt(places: Places, database: str, lives: int, turns: int) -> list[Figure]:
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    runner = []
    with places.fresh(database) as place, closing(place.log()) as log:
        fill(log, lives=lives, pending=0)
        projections = discover().projections
        for _ in range(turns):
            for name in NAMES:
                began = time.perf_counter()
                rebuild(projections[name], place.data, place.url, log)
                rates[name].append(4 * lives / (time.perf_counter() - began))
            if database == "postgres":
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
    projections = discover().projections
    reader = Reader(projections, place.data, place.url)
    process = subprocess.Popen(program, env=environment(place), stderr=subprocess.DEVNULL)
    try:
        appended: list[tuple[int, float]] = []
        events = (event for job in range(1, 10**9) for event in life(job))
        lags: list[float] = []
        began = time.monotonic()
        for n in range(-RATE // A_COMMIT, seconds * RATE // A_COMMIT):  # a second to warm up
            facts = [Fact(e, PERSON, CODEC.encode(e, PERSON)) for e in islice(events, A_COMMIT)]
            head = log.append([Draft(START + 10_000 * (n + 10_000), 1, facts)])
            if n == 0 or n == -RATE // A_COMMIT:
                _there(reader, head.position)
                began = time.monotonic() - max(n, 0) * A_COMMIT / RATE
            if n >= 0:
                appended.append((head.position, time.monotonic()))
            due = began + (n + 1 if n >= 0 else n + 1 + RATE // A_COMMIT) * A_COMMIT / RATE
            while (now := time.monotonic()) < due:
                if appended and _at(reader) >= appended[0][0]:
                    lags.append(time.monotonic() - appended.pop(0)[1])
                else:
                    time.sleep(min(0.001, due - now))
        while appended:
            _there(reader, appended[0][0])
            lags.append(time.monotonic() - appended.pop(0)[1])
        return lags
    finally:
        process.terminate()
        process.wait()
        reader.close()
        log.close()


def _at(reader: Reader) -> int:
    """How far all have come."""
    try:
        return min(reader.checkpoint(name).position for name in reader.projections)
    except Unavailable:
        return 0


def _there(reader: Reader, position: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while _at(reader) < position:
        assert time.monotonic() < deadline, "the projections don't follow"
        time.sleep(0.001)
