"""The process that keeps projections, for tests that kill it, and what must hold of its tables."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import live
from ledger.projection.reader import Reader, Unavailable
from ledger.store.log import Log
from places import Place
from projection.keeping import PROJECTIONS, close, kept

PATIENCE_S = 60.0
FOLLOW = """
import sys
from pathlib import Path
from ledger.follow import Stop, follow, run_follow
from ledger.projection.discover import discover
data, url, size = Path(sys.argv[1]), sys.argv[2] or None, int(sys.argv[3])
if size:
    follow(list(discover().projections.values()), data, url, Stop(), size)
else:
    run_follow(data, url)
"""


@contextmanager
def following(place: Place, data: Path, size: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """The real process; with a `size`, taking in so many events at a time."""
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, data, place.url or "", str(size)],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def positions(reader: Reader) -> list[int]:
    """How far each projection has come; 0 where it can't be asked."""
    found = []
    for projection in PROJECTIONS:
        try:
            found.append(reader.checkpoint(projection.name).position)
        except Unavailable:
            found.append(0)
    return found


def until(reader: Reader, process: subprocess.Popen[bytes], position: int) -> None:
    """Wait until every projection has come so far; the process must live."""

    def reached() -> bool:
        assert process.poll() is None, "the process has ended"
        return min(positions(reader)) >= position

    live.until(reached, f"all have come to {position}", PATIENCE_S)


def check(place: Place, log: Log) -> None:
    """Every projection is what the log says."""
    for projection in PROJECTIONS:
        follower = kept(projection, place, log)
        assert follower.checkpoint.position == log.head().position
        assert follower.verify()
        close(follower)
