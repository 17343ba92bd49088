"""What can happen to identities, to the policy, and to the service itself."""

from typing import Literal

import msgspec

from ledger.events.base import Event, event


@event("identity.token_issued.v1", "person")
class TokenIssued(Event, frozen=True, kw_only=True):
    """A token was handed out. The log knows its digest, never the token. `expires_at` 0: never.

    `role` is `user`, `operator`, `node` (bound to the node `owner`) or `join` (may enrol once).
    """

    token: str
    sha256: str
    owner: str
    role: Literal["user", "operator", "node", "join"]
    expires_at: int
    note: str = ""

    @property
    def stream(self) -> str:
        return "identity"


@event("identity.token_revoked.v1", "person")
class TokenRevoked(Event, frozen=True, kw_only=True):
    """A token is refused from here on; `token` is its public id."""

    token: str
    reason: str = ""

    @property
    def stream(self) -> str:
        return "identity"


@event("policy.set.v1", "person")
class PolicySet(Event, frozen=True, kw_only=True):
    """The policy is now this, whole. `policy` counts the policies of this log: 1, 2, 3 …

    `job_lease_s`: an agent out of contact this long stops its restartable attempts.
    `lease_margin_s`: the master waits this much longer before it places them again.
    `lost_after_s`: out of contact this long, an attempt that may not be restarted is given up.
    `kill_grace_s`: between TERM and KILL. `max_jobs_per_user`: live jobs of one user at a time.
    `max_time_limit_s`: the longest limit a job may ask for. `output_head_bytes` and
    `output_tail_bytes`: how much of an attempt's output is kept. `outage_window_s`: nodes of one
    rack, switch or power feed that are lost within it of one another are one outage. `absence_s`:
    a master that was away for longer is one. `notify`: 1 if people are told of outages, 0 if not;
    `notice_delay_s` after an outage has last grown, with `notice_jobs` jobs named in one notice.

    The rules of use, each switched off by 0. `abuse_submissions_per_min`: of one user in a minute.
    `abuse_fail_percent` of a user's attempts, at least `abuse_fail_jobs` within an hour, failed in
    less than `abuse_fail_within_s`. `abuse_idle_node_s` of node time held within half a day by
    attempts that used less than `abuse_idle_percent` of one processor.
    """

    policy: int
    job_lease_s: int
    lease_margin_s: int
    lost_after_s: int
    kill_grace_s: int
    max_jobs_per_user: int
    max_time_limit_s: int
    output_head_bytes: int
    output_tail_bytes: int
    abuse_submissions_per_min: int = 600
    abuse_fail_within_s: int = 10
    abuse_fail_percent: int = 80
    abuse_fail_jobs: int = 50
    abuse_idle_node_s: int = 14_400
    abuse_idle_percent: int = 5
    outage_window_s: int = 60
    absence_s: int = 60
    notify: int = 1
    notice_delay_s: int = 60
    notice_jobs: int = 20

    @property
    def stream(self) -> str:
        return "policy"


@event("master.started.v1", "master")
class MasterStarted(Event, frozen=True, kw_only=True):
    """A master began to reign; the epoch of this commit's header is its number.

    `recovered` is its recovery report: what was replayed, and what it found (counts, µs).
    """

    incarnation: str
    build: str
    rules: int
    durability: Literal["full", "off"]
    accept_clock: bool = False
    recovered: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def stream(self) -> str:
        return "master"


@event("master.stopped.v1", "master")
class MasterStopped(Event, frozen=True, kw_only=True):
    """A master ended its reign in order."""

    reason: str = ""

    @property
    def stream(self) -> str:
        return "master"


@event("log.restored.v1", "master")
class LogRestored(Event, frozen=True, kw_only=True):
    """This log was restored or imported: a new incarnation goes on from position `after`.

    New jobs are counted from `first_job` on, so that none gets the number of a job that the log
    had behind `after` before it was lost.
    """

    incarnation: str
    after: int
    origin_incarnation: str = ""
    first_job: int = 0

    @property
    def stream(self) -> str:
        return "master"


@event("projection.skipped.v1", "person")
class ProjectionSkipped(Event, frozen=True, kw_only=True):
    """A projection leaves out the event at `position`, in rebuilds too."""

    projection: str
    position: int
    reason: str

    @property
    def stream(self) -> str:
        return "master"


@event("demand.refused.v1", "clock")
class DemandRefused(Event, frozen=True, kw_only=True):
    """Well-formed demand that a limit or the cluster's size refused, folded by minute."""

    minute: int
    user: str
    account: str
    pool: str
    code: str
    requests: int
    jobs: int
    node_seconds: int

    @property
    def stream(self) -> str:
        return "master"
