"""What agents and master say to one another is lost, held, cut and slowed: each job runs once,
what is told twice is recorded once, and where the lease runs out nothing runs twice at once."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from ledger.events import AttemptEnded, AttemptStarted, StaleReported
from ledger.testing.evidence import Evidence

from .beats import Beats, ends, node_of, short_lease
from .harness import Site
from .lossy import SHAPES, Loss, Lossy
from .processes import until

NODES = 3
JOBS = 6
WHILE_S = 1.2
"""How long what is shorter than the lease lasts."""


@pytest.fixture
def proxies(sqlite_site: Site) -> Iterator[dict[str, Lossy]]:
    """For each node, what stands between its agent and the master."""
    target = sqlite_site.data / "jobledger.sock"
    made = {f"w{n}": Lossy(sqlite_site.folder / f"p{n}", target) for n in range(1, NODES + 1)}
    yield made
    for proxy in made.values():
        proxy.close()


def served(site: Site, proxies: dict[str, Lossy], lease_s: int) -> Beats:
    """A service whose agents are behind the proxies, all ready."""
    beats = short_lease(site, lease_s)
    for name, proxy in proxies.items():
        site.agent(name, "--url", proxy.url, "--state", str(site.folder / "agents" / name))
    site.nodes_ready(NODES)
    return beats


def under(loss: Loss, proxies: list[Lossy], while_s: float) -> int:
    """Let this go wrong until it has touched each, and no shorter than this; how often it did."""
    before = [proxy.hit for proxy in proxies]
    for proxy in proxies:
        proxy.loss = loss
    end = time.monotonic() + while_s
    until(
        lambda: (
            time.monotonic() > end
            and all(proxy.hit > hit for proxy, hit in zip(proxies, before, strict=True))
        ),
        20,
        f"a touch of {loss}",
    )
    for proxy in proxies:
        proxy.loss = "none"
    return sum(proxy.hit for proxy in proxies) - sum(before)


def once(site: Site, jobs: list[int]) -> None:
    """Each ran once, in its first attempt, and is on record as that, once."""
    events = [r.event for r in site.events()]
    started = Counter(e.job for e in events if isinstance(e, AttemptStarted) and e.job in jobs)
    ended = [e for e in events if isinstance(e, AttemptEnded) and e.job in jobs]
    assert set(started.values()) <= {1}
    assert sorted(e.job for e in ended) == jobs
    assert {(e.attempt, e.outcome) for e in ended} == {(1, "completed")}
    runs = Counter(int(job) for job, *_ in site.witnessed())
    assert {job: runs[job] for job in jobs} == dict.fromkeys(jobs, 1)


@pytest.mark.fault("F1", "F4", "F6")
def test_what_is_shorter_than_the_lease_is_not_noticed_by_any_job(
    sqlite_site: Site, proxies: dict[str, Lossy], full: bool, evidence: Evidence
) -> None:
    site = sqlite_site
    served(site, proxies, 12)
    web, touched = site.web(), 0
    shapes = SHAPES if full else SHAPES[1:5:3]
    for loss in shapes:
        kinds = [site.job(f"sleep 0.{n}", restartable=n % 2 == 0) for n in range(JOBS)]
        jobs = [web.submit(kind) for kind in kinds[: JOBS // 2]]
        until(lambda first=jobs[0]: web.job(first)["state"] == "running", 10, "a start")
        jobs += [web.submit(kind) for kind in kinds[JOBS // 2 :]]
        touched += under(loss, list(proxies.values()), WHILE_S)
        for job in jobs:
            site.ended(job)
        once(site, jobs)
    assert not [r for r in site.events() if isinstance(r.event, StaleReported)]
    site.verified()
    evidence(
        "agents behind a lossy proxy, shorter than the lease",
        f"{len(shapes)} shapes, {touched} messages touched, {len(shapes) * JOBS} jobs: each ran "
        "once and was recorded once",
    )


@pytest.mark.full
@pytest.mark.fault("F4", "E10")
def test_what_arrives_when_its_sender_has_long_given_up_changes_nothing(
    sqlite_site: Site, proxies: dict[str, Lossy], evidence: Evidence
) -> None:
    site = sqlite_site
    served(site, proxies, 3)
    web = site.web()
    jobs = [web.submit(site.job("sleep 0.5")) for _ in range(NODES)]
    until(lambda: len(site.witnessed()) == NODES, 10, "the starts")
    touched = under("held", list(proxies.values()), 4.0)
    for job in jobs:
        assert site.ended(job).outcome == "completed"
    once(site, jobs)
    site.verified()
    evidence(
        "agents' messages held beyond poll and lease",
        f"{touched} arrived late, {NODES} jobs: each ran once and was recorded once",
    )


@pytest.mark.fault("E16", "F2", "F3")
@pytest.mark.parametrize(
    "loss",
    [
        "one way",
        *(
            pytest.param(one, marks=pytest.mark.full)
            for one in ("requests eaten", "refused", "held")
        ),
    ],
)
def test_what_is_longer_than_the_lease_moves_only_what_has_stopped(
    sqlite_site: Site, proxies: dict[str, Lossy], loss: Loss, evidence: Evidence
) -> None:
    site = sqlite_site
    beats = served(site, proxies, 2)
    web = site.web()
    moves, stays = beats.submit(restartable=True), beats.submit(restartable=False)
    cut_off = [proxies[node_of(site, job)] for job in (moves, stays)]
    for proxy in cut_off:
        proxy.loss = loss
    beats.beats(moves, 2)
    (lost,) = ends(site, moves)
    assert (lost.cause, lost.next) == ("node_lost", "requeued")
    assert web.job(stays)["attempt"] == 1
    beats.beats(stays, 1)
    for proxy in cut_off:
        proxy.loss = "none"
    until(lambda: web.job(stays)["out_of_contact_since"] is None, 20, "the contact")
    for job, attempt in ((moves, 2), (stays, 1)):
        beats.end(job)
        end = site.ended(job)
        assert (end.attempt, end.outcome) == (attempt, "completed")
    site.nodes_ready(NODES)
    beats.check()
    evidence(
        f"agents cut off longer than the lease of 2 s, {loss}",
        f"{beats.gap(moves):.1f} s between the last sign of attempt 1 and the first of attempt 2",
    )
