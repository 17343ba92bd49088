"""Over real clusters' histories: live = rebuilt = folded from scratch, byte for byte, for batches
of any size, on both databases, whatever Python's hash seed."""

import gzip
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest

from ledger.importing import sacct, swf
from ledger.importing.past import Past, write
from ledger.importing.rows import layout
from ledger.importing.tally import Tally
from ledger.importing.trace import read, remarks
from ledger.projection.discover import discover
from ledger.testing.evidence import Evidence
from places import Place

HISTORIES = {
    "KTH-SP2": "swf/KTH-SP2-1996-2.1-cln.swf.gz",
    "MetaCentrum": "swf/MetaCentrum-wagap-2013.alea.swf.gz",
    "phillips": "slurm/xdmod_phillips.sacct.log.gz",
}
RUNS = [("0", (1,)), ("1", (7,)), ("4242", (1000,))]
"""A hash seed, and the sizes of batches that are tried under it."""

A_FEW = 15


def jobs_of(file: Path) -> Sequence[Past]:
    """The past that a file tells of."""
    if ".swf" in file.name:
        return swf.read(read(file), swf.machine(remarks(file)), Tally())
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")
    return sacct.read(lines, layout(lines[0]), UTC, Tally())


def told(data: Path, url: str | None, folder: Path, seed: str, sizes: tuple[int, ...]) -> list[str]:
    """What a process with this hash seed says of each projection."""
    program = Path(__file__).with_name("kept_pasts.py")
    done = subprocess.run(
        [sys.executable, program, data, url or "", folder, *map(str, sizes)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.fault("H8", "H12")
@pytest.mark.parametrize("history", HISTORIES)
def test_live_is_rebuilt_is_folded(
    history: str, place: Place, shared: Path, tmp_path: Path, full: bool, evidence: Evidence
) -> None:
    jobs = jobs_of(shared / HISTORIES[history])[: None if full else A_FEW]
    ledger = Place(tmp_path / "ledger", None)
    with closing(ledger.open(create=True)) as log:
        events = write(log, jobs).position
    assert ledger.data is not None
    found: dict[str, set[str]] = {}
    ways = 0
    for seed, sizes in RUNS:
        for line in told(ledger.data, place.url, tmp_path / seed, seed, sizes):
            name, _, digest = line.split()
            found.setdefault(name, set()).add(digest)
            ways += 1
    assert set(found) == set(discover().projections)
    assert {name: len(digests) for name, digests in found.items()} == dict.fromkeys(found, 1)
    database = "PostgreSQL" if place.url else "SQLite"
    evidence(
        f"projections of {history}, {database}",
        f"{len(found)} projections, {len(jobs)} jobs, {events} positions: live in batches of 1, 7 "
        f"and 1000, rebuilt, and folded, under 3 hash seeds: {ways} dumps, 0 bytes differ",
    )
