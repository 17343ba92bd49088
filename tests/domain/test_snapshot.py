"""The state's bytes say what the state is, not in which order or process it came about."""

import os
import subprocess
import sys
from random import Random

import msgspec
import pytest

from ledger.commands import Submit
from ledger.domain.cluster import fold
from ledger.domain.snapshot import from_bytes, to_bytes
from ledger.domain.state import Cluster
from ledger.events import JobSpec
from ledger.testing.golden import digest
from ledger.testing.stories import Story, Wanderer

PROGRAM = """
from random import Random
from ledger.testing.golden import digest
from ledger.testing.stories import Story, Wanderer
print(digest(Wanderer(Story(), Random(7)).walk(400).cluster))
"""


def wandered(seed: int, steps: int = 300) -> Story:
    """A story that took its course."""
    return Wanderer(Story(), Random(seed)).walk(steps)  # noqa: S311 - no secret


def normal(c: Cluster) -> Cluster:
    """Without the empty places that dictionaries keep, which mean nothing."""
    c.waiting = {pool: jobs for pool, jobs in c.waiting.items() if jobs}
    c.dependents = {job: waiters for job, waiters in c.dependents.items() if waiters}
    return c


@pytest.mark.parametrize("seed", range(8))
def test_a_state_comes_back_whole_from_its_bytes(seed: int) -> None:
    c = wandered(seed).cluster
    back = from_bytes(to_bytes(c))
    assert to_bytes(back) == to_bytes(c)
    assert normal(back) == normal(c)


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_anywhere_and_the_events_after_it_give_the_same_state(seed: int) -> None:
    story = wandered(seed)
    for cut in range(0, len(story.events), 25):
        saved = to_bytes(fold(story.events[:cut]))
        again = fold(story.events[cut:], from_bytes(saved))
        assert to_bytes(again) == to_bytes(story.cluster)


@pytest.mark.fault("H8")
def test_every_process_writes_the_same_bytes() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "4711")
    }
    assert found == {digest(wandered(7, 400).cluster)}


def test_what_is_equal_has_equal_bytes_whether_it_is_shared_or_not() -> None:
    """A master holds what it was given; a fold of the log holds what it has read."""
    shared, apart = Story(), Story()
    for story in (shared, apart):
        story.node("n1")
    spec = JobSpec(name="same", features=())
    shared.ask("ann", Submit(specs=(spec,) * 3))
    apart.ask("ann", Submit(specs=tuple(msgspec.structs.replace(spec) for _ in range(3))))
    assert to_bytes(shared.cluster) == to_bytes(apart.cluster)


def test_other_bytes_are_no_state() -> None:
    with pytest.raises(msgspec.MsgspecError):
        from_bytes(b"\x91\x00")
