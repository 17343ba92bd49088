"""Over real clusters' histories: live = rebuilt = folded from scratch, byte for byte, for batches
of any size, on both databases, whatever Python's hash seed."""

import gzip
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC
from itertools import groupby, product
from multiprocessing.pool import ThreadPool
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

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
    "phillips": "slurm/xdmod_phillips.sacct.log.gz",
    "MetaCentrum": "swf/MetaCentrum-wagap-2013.alea.swf.gz",
    "KTH-SP2": "swf/KTH-SP2-1996-2.1-cln.swf.gz",
}
"""The shortest first: what is known of it is kept where the others are interrupted."""

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


class Run(NamedTuple):
    """One process, with a hash seed: it keeps the projections of a ledger in batches of each of
    these sizes."""

    seed: str
    sizes: Sequence[int]
    ledger: Path


def runs_of(folder: Path, *, full: bool) -> list[Run]:
    """Each history in each batch size under each seed. CI: one of each for one another."""
    if not full:
        each = zip(SEEDS, SIZES, HISTORIES, strict=True)
        return [Run(seed, (size,), folder / history) for seed, size, history in each]
    return [Run(seed, SIZES, folder / history) for history in HISTORIES for seed in SEEDS]


def told(where: Place, run: Run) -> list[list[str]]:
    """What a process says of each projection: its name, how its rows came about, their digest."""
    program = Path(__file__).with_name("kept_pasts.py")
    wanted = ",".join(map(str, run.sizes))
    done = subprocess.run(
        [sys.executable, program, str(where.data), where.url or "", str(STEPS), wanted, run.ledger],
        env={**os.environ, "PYTHONHASHSEED": run.seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture
def fresh_place(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Place]]:
    """Gives places without tables."""
    with ExitStack() as opened:

        def fresh() -> Place:
            url = None
            if database == "postgres":
                url = opened.enter_context(fresh_database(request.getfixturevalue("pg_server")))
            return Place(Path(mkdtemp(dir=tmp_path)), url)

        yield fresh


@pytest.mark.fault("H8", "H12")
def test_live_is_rebuilt_is_folded(
    fresh_place: Callable[[], Place],
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
    runs = runs_of(tmp_path, full=full)
    names = set(discover().projections)
    label = "PostgreSQL" if database == "postgres" else "SQLite"
    with ThreadPool(AT_A_TIME) as pool:
        asked = [(run, pool.apply_async(told, (fresh_place(), run))) for run in runs]
        for history, of_it in groupby(asked, key=lambda one: one[0].ledger.name):
            some = list(of_it)
            found = [line for _, said in some for line in said.get()]
            sizes = [size for run, _ in some for size in run.sizes]
            times = {"folded": len(some), "rebuilt": len(some)}
            times |= Counter(f"live:{size}" for size in sizes)
            assert Counter((name, how) for name, how, _ in found) == {
                (name, how): n for name, (how, n) in product(names, times.items())
            }
            assert len({(name, digest) for name, _, digest in found}) == len(names)
            evidence(
                f"projections of {history}, {label}",
                f"{len(names)} projections, {told_of[history]}: live in batches of "
                f"{', '.join(f'{size:,}' for size in sorted(set(sizes)))}, rebuilt, and folded, "
                f"each under {len(some)} hash seeds: {len(found)} dumps, 0 bytes differ; more than "
                f"{STEPS:,} steps were written many to a transaction",
            )
