"""Rows 1, 2 and 13: submissions over HTTP to a whole service, with 100,000 jobs that wait."""

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import load
from benchmarks.places import Places
from benchmarks.services import Running, service, trivial
from benchmarks.table import Bound, Figure, busy

IN_FLIGHT, BULK_IN_FLIGHT, BULK = 64, 4, 1000
BULK_TARGETS = {"sqlite": 40_000, "postgres": 30_000}
JOB = {"argv": ["/bin/sleep", "60"], "name": "a job", "account": "physics", "nodes": 1}
DEFERRING = "PROCRASTINATE_PYTHON"
"""The environment variable that names a Python which has procrastinate."""


def measure(
    places: Places, *, turns: int, requests: int, pending: int, only: str = ""
) -> Iterator[Figure]:
    """One service for each database, all rows on it; `only`: one of these rows."""
    for database in places.databases:
        with places.fresh(database) as place, service(place, agents=4) as running:
            running.queue(pending)
            if only in ("", "1"):
                yield from _single(running, turns, requests, pending)
            if only in ("", "13"):
                yield _array(running, turns)
            if only in ("", "2"):
                yield _bulk(places, running, turns)


def _single(running: Running, turns: int, requests: int, pending: int) -> Iterator[Figure]:
    tokens = [running.token(f"user{number}") for number in range(8)]
    body, run = json.dumps(JOB).encode(), secrets.token_hex(4)

    def make(turn: int, *, signed: bool) -> Callable[[int], bytes]:
        def request(number: int) -> bytes:
            key = f"{run}-{signed}-{turn}-{number}"
            token = tokens[number % len(tokens)] if signed else ""
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
            what = f"single submissions, {way}, 64 in flight, {pending:,} pending"
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
    for turn in range(turns):

        def request(number: int, turn: int = turn) -> bytes:
            return load.post("/v1/jobs", body, key=f"{run}-bulk-{turn}-{number}")

        if database == "postgres" and DEFERRING in os.environ:
            bases.append(_deferred(places, f"deferring_{turn}"))
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


def _deferred(places: Places, name: str) -> float:
    program = [os.environ[DEFERRING], str(Path(__file__).with_name("deferring.py"))]
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
