"""Row 4 and memory: coming back, cold and from a checkpoint, beside decoding and folding alone."""

import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.logs import fill
from benchmarks.places import Place, Places
from benchmarks.table import Bound, Figure, busy
from ledger.codec import CODEC
from ledger.domain.cluster import evolve
from ledger.domain.state import Cluster
from ledger.events import Recorded
from ledger.master.recovery import Checkpoints, recover
from ledger.store.chain import Row

TARGETS = {"sqlite": 250_000, "postgres": 200_000}


def measure(places: Places, *, turns: int, lives: int, pending: int) -> Iterator[Figure]:
    """Cold, then from a checkpoint with logs of three lengths, then what it takes of memory."""
    for database in places.databases:
        with places.fresh(database) as place:
            log = place.log()
            waits_from = fill(log, lives=lives, pending=pending)
            rows = list(log.rows())
            cold, alone = [], []
            for _ in range(turns):
                alone.append(_alone(rows))
                began = time.perf_counter()
                found = recover(log, None)
                cold.append(found.events / (time.perf_counter() - began))
                del found
            del rows
            yield Figure(
                "4",
                f"cold recovery, {log.head().position:,} rows, {pending:,} jobs pending",
                database,
                cold,
                "/s",
                Bound(TARGETS[database]),
                "decode + fold",
                alone,
                Bound(0.4),
                busy(),
            )
            log.close()
            if database == "sqlite":
                yield from _memory(place, waits_from)
        for part in (4, 2, 1):
            yield _from_checkpoint(places, database, lives // part, pending, turns)


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


def _from_checkpoint(places: Places, database: str, lives: int, pending: int, turns: int) -> Figure:
    with places.fresh(database) as place:
        log = place.log()
        fill(log, lives=lives, pending=pending)
        folder = place.data / "checkpoints"
        Checkpoints(folder).save(log.head(), recover(log, None).cluster)
        values = []
        for _ in range(turns):
            began = time.perf_counter()
            recover(log, folder)
            values.append(time.perf_counter() - began)
        length = log.head().position
        log.close()
    what = f"from a checkpoint, {length:,} rows, {pending:,} jobs pending"
    return Figure("4", what, database, values, " s", Bound(2.0, at_least=False), load=busy())


def _memory(place: Place, waits_from: int) -> Iterator[Figure]:
    """What a process of its own takes: for a pending job, and in all."""
    program = [sys.executable, "-m", "benchmarks.recovery", str(place.data), str(waits_from)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    a_job, most, jobs = (float(word) for word in done.stdout.split())
    for what, value, unit, bound in (
        (f"memory of a pending job ({jobs:,.0f} of them)", a_job, " bytes", 1536),
        ("memory of a process that replayed that log (most it had)", most, " MB", 400),
    ):
        yield Figure(
            "memory", what, "sqlite", [value], unit, Bound(bound, at_least=False), load=busy()
        )


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
