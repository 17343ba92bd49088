"""Who broke the rules of use: for each event that could break one, everything before it is looked
at again, by the rules as they are written."""

from collections.abc import Sequence
from typing import NamedTuple

from ledger.events import AbuseFound, AttemptEnded, Event, JobsSubmitted, PolicySet, Recorded

SECOND = 1_000_000
MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND
RULES = ("submissions", "failing", "idle")
FIRST = PolicySet(
    policy=0,
    job_lease_s=300,
    lease_margin_s=10,
    lost_after_s=86_400,
    kill_grace_s=10,
    max_jobs_per_user=500_000,
    max_time_limit_s=366 * 86_400,
    output_head_bytes=1 << 20,
    output_tail_bytes=1 << 20,
)
"""The policy that holds until one is set."""


class Breach(NamedTuple):
    """A rule was broken: as `AbuseFound` tells it, and until when anything of it counts."""

    rule: str
    user: str
    account: str
    since: int
    until: int
    found: int
    limit: int
    count: int  # type: ignore[assignment] # nobody counts in a breach
    of: int
    policy: int
    terms: dict[str, int]
    jobs: tuple[int, ...]
    positions: tuple[int, ...]
    counts_until: int


class Judged(NamedTuple):
    """What is to be on record, in the order in which it was put there, and what is not yet."""

    told: list[Breach]
    due: list[Breach]


def judged(log: Sequence[Recorded]) -> Judged:
    """What a log must say of abuse. Fails where it says what it must not."""
    policy, begun = FIRST, dict.fromkeys(RULES, 0)
    told: list[Breach] = []
    due: dict[tuple[str, str], Breach] = {}
    quiet: dict[tuple[str, str], int] = {}
    for i, r in enumerate(log):
        e = r.event
        if isinstance(e, AbuseFound):
            assert (e.user, e.rule) in due, f"{e}: and nothing was broken, or it was noticed"
            told.append(due.pop((e.user, e.rule)))
        elif isinstance(e, PolicySet):
            for rule in RULES:
                if terms(e, rule) != terms(policy, rule):
                    begun[rule] = i
            policy = e
        for rule in RULES:
            breach = broken(log[begun[rule] : i + 1], rule, policy)
            if breach is None:
                continue
            key = (breach.user, rule)
            if key not in due and r.at >= quiet.get(key, 0) + HOUR:
                due[key] = breach
            quiet[key] = breach.counts_until
    return Judged(told, list(due.values()))


def terms(policy: PolicySet, rule: str) -> dict[str, int]:
    """What defines a rule; nothing if it is off."""
    names = {
        "submissions": ("abuse_submissions_per_min",),
        "failing": ("abuse_fail_percent", "abuse_fail_jobs", "abuse_fail_within_s"),
        "idle": ("abuse_idle_node_s", "abuse_idle_percent"),
    }[rule]
    found = {name: getattr(policy, name) for name in names}
    return {} if 0 in found.values() else found


def broken(log: Sequence[Recorded], rule: str, policy: PolicySet) -> Breach | None:
    """Does the last event of a log break a rule that has held since its first?"""
    last = log[-1]
    defined = terms(policy, rule)
    if not defined or not of_rule(last.event, rule, policy):
        return None
    user = last.event.user  # type: ignore[attr-defined]
    span, spans = {"submissions": (MINUTE, 1), "failing": (MINUTE, 60), "idle": (HOUR, 12)}[rule]
    since = (last.at // span - spans + 1) * span
    of = [
        r
        for r in log
        if of_rule(r.event, rule, policy) and r.event.user == user and r.at >= since  # type: ignore[attr-defined]
    ]
    bad = of if rule != "failing" else [r for r in of if failed_at_once(r.event, policy)]
    if rule == "submissions":
        found, limit = len(bad), policy.abuse_submissions_per_min
        over = found > limit
    elif rule == "failing":
        found, limit = len(bad) * 100 // len(of), policy.abuse_fail_percent
        over = len(of) >= policy.abuse_fail_jobs and len(bad) * 100 >= limit * len(of)
    else:
        held = sum(r.event.ran_us * len(r.event.nodes) for r in bad)  # type: ignore[attr-defined]
        found, limit = held // SECOND, policy.abuse_idle_node_s
        over = found > limit
    if not over:
        return None
    shown = bad[-20:]
    accounts = {account_of(r.event) for r in shown}
    return Breach(
        rule,
        user,
        accounts.pop() if len(accounts) == 1 else "",
        since,
        last.at,
        found,
        limit,
        len(bad),
        len(of),
        policy.policy,
        defined,
        tuple(job_of(r.event) for r in shown),
        tuple(r.position for r in shown),
        since + (2 * spans - 1) * span,
    )


def of_rule(e: Event, rule: str, policy: PolicySet) -> bool:
    """Does a rule look at an event?"""
    if rule == "submissions":
        return isinstance(e, JobsSubmitted) and e.part == 1
    if not isinstance(e, AttemptEnded):
        return False
    if rule == "failing":
        return True
    # less than so many percent of one processor's time; of one that did not run, nothing is less
    return e.cpu_us is not None and e.cpu_us * 100 < policy.abuse_idle_percent * e.ran_us


def failed_at_once(e: Event, policy: PolicySet) -> bool:
    """Did an attempt fail by itself, in less time than the policy says?"""
    assert isinstance(e, AttemptEnded)
    by_itself = e.outcome in ("failed", "out_of_memory") and e.cause != "no_such_account"
    return by_itself and e.ran_us < policy.abuse_fail_within_s * SECOND


def account_of(e: Event) -> str:
    """Whom an event is charged to; empty if that is nobody, or several."""
    if isinstance(e, JobsSubmitted):
        accounts = {spec.account for spec in e.specs}
        return accounts.pop() if len(accounts) == 1 else ""
    assert isinstance(e, AttemptEnded)
    return e.account


def job_of(e: Event) -> int:
    """The job, or the first of the jobs."""
    return e.first_job if isinstance(e, JobsSubmitted) else e.job  # type: ignore[attr-defined]


def said(e: AbuseFound) -> tuple[object, ...]:
    """What an event tells, in the order of `Breach`."""
    return (
        *(e.rule, e.user, e.account, e.since, e.until, e.found, e.limit, e.count, e.of),
        *(e.policy, e.terms, e.jobs, e.positions),
    )
