"""Histories: a seed gives a cluster and sixty steps; the same seed gives the same bytes."""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from ledger.events import Recorded
from ledger.testing.simulation import Simulation
from ledger.testing.simulation.cluster import RULES_OF_USE
from ledger_projections import jobs, outage_impact
from oracles.outages import Outages
from oracles.scan import fates, impact, totals

from .compounds import Compounds
from .steps import YEAR_S, Step, chosen
from .watched import Watched

STEPS = 60
WEIGHTS = {
    "submit": 14,
    "resubmit": 3,
    "ask_about_a_job": 7,
    "operate": 1,
    "set_the_lease": 1,
    "command_exits": 8,
    "agent_is_killed": 2,
    "agent_is_stopped": 1,
    "machine_is_off": 2,
    "spool_is_lost": 1,
    "spool_is_full": 1,
    "node_is_cut_off": 3,
    "desk_is_cut_off": 2,
    "messages_are_late": 2,
    "messages_come_twice": 1,
    "master_is_killed": 2,
    "master_goes_in_order": 1,
    "master_is_stopped": 1,
    "database_is_cut_off": 1,
    "append_fails": 1,
    "disk_is_slow": 1,
    "checkpoint_is_kept": 1,
    "checkpoint_is_lost": 1,
    "wall_clock_is_set": 1,
    "backup_is_made": 1,
    "backup_is_restored": 1,
    "projections_go_on": 2,
    "projections_restart": 1,
    "outage_then_placed_elsewhere": 2,
    "reply_lost_then_asked_elsewhere": 2,
    "end_in_flight_while_the_lease_runs_out": 2,
    "takeover_while_a_start_is_in_flight": 2,
    "clock_is_set_then_an_outage": 1,
    "leases_change_while_a_node_is_silent": 1,
    "power_fails_as_a_command_begins": 1,
    "a_zombie_acts": 2,
    "end_told_again_while_the_next_attempt_runs": 1,
    "an_old_reply_comes_again": 1,
    "restart_during_a_rebuild": 2,
}
PROJECTED = 8
"""Every so many-th history has projections, which cost more than all the rest."""


class Told(NamedTuple):
    """What came of a history. `hash` is that of the log's last commit: it covers every byte.
    `ran`: job, attempt and node of every command, in order."""

    hash: str
    log: tuple[Recorded, ...]
    ran: tuple[tuple[int, int, str], ...]
    fired: Counter[str]


def steps_of(seed: int, count: int = STEPS) -> tuple[Step, ...]:
    """The steps of a seed."""
    return chosen(Random(f"{seed} steps"), WEIGHTS, count)  # noqa: S311 - to be drawn again


def tell(
    seed: int,
    steps: tuple[Step, ...] | None = None,
    *,
    year_s: float = YEAR_S,
    shift_s: float = 0,
    trusting: bool = False,
    rules_of_use: Mapping[str, int] = RULES_OF_USE,
) -> Told:
    """Let a history happen, all of it checked. Raises an AssertionError that names an invariant.

    `year_s`: what a step sets a wall clock by; `shift_s`: what all are off by from the beginning;
    `trusting`: no master refuses to start because of its clock; `rules_of_use` of the policy.
    """
    projected = (jobs.PROJECTION, outage_impact.PROJECTION) if seed % PROJECTED == 0 else ()
    sim = Simulation(
        seed,
        file_lock=seed % 3 == 0,
        wardens=seed % 2 == 0,
        projections=projected,
        shift_s=shift_s,
    )
    for master in sim.masters:
        master.trusting = trusting
    with sim:
        sim.begin(rules_of_use)
        watched = Watched(sim)
        rules = Compounds(sim, watched, year_s)
        for step in steps_of(seed) if steps is None else steps:
            rules.take(step)
        watched.settle()
        Outages(watched.events)
        check_projections(watched)
        head = sim.log().head()
        ran = tuple((x.job, x.attempt, x.node) for x in sim.witness.lines)
        return Told(head.hash, tuple(watched.events), ran, rules.fired)


def check_projections(watched: Watched) -> None:
    """I9: what they answer is what a scan of every event answers; I12: and their own fold."""
    for projector in watched.sim.projectors:
        assert projector.follower.verify(), f"I12: {projector.projection.id} is not its fold"
        if projector.projection is jobs.PROJECTION:
            rows, _ = projector.query(jobs.list_jobs, limit=10_000, ascending=True)
            told = [
                (r.job, r.user, r.account, r.state, r.submitted_at, r.started_at, r.ended_at)
                for r in rows
            ]
            assert told == [tuple(fate)[:7] for fate in fates(watched.events)], "I9: jobs"
        else:
            users = projector.query(outage_impact.impact)
            hits = impact(watched.events)
            assert sum(len(u.jobs) for u in users) == len(hits), "I14: affected users"
            known = {(u.user, u.account): (u.lost_us, u.requeued, u.needs_owner) for u in users}
            assert known == totals(hits), "I14: what they lost"
