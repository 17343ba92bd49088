"""A service that is destroyed anyhow: the list out of what is left is compared with the book of
those who asked, and with a scan of every event that is left."""

from collections import Counter
from pathlib import Path
from random import Random

from ledger.agent.spool import recall
from ledger.events import JobsSubmitted, Recorded
from ledger.models import SalvagedJobOut, SalvageOut
from ledger.salvage.report import NothingLeft, salvage
from ledger.testing.evidence import Evidence
from oracles.live import Lived, live, over

from .ruin import Ruin, Ruiner, World, lived

WORLDS, RUINS = 2, 13
WORLDS_IN_FULL, RUINS_IN_FULL = 25, 80


def test_whatever_is_destroyed(tmp_path: Path, full: bool, evidence: Evidence) -> None:
    ways: Counter[str] = Counter()
    listed = proven = spooled = 0
    for seed in range(WORLDS_IN_FULL if full else WORLDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        world = lived(seed, folder)
        ruiner = Ruiner(world, Random(f"{seed} ruin"), folder)  # noqa: S311 - to be drawn again
        for _ in range(RUINS_IN_FULL if full else RUINS):
            ruin = ruiner.draw()
            try:
                found = check(world, ruin)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {ruin.how}: {error}") from error
            ways[ruin.how] += 1
            jobs = [job for user in found.users for job in user.jobs] if found else []
            listed += len(jobs)
            proven += sum(job.known_from == "log" for job in jobs)
            spooled += sum(job.known_from == "spool" for job in jobs)
    assert proven
    assert spooled
    evidence(
        "salvage of destroyed services",
        f"{ways.total()} ruins of {len(ways)} kinds: {listed} jobs listed ({proven} by the proven "
        f"log, {spooled} by spools alone), none missing, none extra",
    )


def check(world: World, ruin: Ruin) -> SalvageOut | None:
    """What is salvaged of a ruin is all that it tells, and nothing else."""
    before = contents(ruin)
    try:
        found = salvage(ruin.left, str)
    except NothingLeft:
        assert not ruin.readable
        return None
    finally:
        assert contents(ruin) == before, "something was written"
    whole = 0
    for extent in world.commits:
        if not ruin.readable.issuperset(extent):
            break
        whole = extent.stop - 1
    proven = found.position
    assert proven == whole
    jobs = {job.job: (user.user, user.account, job) for user in found.users for job in user.jobs}
    by_log = {n: one for n, one in jobs.items() if one[2].known_from == "log"}
    left = [r for r in world.events if r.position in ruin.readable]
    lived = live(world.events, whole)
    expected = {one.job: one for one in lived if not over(left, one.job)}
    spools = spools_of(world, ruin)
    later = {job for job, attempt in spools if attempt > expected_attempt(expected, job)}
    later |= {n for n in by_log for r in left if r.position > whole and about(r.event, n)}
    check_proven(expected, by_log, later)
    check_book(world, ruin, jobs)
    check_behind(world, ruin, whole, jobs)
    check_spools(ruin, found, left, jobs, spools)
    check_unknown(world, ruin, found, spools)
    return found


def contents(ruin: Ruin) -> dict[Path, bytes]:
    """Every file that is left."""
    files = [f for path in ruin.left for f in ([path] if path.is_file() else path.rglob("*"))]
    return {file: file.read_bytes() for file in files if file.is_file()}


Events = list[Recorded]
Jobs = dict[int, tuple[str, str, SalvagedJobOut]]
"""What is listed, by number: user, account, job."""

Begun = dict[tuple[int, int], str]
"""Which attempts spools name, and whose they are."""


def spools_of(world: World, ruin: Ruin) -> Begun:
    """The attempts in the spools that are left."""
    left = {file for file in contents(ruin) if file.name == "spool.ndjson"}
    return {key: begun.user for file in sorted(left) for key, begun in recall(file).begun.items()}


def expected_attempt(expected: dict[int, Lived], job: int) -> int:
    """The last attempt that the log knows of."""
    return expected[job].attempt if job in expected else 0


def check_proven(expected: dict[int, Lived], by_log: Jobs, later: set[int]) -> None:
    """What the proven log says of live jobs is what a scan says, unless more is known behind it."""
    missing = sorted(expected.keys() - by_log.keys())
    assert missing == []
    for number, (user, account, job) in by_log.items():
        lived = expected[number]
        assert (user, account) == (lived.user, lived.account)
        if number in later:
            continue
        assert (job.effect != "waiting", job.attempt) == (lived.running, lived.attempt)
        assert tuple(job.nodes) == lived.nodes


def check_book(world: World, ruin: Ruin, jobs: Jobs) -> None:
    """Nobody is missing who was told yes, and nobody is listed who did not ask."""
    left = [r for r in world.events if r.position in ruin.readable]
    readable = {job for r in left for job in submitted(r.event)}
    missing = [job for job in world.acknowledged & readable if not over(left, job)]
    missing = [job for job in missing if job not in jobs]
    assert missing == [], "acknowledged, and can be read"
    others = [n for n, (user, _, _) in jobs.items() if world.owners.get(n) != user]
    assert others == [], "never submitted by these"
    ran = {n: job for n, (_, _, job) in jobs.items() if job.end == "completed"}
    never = [n for n, job in ran.items() if (n, job.attempt) not in world.began]
    assert never == [], "never ran"


def check_behind(world: World, ruin: Ruin, whole: int, jobs: Jobs) -> None:
    """Behind the break: who was submitted there and did not end there is listed, and nobody of whom
    nothing can be read there."""
    left = [r for r in world.events if r.position in ruin.readable]
    behind = [r for r in left if r.position > whole]
    sent = {job for r in behind for job in submitted(r.event) if not over(left, job)}
    assert sorted(sent - jobs.keys()) == []
    for number, (_, _, job) in jobs.items():
        if job.known_from == "unproven":
            assert not over(left, number)
            assert any(about(r.event, number) for r in behind)


def submitted(event: object) -> range:
    """The jobs that an event submits."""
    if isinstance(event, JobsSubmitted):
        return range(event.first_job, event.first_job + event.count)
    return range(0)


def about(event: object, job: int) -> bool:
    """Does an event name a job?"""
    if job in submitted(event):
        return True
    struck = getattr(event, "struck", ())
    return getattr(event, "job", 0) == job or any(one.job == job for one in struck)


def check_spools(ruin: Ruin, found: SalvageOut, left: Events, jobs: Jobs, spools: Begun) -> None:
    """Every attempt that a spool names of a job that has not ended, as far as can be read. Where
    nothing of the log is proven, those that no master has seen the end of."""
    settled = set() if found.position else settled_of(ruin)
    for (number, attempt), user in spools.items():
        if not over(left, number) and (number, attempt) not in settled:
            assert number in jobs, f"a spool names job {number}.{attempt} of {user}"
            assert jobs[number][2].attempt >= attempt
    for number, (_, _, job) in jobs.items():
        if job.known_from == "spool" or job.effect in ("ended", "may_run"):
            assert (number, job.attempt) in spools


def settled_of(ruin: Ruin) -> set[tuple[int, int]]:
    """The attempts of which a spool says that a master has heard of their end."""
    found = set()
    for file in contents(ruin):
        if file.name == "spool.ndjson":
            memory = recall(file)
            told = {(report.job, report.attempt) for report in memory.unacked()}
            found |= memory.ended.keys() - told
    return found


def check_unknown(world: World, ruin: Ruin, found: SalvageOut, spools: Begun) -> None:
    """What is missing is said to be."""
    last = max(ruin.readable, default=0)
    told = " ".join(found.unknown)
    if any(found.position < r.position in ruin.readable for r in world.events):
        assert "the chain does not prove them" in told
    if any(job.known_from == "spool" for user in found.users for job in user.jobs):
        assert "only spools know" in told
    shown = [recall(file).seen.position for file in contents(ruin) if file.name == "spool.ndjson"]
    if max(shown, default=0) > last:
        assert f"position {max(shown)} at least" in told
    assert found.unknown
