"""Identities, the policy, and the reign of a master: small facts, decided and folded here."""

from ledger.commands import (
    IssueToken,
    RecordRefused,
    RevokeToken,
    SetPolicy,
    SkipProjection,
    StartMaster,
    StopMaster,
)
from ledger.domain import abuse
from ledger.domain.errors import Forbidden, Malformed, UnknownToken
from ledger.domain.notices import hush, stale
from ledger.domain.outage import absence, short_us
from ledger.domain.permissions import demand
from ledger.domain.state import RULES, Ask, Cluster, Outcome, Policy, Token
from ledger.events import (
    AbuseAnswered,
    DemandRefused,
    Event,
    JobHeld,
    LogRestored,
    MasterStarted,
    MasterStopped,
    PolicySet,
    ProjectionSkipped,
    Recorded,
    TokenIssued,
    TokenRevoked,
)

POLICY_FIELDS = (
    "job_lease_s",
    "lease_margin_s",
    "lost_after_s",
    "kill_grace_s",
    "max_jobs_per_user",
    "max_time_limit_s",
    "output_head_bytes",
    "output_tail_bytes",
    "abuse_submissions_per_min",
    "abuse_fail_within_s",
    "abuse_fail_percent",
    "abuse_fail_jobs",
    "abuse_idle_node_s",
    "abuse_idle_percent",
    "outage_window_s",
    "absence_s",
    "notify",
    "notice_delay_s",
    "notice_jobs",
)

JOBS_APART = 100_000
OUTAGES_APART = 1_000
"""A restored log leaves out at least so many numbers of jobs, and of outages and notices, and
begins at a multiple of it."""

POLICY_BOUNDS = {
    "job_lease_s": (2, 86_400),
    "lease_margin_s": (1, 86_400),
    "lost_after_s": (1, 366 * 86_400),
    "kill_grace_s": (0, 3_600),
    "max_jobs_per_user": (0, 10_000_000),
    "max_time_limit_s": (1, 10 * 366 * 86_400),
    "output_head_bytes": (0, 1 << 30),
    "output_tail_bytes": (0, 1 << 30),
    "abuse_submissions_per_min": (0, 1_000_000),
    "abuse_fail_within_s": (0, 3_600),
    "abuse_fail_percent": (0, 100),
    "abuse_fail_jobs": (0, 1_000_000),
    "abuse_idle_node_s": (0, 10**9),
    "abuse_idle_percent": (0, 100),
    "outage_window_s": (0, 86_400),
    "absence_s": (1, 86_400),
    "notify": (0, 1),
    "notice_delay_s": (0, 86_400),
    "notice_jobs": (1, 1_000),
}
"""The least and the greatest value of each field."""


def decide_issue(c: Cluster, ask: Ask, cmd: IssueToken) -> Outcome:
    """Record a token. A user gets tokens for himself, with no more than a user's role."""
    demand(ask.subject, "token.issue", cmd.owner)
    if ask.subject.role == "user" and cmd.role != "user":
        raise Forbidden(f"{ask.subject.name} may issue tokens with the role user only.")
    issued = TokenIssued(
        token=cmd.token,
        sha256=cmd.sha256,
        owner=cmd.owner,
        role=cmd.role,
        expires_at=cmd.expires_at,
        note=cmd.note,
    )
    return Outcome([issued])


def decide_revoke(c: Cluster, ask: Ask, cmd: RevokeToken) -> Outcome:
    """Refuse a token from now on."""
    found = next((t for t in c.tokens.values() if t.id == cmd.token), None)
    if found is None:
        raise UnknownToken(f"There is no token {cmd.token}.")
    persons = found.role in ("user", "operator")  # a node's token is not its namesake's
    demand(ask.subject, "token.revoke", found.owner if persons else "")
    return Outcome([TokenRevoked(token=cmd.token, reason=cmd.reason)])


def decide_policy(c: Cluster, ask: Ask, cmd: SetPolicy) -> Outcome:
    """The policy as it was, with the given fields changed."""
    demand(ask.subject, "policy.set")
    values = {}
    for name in POLICY_FIELDS:
        asked = getattr(cmd, name)
        value = getattr(c.policy, name) if asked is None else asked
        low, high = POLICY_BOUNDS[name]
        if not low <= value <= high:
            raise Malformed(f"{name} must be {low} to {high}; {value} was asked for.")
        values[name] = value
    if c.policy.number and all(getattr(c.policy, n) == v for n, v in values.items()):
        return Outcome([])
    return Outcome([PolicySet(policy=c.policy.number + 1, **values)])


