"""Who breaks the rules of use: counted as events come, recorded when the clock asks, noticed once.

Three rules, each of one user, by the log's clock. More than so many submissions in a minute. Of
those of his attempts that ended within an hour, if they are many, so large a share that failed at
once. So much node time held within half a day by attempts that used hardly any processor time. An
hour is a minute of the clock and the 59 before it, half a day is an hour of the clock and the 11
before it, so that what is kept of a user has a bound.

Who has broken a rule is not noticed again before nothing of it has counted any more for an hour.
"""

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from ledger.commands import AnswerAbuse, NoteAbuse
from ledger.domain.errors import UnknownFinding
from ledger.domain.permissions import demand
from ledger.domain.state import Ask, Cluster, Outcome, Policy
from ledger.domain.watch import EVIDENCE, Tallies, Tally, Trace, near_from
from ledger.events import (
    AbuseAnswered,
    AbuseFound,
    AbuseRule,
    AttemptEnded,
    JobsSubmitted,
    Recorded,
)

SECOND = 1_000_000
MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND
QUIET = HOUR
"""So long nothing may have counted before a user is noticed again."""

FAILURES = ("failed", "out_of_memory")
NOT_THE_USERS = ("no_such_account",)
"""Outcomes of an attempt that are failures, and causes of them that are none of its user."""

FINDINGS_APART = 1_000
"""A restored log leaves out at least so many numbers of findings."""

BEYOND = -(1 << 62)
"""What a user's submissions are set to when there are too many: nobody comes back from there."""


class Sliding(msgspec.Struct, frozen=True):
    """A window that slides: the present span of the clock, and those before it."""

    span_us: int
    spans: int

    def window(self, span: int) -> tuple[int, int]:
        """From when on events count in a span, µs, and until when those of this span do."""
        return (span - self.spans + 1) * self.span_us, (span + self.spans) * self.span_us


FAILING, IDLE = Sliding(MINUTE, 60), Sliding(HOUR, 12)

TERMS: dict[AbuseRule, tuple[str, ...]] = {
    "submissions": ("abuse_submissions_per_min",),
    "failing": ("abuse_fail_percent", "abuse_fail_jobs", "abuse_fail_within_s"),
    "idle": ("abuse_idle_node_s", "abuse_idle_percent"),
}
"""The fields of the policy that define each rule, its limit first. A rule with a 0 is off."""


def terms(policy: Policy, rule: AbuseRule) -> dict[str, int]:
    """What defines a rule under a policy; empty if it is switched off."""
    found = {name: getattr(policy, name) for name in TERMS[rule]}
    return found if all(found.values()) else {}


# ── decide ───────────────────────────────────────────────────────────────────────────────────────


def decide_note(c: Cluster, ask: Ask, cmd: NoteAbuse) -> Outcome:
    """Put on record that a user has broken a rule; empty if that is on record."""
    due = c.watch.due.get((cmd.user, cmd.rule))
    return Outcome([] if due is None else [replace(due, finding=c.watch.findings + 1)])


def decide_answer(c: Cluster, ask: Ask, cmd: AnswerAbuse) -> Outcome:
    """An operator has looked at a finding; he may say more to it later."""
    demand(ask.subject, "abuse.answer")
    if not 1 <= cmd.finding <= c.watch.findings:
        raise UnknownFinding(f"There is no finding {cmd.finding}.")
    return Outcome([AbuseAnswered(finding=cmd.finding, note=cmd.note)])


# ── evolve ───────────────────────────────────────────────────────────────────────────────────────


class Broken(NamedTuple):
    """A rule is broken: what was found and what may be, how many events make it up and of how many,
    from when on they count, and until when. Only those of `traces` that count are evidence."""

    found: int
    limit: int
    counted: int
    of: int
    since: int
    counts_until: int
    traces: list[Trace]


def evolve_found(c: Cluster, r: Recorded, e: AbuseFound) -> None:
    """It is on record."""
    c.watch.due.pop((e.user, e.rule), None)
    c.watch.findings = max(c.watch.findings, e.finding)


