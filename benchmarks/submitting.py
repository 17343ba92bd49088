"""Rows 1, 2 and 13: submissions over HTTP to a whole service, at three sizes of log and queue."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import load
from benchmarks.places import Places
from benchmarks.services import Running, past, service, trivial
from benchmarks.table import Bound, Figure, Growth, busy, growth

IN_FLIGHT, BULK_IN_FLIGHT, BULK = 64, 4, 1000
BULK_TARGETS = {"sqlite": 40_000, "postgres": 30_000}
JOB = {"argv": ["/bin/sleep", "60"], "name": "a job", "account": "physics", "nodes": 1}
DEFERRING = "PROCRASTINATE_PYTHON"
"""The environment variable that names a Python which has procrastinate."""


class Size(NamedTuple):
    """What a service has behind it and before it when it is measured."""

    ended: int
    pending: int

    def text(self) -> str:
        """In words."""
        return f"{self.pending:,} pending, {self.ended:,} ended"


def measure(
    places: Places, *, turns: int, requests: int, sizes: Sequence[Size], rows: Sequence[str]
) -> Iterator[Figure | Growth]:
    """A service for each database and size, some of rows 1, 2 and 13 on each; the last in full."""
    for database in places.databases:
        series = []
        for size in sizes:
            whole = size is sizes[-1]
            few = (turns, requests) if whole else (3, requests // 3)
            series.append(_at_size(places, database, size, rows, *few))
        yield from series[-1]
        for same in zip(*series, strict=True):
            yield growth(same, [size.text() for size in sizes])


def _at_size(
    places: Places, database: str, size: Size, rows: Sequence[str], turns: int, requests: int
) -> list[Figure]:
    found: list[Figure] = []
    with places.fresh(database) as place:
        past(place, size.ended)
        with service(place, agents=4) as running:
            running.queue(size.pending)
            running.settle()
            if "1" in rows:
                found += _single(running, turns, requests)
            if "13" in rows:
                found.append(_array(running, turns))
            if "2" in rows:
                found.append(_bulk(places, running, turns))
    return found


def _single(running: Running, turns: int, requests: int) -> Iterator[Figure]:
    tokens = [running.token(f"user{number}") for number in range(8)]
    run = secrets.token_hex(4)

    def make(turn: int, *, signed: bool) -> Callable[[int], bytes]:
        def request(number: int) -> bytes:
            key = f"{run}-{signed}-{turn}-{number}"
            token = tokens[number % len(tokens)] if signed else ""
            body = json.dumps({**JOB, "argv": ["/bin/sleep", str(number)]}).encode()
            return load.post("/v1/jobs", body, key=key, token=token)

        return request

    with trivial(running.place) as (unix, tcp):
        for way, ours, base in (
            ("Unix socket", running.unix, unix),
            ("TCP, tokens", running.tcp, tcp),
        ):
            got, bases = [], []
            for turn in range(turns):
                maker = make(turn, signed=way != "Unix socket")
                bases.append(load.run(base, maker, requests, IN_FLIGHT))
                got.append(load.run(ours, maker, requests, IN_FLIGHT))
            what = f"single submissions, {way}, 64 in flight"
            where = running.place.database
            yield Figure(
                "1",
                what,
                where,
                [one.per_s for one in got],
                "/s",
                Bound(3500),
                "trivial FastAPI",
                [one.per_s for one in bases],
                Bound(0.45),
                busy(),
            )
            p99 = [one.p99_ms for one in got]
            most = Bound(60, at_least=False)
            yield Figure("1", f"their p99, {way}", where, p99, " ms", most, load=busy())


def _bulk(places: Places, running: Running, turns: int) -> Figure:
    database = running.place.database
    body, run = json.dumps([JOB] * BULK).encode(), secrets.token_hex(4)
    values, bases = [], []
    python = deferring_python() if database == "postgres" else None
    for turn in range(turns):

        def request(number: int, turn: int = turn) -> bytes:
            return load.post("/v1/jobs", body, key=f"{run}-bulk-{turn}-{number}")

        if python is not None:
            bases.append(_deferred(python, places, f"deferring_{turn}"))
        values.append(load.run(running.unix, request, 24, BULK_IN_FLIGHT).per_s * BULK)
    base = "procrastinate batch_defer" if bases else ""
    return Figure(
        "2",
        "bulk submissions, 1,000 a request, 4 in flight",
        database,
        values,
        "/s",
        Bound(BULK_TARGETS[database]),
        base,
        bases,
        Bound(4) if bases else None,
        busy(),
    )


def deferring_python() -> str | None:
    """A Python that has procrastinate: the one named, or one that is set up below `build/`.

    None where it can't be: the figure then stands alone.
    """
    if DEFERRING in os.environ:
        return os.environ[DEFERRING]
    home = Path(__file__).parent.parent / "build" / "procrastinate"
    python = str(home / "bin" / "python")
    packages = ["procrastinate", "psycopg[binary,pool]"]
    done = home / "done"
    try:
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
            done.touch()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"procrastinate can't be set up, so row 2 has no baseline: {error}", flush=True)
        return None
    return python


def _deferred(python: str, places: Places, name: str) -> float:
    program = [python, str(Path(__file__).with_name("deferring.py"))]
    with places.database(name) as url:
        done = subprocess.run([*program, url], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _array(running: Running, turns: int) -> Figure:
    body, run = json.dumps({**JOB, "array": "0-999"}).encode(), secrets.token_hex(4)

    def request(number: int) -> bytes:
        return load.post("/v1/jobs", body, key=f"{run}-array-{number}")

    took = [load.run(running.unix, request, 4 * turns, 1).p50_ms]
    return Figure(
        "13",
        "an array of 1,000",
        running.place.database,
        took,
        " ms",
        Bound(7.5, at_least=False),
        load=busy(),
    )
