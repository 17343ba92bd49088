"""Over real clusters' histories: live = rebuilt = folded from scratch, byte for byte, for batches
of any size, on both databases, whatever Python's hash seed."""

import gzip
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC
from itertools import product
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from ledger.importing import sacct, swf
from ledger.importing.past import Past, write
from ledger.importing.rows import layout
from ledger.importing.tally import Tally
from ledger.importing.trace import read, remarks
from ledger.projection.discover import discover
from ledger.testing.evidence import Evidence
from places import Place, fresh_database

HISTORIES = {
    "KTH-SP2": "swf/KTH-SP2-1996-2.1-cln.swf.gz",
    "MetaCentrum": "swf/MetaCentrum-wagap-2013.alea.swf.gz",
    "phillips": "slurm/xdmod_phillips.sacct.log.gz",
}
SEEDS = ("0", "1", "4242")
SIZES = (1, 7, 1000)
AT_A_TIME = 2
A_FEW = 15
STEPS = 5_000
"""Where there are more, many share a transaction: millions of those take hours."""


def jobs_of(file: Path) -> Sequence[Past]:
    """The past that a file tells of."""
    if ".swf" in file.name:
        return swf.read(read(file), swf.machine(remarks(file)), Tally())
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")
    return sacct.read(lines, layout(lines[0]), UTC, Tally())


def told(where: Place, run: tuple[str, Sequence[int], Sequence[Path]]) -> list[list[str]]:
    """What a process with a hash seed says of each history and projection: both, how its rows came
    about in batches of these sizes, and their digest."""
    seed, sizes, ledgers = run
    program = Path(__file__).with_name("kept_pasts.py")
    wanted = ",".join(map(str, sizes))
    done = subprocess.run(
        [sys.executable, program, where.data, where.url or "", str(STEPS), wanted, *ledgers],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture
def places(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Place]]:
    """A place for the tables under each hash seed."""
    with ExitStack() as opened:
        urls: list[str | None] = [None] * len(SEEDS)
        if database == "postgres":
            server = request.getfixturevalue("pg_server")
            urls = [opened.enter_context(fresh_database(server)) for _ in SEEDS]
        yield [Place(tmp_path / seed, url) for seed, url in zip(SEEDS, urls, strict=True)]


@pytest.mark.fault("H8", "H12")
def test_live_is_rebuilt_is_folded(
    places: list[Place],
    database: str,
    shared: Path,
    tmp_path: Path,
    full: bool,
    evidence: Evidence,
) -> None:
    told_of: dict[str, str] = {}
    for history, file in HISTORIES.items():
        jobs = jobs_of(shared / file)[: None if full else A_FEW]
        with closing(Place(tmp_path / history, None).open(create=True)) as log:
            head = write(log, jobs)
        told_of[history] = f"{len(jobs)} jobs, {head.position} positions, {head.commit} commits"
    ledgers = [tmp_path / history for history in HISTORIES]
    runs = [(seed, SIZES, ledgers) for seed in SEEDS]
    if not full:  # one of each for one another
        runs = [(seed, SIZES[n : n + 1], ledgers[n : n + 1]) for n, seed in enumerate(SEEDS)]
    with ThreadPool(AT_A_TIME) as pool:
        asked = [pool.apply_async(told, each) for each in zip(places, runs, strict=True)]
        every = [line for one in asked for line in one.get()]
    names = set(discover().projections)
    assert Counter((history, name, how) for history, name, how, _ in every) == Counter(
        (ledger.name, name, how)
        for _, sizes, some in runs
        for ledger, name in product(some, names)
        for how in ("folded", "rebuilt", *(f"live:{size}" for size in sizes))
    )
    found: dict[tuple[str, str], set[str]] = {}
    for history, name, _, digest in every:
        found.setdefault((history, name), set()).add(digest)
    assert {one: len(digests) for one, digests in found.items()} == dict.fromkeys(found, 1)
    label = "PostgreSQL" if database == "postgres" else "SQLite"
    for history, size in told_of.items():
        dumps = [how for one, _, how, _ in every if one == history]
        batches = ", ".join(f"{size:,}" for size in SIZES if f"live:{size}" in dumps)
        evidence(
            f"projections of {history}, {label}",
            f"{len(names)} projections, {size}: live in batches of {batches}, rebuilt, and folded, "
            f"each under {dumps.count('folded') // len(names)} hash seeds: {len(dumps)} dumps, "
            f"0 bytes differ; more than {STEPS:,} steps were written many to a transaction",
        )
