"""Whom outages hit, after all that can befall a cluster, is what a scan of the log gives."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from ledger.events import Fact, NodeEnrolled, Recorded
from ledger.store.log import Draft
from ledger.testing.evidence import Evidence
from ledger.testing.memory_log import Disk, MemoryLog
from ledger_projections import outage_impact
from oracles.scan import Hit, impact, totals
from places import Place
from projection.keeping import ask, close, kept

from .history import tell

Users = list[outage_impact.ImpactUser]


def log_of(events: Sequence[Recorded]) -> MemoryLog:
    """A log that has happened, to be followed."""
    log = MemoryLog(Disk())
    commits = [list(some) for _, some in groupby(events, key=lambda r: r.commit)]
    log.append(
        [
            Draft(some[0].at, some[0].epoch, [Fact(r.event, r.envelope) for r in some])
            for some in commits
        ]
    )
    assert [r.position for r in log.read()] == [r.position for r in events]
    return log


def told(users: Users) -> list[Hit]:
    """A list as the scan writes it."""
    return [
        Hit(u.user, u.account, j.job, j.attempt, j.node, j.struck_at, j.restartable, j.lost_us,
            j.effect, j.state)
        for u in users
        for j in u.jobs
    ]  # fmt: skip


def sums(users: Users) -> dict[tuple[str, str], tuple[int, int, int]]:
    """What each lost, as `totals` gives it."""
    return {(u.user, u.account): (u.lost_us, u.requeued, u.needs_owner) for u in users}


def test_random_outages(tmp_path: Path, full: bool, evidence: Evidence) -> None:
    histories, each = (50, 20) if full else (4, 10)
    tried = hit = of_one = listed = 0
    for seed in range(histories):
        events = tell(seed).log
        follower = kept(outage_impact.PROJECTION, Place(tmp_path / str(seed), None), log_of(events))
        follower.catch_up()
        rng = Random(seed)  # noqa: S311
        nodes = sorted({r.event.node for r in events if isinstance(r.event, NodeEnrolled)})
        times = [r.at for r in events]
        for _ in range(each):
            since, until = sorted(at + rng.choice((-1, 0, 0, 1)) for at in rng.choices(times, k=2))
            some = rng.choice((None, rng.sample(nodes, rng.randint(1, len(nodes)))))
            asked: dict[str, Any] = {"nodes": some, "since": since}
            asked["until"] = rng.choice((None, until))
            expected = impact(events, **asked)
            found = ask(follower, outage_impact.impact, **asked)
            assert told(found) == expected, (seed, asked)
            assert sums(found) == totals(expected), (seed, asked)
            for user in {one.user for one in expected} | {"nobody"}:
                mine = [one for one in expected if one.user == user]
                own = ask(follower, outage_impact.impact, user=user, **asked)
                assert told(own) == mine, (seed, asked, user)
                of_one += 1
            tried, hit, listed = tried + 1, hit + bool(expected), listed + len(expected)
        close(follower)
    assert hit > tried // 10
    evidence(
        "affected users, random outages of the simulated cluster",
        f"{tried} outages over {histories} histories, {hit} of which hit somebody: the scan's "
        f"{listed} attempts and no other, with the same losses; so have {of_one} lists of one user",
    )
