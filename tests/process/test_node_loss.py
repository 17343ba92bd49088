"""Nodes and masters are lost under real jobs: each attempt runs once, never two at a time."""

import signal

import pytest

from ledger.events import AttemptPlaced, StaleReported
from ledger.testing.evidence import Evidence

from .beats import Beats, ends, node_of, short_lease
from .harness import Site
from .processes import Process, until

LEASE_S, MARGIN_S = 2, 1


@pytest.fixture
def beats(sqlite_site: Site) -> Beats:
    """A service with a short lease, set before any agent is there."""
    return short_lease(sqlite_site, LEASE_S, MARGIN_S)


def agents(site: Site, count: int) -> dict[str, Process]:
    """So many real agents, ready."""
    started = {f"w{number}": site.agent(f"w{number}") for number in range(1, count + 1)}
    site.nodes_ready(count)
    return started


@pytest.mark.fault("E1")
def test_a_killed_agent_takes_its_job_with_it_and_the_job_begins_again_elsewhere(
    beats: Beats,
) -> None:
    site = beats.site
    running = agents(site, 2)
    job = beats.submit(restartable=True)
    node = node_of(site, job)
    running[node].end(signal.SIGKILL)
    site.agent(node)
    beats.beats(job, 2)
    (first,) = ends(site, job)
    assert (first.outcome, first.cause, first.next) == ("node_fail", "agent_restarted", "requeued")
    assert node_of(site, job) != node
    beats.end(job)
    assert site.ended(job).attempt == 2
    beats.check()


@pytest.mark.fault("E10", "E16", "F2", "G4")
def test_silent_nodes_what_may_restart_moves_and_the_rest_is_waited_for(
    beats: Beats, evidence: Evidence
) -> None:
    site, web = beats.site, beats.site.web()
    running = agents(site, 3)
    moves, stays = beats.submit(restartable=True), beats.submit(restartable=False)
    silent = [node_of(site, job) for job in (moves, stays)]
    for name in silent:
        running[name].freeze()
    beats.beats(moves, 2)
    assert node_of(site, moves) not in silent
    (lost,) = ends(site, moves)
    assert (lost.outcome, lost.cause, lost.next) == ("node_fail", "node_lost", "requeued")
    shown = web.job(stays)
    assert (shown["state"], shown["attempt"]) == ("running", 1)
    assert shown["out_of_contact_since"] is not None
    beats.beats(stays, 1)
    for name in silent:
        running[name].tell(signal.SIGCONT)
    until(lambda: web.job(stays)["out_of_contact_since"] is None, 10, "the contact")
    stale = until(lambda: [r.event for r in site.events() if isinstance(r.event, StaleReported)])
    assert [(e.job, e.attempt, e.cause) for e in stale] == [(moves, 1, "lease_expired")]
    for job in (moves, stays):
        beats.end(job)
    assert (site.ended(stays).attempt, site.ended(stays).outcome) == (1, "completed")
    assert (site.ended(moves).attempt, site.ended(moves).outcome) == (2, "completed")
    site.nodes_ready(3)
    beats.check()
    evidence(
        f"silent node, lease {LEASE_S} s and margin {MARGIN_S} s",
        f"{beats.gap(moves):.1f} s between the last sign of attempt 1 and the first of attempt 2",
    )


def test_cancel_is_term_then_grace_then_kill(beats: Beats) -> None:
    site, web = beats.site, beats.site.web()
    agents(site, 1)
    line = f'"$JOBLEDGER_JOB_ID $1 $(date +%s.%N)" >> {site.witness}'
    script = f"note() {{ echo {line}; }}; trap 'note TERM' TERM; note begins; "
    job = web.submit({"argv": ["/bin/sh", "-c", script + "while :; do sleep 0.05; done"]})
    until(site.witnessed, 10, "the beginning")
    web.json("POST", f"/v1/jobs/{job}/cancel", {"note": "enough"})
    ended = site.ended(job)
    assert (ended.outcome, ended.state, ended.signal) == ("cancelled", "cancelled", signal.SIGKILL)
    (_, told) = site.witnessed()
    assert told[1] == "TERM"
    at = next(r.at for r in site.events() if r.event == ended)
    assert at / 1e6 - float(told[2]) >= 0.9, "the grace of 1 s was not given"


def test_jobs_run_on_while_the_master_is_dead_and_their_ends_are_recorded(
    beats: Beats, evidence: Evidence
) -> None:
    site = beats.site
    # The master is away for as long as a busy machine needs to start another.
    site.web().json("PATCH", "/v1/policy", {"job_lease_s": 30})
    agents(site, 2)
    jobs = [beats.submit(restartable=restartable) for restartable in (True, False)]
    assert site.master is not None
    assert site.master.end(signal.SIGKILL) == -signal.SIGKILL
    beats.end(jobs[1])
    until(lambda: silence(beats, jobs[1]), 10, "the end of the second job")
    beats.beats(jobs[0], 1)
    site.start()
    second = site.ended(jobs[1])
    assert (second.attempt, second.outcome, second.cause) == (1, "completed", "exit")
    assert second.ran_us < second.held_us
    beats.beats(jobs[0], 1)
    beats.end(jobs[0])
    assert (site.ended(jobs[0]).attempt, site.ended(jobs[0]).outcome) == (1, "completed")
    placed = [r.event.job for r in site.events() if isinstance(r.event, AttemptPlaced)]
    assert sorted(placed) == sorted(jobs)
    beats.check()
    evidence("master killed while 2 jobs ran", "both on record, each started once")


def silence(beats: Beats, job: int) -> bool:
    """Has this job stopped beating? The other one's beats are the clock."""
    other = max(when for when in map(float, (line[4] for line in beats.site.witnessed())))
    return other - max(beats.of(job, 1)) > 0.5
