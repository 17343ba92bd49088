"""Who was on nodes in a window is what a scan of every attempt gives."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.events import Recorded
from ledger.importing import swf
from ledger.importing.past import write
from ledger.importing.tally import Tally
from ledger.importing.trace import read, remarks
from ledger.testing.evidence import Evidence
from ledger.testing.stories import Story, Wanderer
from ledger_projections import occupancy
from ledger_projections.occupancy import STILL_THERE
from oracles.there import attempts, states, there
from places import Place
from projection.keeping import Told, ask, close, in_batches, kept, wandered

DAY_US = 86_400_000_000


class Asker:
    """Asks a projection and the scan the same; `seen` counts what was found."""

    def __init__(self, follower: Any, log: Sequence[Recorded]) -> None:
        self._follower = follower
        self._past, self._states = attempts(log), states(log)
        self.seen = self.users = 0

    def check(self, nodes: Sequence[str] | None, since: int, until: int | None) -> None:
        """They answer alike."""
        asked = ask(self._follower, occupancy.stays, nodes=nodes, since=since, until=until)
        found = [
            (
                *(row.user, row.account, row.job, row.attempt, row.node, row.placed_at),
                None if row.left_at == STILL_THERE else row.left_at,
                row.outcome,
                state,
            )
            for row, state in ((stay.row, stay.state) for stay in asked)
        ]
        expected = there(self._past, self._states, nodes, since, until)
        assert found == [tuple(one) for one in expected]
        self.seen += len(found)
        self.users += len({one[0] for one in found})


def windows(log: Sequence[Recorded], rng: Random, count: int) -> list[tuple[int, int | None]]:
    """Windows that begin and end at moments of the log, or beside them."""
    times = [r.at for r in log] or [0]
    found: list[tuple[int, int | None]] = []
    for _ in range(count):
        since, until = sorted(at + rng.choice((-1, 0, 0, 1)) for at in rng.choices(times, k=2))
        found.append((since, rng.choice((until, until, None))))
    return found


@settings(max_examples=15)
@given(st.randoms(use_true_random=False), st.integers(0, 120))
def test_any_story(rng: Random, steps: int) -> None:
    story = Wanderer(Story(), rng, nodes=3).walk(steps)
    with tempfile.TemporaryDirectory() as folder:
        source = Told(story)
        follower = kept(occupancy.PROJECTION, Place(Path(folder), None), source)
        in_batches(follower, source, 20)
        asker = Asker(follower, story.events)
        for since, until in windows(story.events, Random(steps), 8):  # noqa: S311
            asker.check(rng.choice((None, ["n2"], ["n1", "n3", "nowhere"], [])), since, until)
        close(follower)


def test_a_long_story(place: Place) -> None:
    story = wandered(7, 600)
    follower = kept(occupancy.PROJECTION, place, Told(story))
    follower.catch_up()
    asker = Asker(follower, story.events)
    for since, until in windows(story.events, Random(7), 30):  # noqa: S311
        asker.check(None, since, until)
        asker.check(["n1", "n2"], since, until)
    assert asker.seen > 100
    close(follower)


def test_outages_of_a_real_cluster(
    shared: Path, tmp_path: Path, full: bool, evidence: Evidence
) -> None:
    """Random nodes and windows over a trace that names the nodes of its jobs."""
    (file,) = (shared / "swf").glob("MetaCentrum-wagap*.swf.gz")
    jobs = swf.read(read(file), swf.machine(remarks(file)), Tally())
    jobs = jobs if full else jobs[:1_500]
    place, rng, outages = Place(tmp_path, None), Random(4), 1000 if full else 100  # noqa: S311
    with closing(place.open(create=True)) as log:
        write(log, jobs)
        events = list(log.read())
        follower = kept(occupancy.PROJECTION, place, log)
        follower.catch_up()
        asker = Asker(follower, events)
        names = sorted({node for job in jobs for a_try in job.tries for node in a_try.nodes})
        for _ in range(outages):
            since = rng.randrange(events[0].at, events[-1].at)
            nodes = rng.sample(names, rng.randint(1, 12))
            asker.check(nodes, since, since + rng.randrange(1, DAY_US))
        close(follower)
    assert asker.users > outages
    evidence(
        "stated outages over MetaCentrum",
        f"{outages} random ones over {len(jobs)} jobs on {len(names)} nodes: the scan's "
        f"{asker.users} users and {asker.seen} attempts, no other",
    )