def decide_start(c: Cluster, ask: Ask, cmd: StartMaster) -> Outcome:
    """A reign begins; a log that was restored or imported says so first. Time since the last one is
    an outage; of a copy, all time since it was made."""
    restored: list[Event] = []
    away: list[Event] = []
    away_us = ask.at - c.at if cmd.away_us is None else cmd.away_us
    if c.incarnation and c.incarnation != cmd.incarnation:
        restored = _restored(c, cmd.incarnation, ask.at)
        number = further(c.next_outage, OUTAGES_APART)
        away = absence(c, c.at, ask.at, "restored", number)
    elif c.at and away_us > short_us(c.policy):
        away = absence(c, max(c.at, ask.at - away_us), ask.at, "absent", c.next_outage)
    started = MasterStarted(
        incarnation=cmd.incarnation,
        build=cmd.build,
        rules=RULES,
        durability=cmd.durability,
        accept_clock=cmd.accept_clock,
        recovered=cmd.recovered,
    )
    return Outcome([*restored, started, *away])


def further(number: int, apart: int) -> int:
    """What a restored log counts on from."""
    return (number // apart + 2) * apart


def _restored(c: Cluster, incarnation: str, at: int) -> list[Event]:
    """What a copy of a log begins with. The log may have gone on behind its end: what waits here
    may have run by then, so every live job is held until an operator has looked."""
    return [
        LogRestored(
            incarnation=incarnation,
            after=c.position,
            origin_incarnation=c.incarnation,
            first_job=further(c.next_job, JOBS_APART),
        ),
        *(
            JobHeld(
                job=job.id,
                user=job.user,
                account=job.spec.account,
                pool=job.spec.pool,
                kind="admin",
            )
            for job in c.jobs.values()
            if job.hold != "admin"
        ),
        *stale(c, at),
    ]


def decide_stop(c: Cluster, ask: Ask, cmd: StopMaster) -> Outcome:
    """A reign ends in order."""
    return Outcome([MasterStopped(reason=cmd.reason)])


def decide_skip(c: Cluster, ask: Ask, cmd: SkipProjection) -> Outcome:
    """A projection is to leave out one event."""
    demand(ask.subject, "projection.skip")
    skipped = ProjectionSkipped(projection=cmd.projection, position=cmd.position, reason=cmd.reason)
    return Outcome([skipped])


def decide_refused(c: Cluster, ask: Ask, cmd: RecordRefused) -> Outcome:
    """Record refused demand."""
    refused = DemandRefused(
        minute=cmd.minute,
        user=cmd.user,
        account=cmd.account,
        pool=cmd.pool,
        code=cmd.code,
        requests=cmd.requests,
        jobs=cmd.jobs,
        node_seconds=cmd.node_seconds,
    )
    return Outcome([refused])


def evolve_issued(c: Cluster, r: Recorded, e: TokenIssued) -> None:
    """The token is good."""
    c.tokens[e.sha256] = Token(e.token, e.owner, e.role, e.expires_at, r.at, e.note)


def evolve_revoked(c: Cluster, r: Recorded, e: TokenRevoked) -> None:
    """The token is refused."""
    for digest in [d for d, token in c.tokens.items() if token.id == e.token]:
        del c.tokens[digest]


def evolve_policy(c: Cluster, r: Recorded, e: PolicySet) -> None:
    """The policy is this, whole. An agent that can't be told of a shorter lease goes on under the
    longer one; where no node is enrolled, no agent has been told of any."""
    if c.nodes and e.job_lease_s < c.policy.job_lease_s:
        c.lease_until = max(c.lease_until, r.at + c.policy.job_lease_s * 1_000_000)
    policy = Policy(e.policy, **{name: getattr(e, name) for name in POLICY_FIELDS})
    abuse.new_policy(c, policy)
    hushed, c.policy = not c.policy.notify, policy
    if hushed and e.notify:
        hush(c, r)


def evolve_started(c: Cluster, r: Recorded, e: MasterStarted) -> None:
    """A master reigns."""
    _keep_leases(c, r)
    c.started_at, c.clean_stop, c.incarnation = r.at, False, e.incarnation


def _keep_leases(c: Cluster, r: Recorded) -> None:
    """The log's clock may have been put forward since the last commit, by as much as an operator
    believes; agents count their leases by clocks of their own, and nobody could hear them."""
    if c.at:
        c.absent_us += r.at - c.at
    if c.lease_until > c.at:
        c.lease_until = r.at + (c.lease_until - c.at)


def evolve_stopped(c: Cluster, r: Recorded, e: MasterStopped) -> None:
    """The master went in order."""
    c.clean_stop = True


def evolve_restored(c: Cluster, r: Recorded, e: LogRestored) -> None:
    """The log is another copy now, and counts its jobs from further on."""
    _keep_leases(c, r)
    c.incarnation = e.incarnation
    c.next_job = max(c.next_job, e.first_job)
    abuse.evolve_restored(c)
    c.next_outage = further(c.next_outage, OUTAGES_APART)
    c.next_notice = further(c.next_notice, OUTAGES_APART)


def evolve_nothing(
    c: Cluster, r: Recorded, e: ProjectionSkipped | DemandRefused | AbuseAnswered
) -> None:
    """A fact for projections; the master decides nothing from it."""