def evolve_restored(c: Cluster) -> None:
    """The log is a copy that may lack findings which people were told of: no number comes twice."""
    apart = FINDINGS_APART
    c.watch.findings = (c.watch.findings // apart + 2) * apart


def new_policy(c: Cluster, policy: Policy) -> None:
    """The policy will be this. Of a rule that is another now, nothing has counted so far."""
    w = c.watch
    changed = {rule for rule in TERMS if terms(policy, rule) != terms(c.policy, rule)}
    if "submissions" in changed:
        w.requests.clear()
        w.near.clear()
        w.near_from = near_from(policy.abuse_submissions_per_min)
    if "failing" in changed:
        w.failing = Tallies()
    if "idle" in changed:
        w.idle = Tallies()


def count_submission(c: Cluster, r: Recorded, e: JobsSubmitted) -> None:
    """One more of this minute."""
    w = c.watch
    if r.at >= w.minute_ends:
        w.minute_ends = (r.at // MINUTE + 1) * MINUTE
        w.requests.clear()
        w.near.clear()
    n = w.requests[e.user] = w.requests.get(e.user, 0) + 1
    if n > w.near_from:
        _near_the_limit(c, r, e, n)


def _near_the_limit(c: Cluster, r: Recorded, e: JobsSubmitted, n: int) -> None:
    """A submission that may be evidence; the first one too many breaks the rule."""
    w, limit = c.watch, c.policy.abuse_submissions_per_min
    accounts = {spec.account for spec in e.specs}
    account = accounts.pop() if len(accounts) == 1 else ""
    traces = w.near.setdefault(e.user, [])
    traces.append(Trace(r.at, r.position, e.first_job, account))
    if n > limit:
        w.requests[e.user] = BEYOND  # nothing is left to look at until the minute is over
        since, until = w.minute_ends - MINUTE, w.minute_ends
        _broken(c, r, e.user, "submissions", Broken(n, limit, n, n, since, until, traces))


def count_end(c: Cluster, r: Recorded, e: AttemptEnded) -> None:
    """One more attempt that has ended; it may have failed at once, or had its nodes idle."""
    tally = c.watch.failing.users.get(e.user)
    if tally is None or r.at >= tally.ends_at:
        tally = _slid(c.watch.failing, FAILING, e.user, tally, r.at)
    tally.of += 1
    if e.outcome in FAILURES:
        _count_failure(c.policy, r, e, tally)
    if tally.amount:
        _judge_failing(c, r, e, tally)
    if e.cpu_us is not None and e.cpu_us * 100 < c.policy.abuse_idle_percent * e.ran_us:
        _count_idle(c, r, e)


def _slid(tallies: Tallies, sliding: Sliding, user: str, tally: Tally | None, at: int) -> Tally:
    """What counts of a user in a span that has begun. Once in a window's time all those of whom
    nothing counts are forgotten."""
    span = at // sliding.span_us
    ends_at, oldest = (span + 1) * sliding.span_us, span - sliding.spans + 1
    if tally is None:
        tally = tallies.users[user] = Tally(span, ends_at)
    else:
        tally.slide(span, ends_at, oldest)
    if tallies.since < oldest:
        tallies.since = span
        tallies.users = {u: t for u, t in tallies.users.items() if t.span >= oldest}
    return tally


def _trace(r: Recorded, e: AttemptEnded, tally: Tally, amount: int) -> None:
    tally.amount += amount
    tally.traces.append(Trace(r.at, r.position, e.job, e.account))
    del tally.traces[:-EVIDENCE]


def _count_failure(p: Policy, r: Recorded, e: AttemptEnded, tally: Tally) -> None:
    if e.ran_us < p.abuse_fail_within_s * SECOND and e.cause not in NOT_THE_USERS:
        _trace(r, e, tally, 1)


def _judge_failing(c: Cluster, r: Recorded, e: AttemptEnded, tally: Tally) -> None:
    percent, of = c.policy.abuse_fail_percent, tally.of - tally.gone_of
    failed = tally.amount - tally.gone_amount
    if 0 < c.policy.abuse_fail_jobs <= of and 0 < percent * of <= failed * 100:
        share = failed * 100 // of
        window = FAILING.window(tally.span)
        broken = Broken(share, percent, failed, of, *window, tally.traces)
        _broken(c, r, e.user, "failing", broken)


def _count_idle(c: Cluster, r: Recorded, e: AttemptEnded) -> None:
    tally = c.watch.idle.users.get(e.user)
    if tally is None or r.at >= tally.ends_at:
        tally = _slid(c.watch.idle, IDLE, e.user, tally, r.at)
    nodes = len(e.nodes) if e.node_count is None else e.node_count
    tally.of += 1
    _trace(r, e, tally, e.ran_us * nodes)
    of, held_us = tally.of - tally.gone_of, tally.amount - tally.gone_amount
    limit, held = c.policy.abuse_idle_node_s, held_us // SECOND
    if 0 < limit < held:
        window = IDLE.window(tally.span)
        broken = Broken(held, limit, of, of, *window, tally.traces)
        _broken(c, r, e.user, "idle", broken)


def _broken(c: Cluster, r: Recorded, user: str, rule: AbuseRule, b: Broken) -> None:
    """A rule is broken now; it is to be noticed unless that is a part of what was noticed."""
    w, key = c.watch, (user, rule)
    again = r.at >= w.bursts.get(key, -QUIET) + QUIET
    w.bursts[key] = b.counts_until
    if not again or key in w.due:
        return
    w.bursts = {who: until for who, until in w.bursts.items() if r.at < until + QUIET}
    traces = [trace for trace in b.traces if trace.at >= b.since][-EVIDENCE:]
    accounts = {trace.account for trace in traces}
    w.due[key] = AbuseFound(
        finding=0,
        rule=rule,
        user=user,
        account=accounts.pop() if len(accounts) == 1 else "",
        since=b.since,
        until=r.at,
        found=b.found,
        limit=b.limit,
        count=b.counted,
        of=b.of,
        policy=c.policy.number,
        terms=terms(c.policy, rule),
        jobs=tuple(trace.job for trace in traces),
        positions=tuple(trace.position for trace in traces),
    )
