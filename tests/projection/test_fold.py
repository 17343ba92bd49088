"""A projection is the fold of the log: however it comes about, wherever it lies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.projection import Projection
from ledger.projection.fold import dump as canonical
from ledger.projection.fold import fold, in_order
from places import Place
from projection.keeping import PROJECTIONS, Told, close, dump, in_batches, kept, wandered

by_name = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
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


@pytest.mark.fault("H8", "H12")
@by_name
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_followed_is_rebuilt_is_folded(projection: Projection, size: int, place: Place) -> None:
    source = Told(wandered(size, 250))
    wanted = canonical(projection, in_order(fold(projection, source.read())))
    follower = kept(projection, place, source)
    in_batches(follower, source, size)
    assert follower.checkpoint.position == source.head().position
    assert dump(follower) == wanted
    assert follower.verify()
    follower.rebuild()
    assert dump(follower) != wanted
    assert follower.verify()
    follower.catch_up()
    assert dump(follower) == wanted
    close(follower)


@by_name
def test_followed_as_it_happens_is_the_fold_at_every_commit(
    projection: Projection, tmp_path: Path
) -> None:
    """A new process at every commit: nothing that counts is only in memory."""
    whole = Told(wandered(11, 120))
    growing = Told(wandered(11, 120))
    drafts, place = list(whole.story.drafts), Place(tmp_path, None)
    for n in range(1, len(drafts) + 1):
        growing.story.drafts[:] = drafts[:n]
        follower = kept(projection, place, growing)
        follower.catch_up()
        folded = fold(projection, growing.read(0, growing.head().position))
        assert dump(follower) == canonical(projection, in_order(folded))
        close(follower)


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
    follower = kept(PROJECTIONS[0], place, source)
    follower.catch_up()
    assert follower.verify()
    assert dump(follower).count(b'"ann"') == 10_000
    assert first == 1
    close(follower)
