"""Row 4 and memory: coming back, cold and from a checkpoint, beside decoding and folding alone."""

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks import library
from benchmarks.logs import fill
from benchmarks.places import Place, Places
from benchmarks.table import Bound, Figure, Growth, busy, growth
from ledger.codec import CODEC
from ledger.domain.cluster import evolve
from ledger.domain.state import Cluster
from ledger.events import Recorded
from ledger.master.recovery import Checkpoints, recover
from ledger.store.chain import Row

TARGETS = {"sqlite": 250_000, "postgres": 200_000}


ALONE = 200_000
"""Rows that the baseline decodes and folds: more would not fit into any cache, as pages do."""

PARTS = (16, 4, 1)

LIBRARY_LIVES = 10_000
"""What the library replays: how many there are changes nothing, and it takes some time to fill."""


class Length(NamedTuple):
    """What was measured with a log of one length. `library`: its replay, and a loop made of its
    parts; `memory`: of a pending job, and at most."""

    rows: int
    cold: list[float]
    alone: list[float]
    library: list[tuple[float, float]]
    warm: list[float]
    memory: tuple[float, float] | None


def measure(places: Places, *, turns: int, lives: int, pending: int) -> Iterator[Figure | Growth]:
    """Cold, from a checkpoint, and what it takes of memory, with logs of three lengths."""
    for database in places.databases:
        found = [_at_length(places, database, lives // p, pending, turns) for p in PARTS]
        series = [_figures(length, database, pending) for length in found]
        yield from series[-1]
        sizes = [f"{length.rows:,} rows" for length in found]
        for same in zip(*series, strict=True):
            yield growth([replace(figure, baselines=()) for figure in same], sizes)


def _at_length(places: Places, database: str, lives: int, pending: int, turns: int) -> Length:
    with places.fresh(database) as place:
        log = place.log()
        waits_from = fill(log, lives=lives, pending=pending)
        place.settle()
        rows = list(islice(log.rows(), ALONE))
        cold, alone, beside, warm = [], [], [], []
        with _library(places, place) as replays:
            for _ in range(turns):
                alone.append(_alone(rows))
                began = time.perf_counter()
                found = recover(log, None)
                cold.append(found.events / (time.perf_counter() - began))
                beside.append(replays())
        folder = place.data / "checkpoints"
        Checkpoints(folder).save(log.head(), found.cluster)
        del found, rows
        for _ in range(turns):
            began = time.perf_counter()
            recover(log, folder)
            warm.append(time.perf_counter() - began)
        length = log.head().position
        log.close()
        memory = _memory(place, waits_from) if database == "sqlite" else None
        return Length(length, cold, alone, beside, warm, memory)


@contextmanager
def _library(places: Places, place: Place) -> Iterator[Callable[[], tuple[float, float]]]:
    """Events a second of the library's replay, and of a loop, over a log of its own."""
    with ExitStack() as stack:
        where: str | Path = place.data / "library.db"
        if place.url is not None:
            where = stack.enter_context(places.database("library"))
        jobs = stack.enter_context(closing(library.Jobs(library.environment(where))))
        ids = library.fill(jobs, LIBRARY_LIVES)
        yield lambda: (library.replay(jobs, ids), library.loop(jobs))


def _figures(found: Length, database: str, pending: int) -> list[Figure]:
    what = f"cold recovery, {found.rows:,} rows, {pending:,} jobs pending"
    target, ratio = Bound(TARGETS[database]), Bound(0.4)
    figures = [
        Figure(
            "4",
            what,
            database,
            found.cold,
            "/s",
            target,
            "decode + fold",
            found.alone,
            ratio,
            busy(),
        ),
        _beside("its replay", found, database, 0, Bound(5)),
        _beside("a loop of its reader, mapper and fold", found, database, 1, None),
        _most("4", f"from a checkpoint, {pending:,} jobs pending", database, found.warm, " s", 2),
    ]
    if found.memory is not None:
        a_job, most = found.memory
        what = f"of a pending job ({pending:,} of them)"
        figures += [
            _most("memory", what, database, [a_job], " bytes", 1536),
            _most("memory", "of a process that replayed the log", database, [most], " MB", 400),
        ]
    return figures


def _beside(what: str, found: Length, database: str, place: int, ratio: Bound | None) -> Figure:
    """The same recoveries beside the library."""
    rates = [rates[place] for rates in found.library]
    what = f"the same beside the eventsourcing library: {what}"
    return Figure("4", what, database, found.cold, "/s", None, "the library", rates, ratio, busy())


def _most(
    row: str, what: str, database: str, values: list[float], unit: str, most: float
) -> Figure:
    return Figure(row, what, database, values, unit, Bound(most, at_least=False), load=busy())


def _alone(rows: list[Row]) -> float:
    """Decode and fold what is in memory already, the chain not looked at."""
    cluster, events, decode = Cluster(), 0, CODEC.decode
    gc.disable()
    began = time.perf_counter()
    for position, stream, version, name, data in rows:
        if stream == "commit":
            continue
        event, envelope = decode(name, data)
        evolve(cluster, Recorded(position, stream, version, 1, 1, 1, "", event, envelope))
        events += 1
    took = time.perf_counter() - began
    gc.enable()
    return events / took


def _memory(place: Place, waits_from: int) -> tuple[float, float]:
    """What a process of its own takes: bytes for a pending job, and MB in all, at most."""
    program = [sys.executable, "-m", "benchmarks.recovery", str(place.data), str(waits_from)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    a_job, most, _ = (float(word) for word in done.stdout.split())
    return a_job, most


def _status(field: str) -> int:
    """Bytes that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(field + ":"))
    return int(found.split()[1]) * 1024


def main(data: Path, waits_from: int) -> None:
    """Replay the log there; print bytes of a pending job, MB at most, pending jobs."""
    log = Place("sqlite", data, None).log(write=False)
    cluster, before = Cluster(), 0
    gc.disable()  # as recovery does
    for event in log.read():
        if not before and event.position > waits_from:
            before = _status("VmRSS")
        evolve(cluster, event)
    jobs = len(cluster.jobs)
    print((_status("VmRSS") - before) / max(1, jobs), _status("VmHWM") / 1e6, jobs)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
