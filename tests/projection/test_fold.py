"""A projection is the fold of the log, in whatever process and however large its events are.

`test_every_projection.py` has what holds for each of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger_projections import jobs
from places import Place
from projection.keeping import Told, close, dump, kept, wandered

FOLLOW = """
import hashlib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from projection.keeping import PROJECTIONS, Told, dump, in_batches, kept, wandered
from places import Place
source = Told(wandered(5, 300))
for projection in PROJECTIONS:
    follower = kept(projection, Place(Path(sys.argv[2]), None), source)
    in_batches(follower, source, 7)
    print(hashlib.sha256(dump(follower)).hexdigest())
"""


@pytest.mark.fault("H8")
def test_neither_hash_seed_nor_time_zone_shows(tmp_path: Path) -> None:
    told = set()
    for seed, zone in [("0", "UTC"), ("1", "Asia/Kolkata"), ("4242", "America/Caracas")]:
        tests = Path(__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", FOLLOW, tests, tmp_path / seed],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1


def test_one_event_of_ten_thousand_jobs(place: Place) -> None:
    story = wandered(1, 0)
    first = story.submit("ann", array="0-9999", restartable=True)
    source = Told(story)
    follower = kept(jobs.PROJECTION, place, source)
    follower.catch_up()
    assert follower.verify()
    assert dump(follower).count(b'"ann"') == 10_000
    assert first == 1
    close(follower)
