"""Everything that can be asked of the master: requests, imperative, each of which may be refused.

People's commands come through the API, agents' through `sync`, the rest from the master's own
clock and planner. A command carries no identity: who asks is the `Subject` beside it.
"""

from typing import Literal

import msgspec

from ledger.events import AbuseRule, Blob, Decision, JobSpec, Output, Why
from ledger.wire import EndKind


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A request."""


class Subject(msgspec.Struct, frozen=True):
    """Who asks: a name and a role, both from the credential alone. A node's name is the node's."""

    name: str
    role: Literal["user", "operator", "node", "join", "system"]


SYSTEM = Subject("system", "system")


class Submit(Command, frozen=True, kw_only=True):
    """Queue jobs: one for each of `specs`, or one for each index of `array` sharing one spec.

    A text in place of a spec says why that item could not be understood. `each`: accept what can
    be accepted item by item; otherwise all or nothing. `key` and `body_sha256` make a repeat
    recognisable.
    """

    specs: tuple[JobSpec | str, ...]
    array: str = ""
    key: str = ""
    body_sha256: str = ""
    each: bool = False


class JobCommand(Command, frozen=True, kw_only=True):
    """A request about one job."""

    job: int


class Cancel(JobCommand, frozen=True, kw_only=True):
    """End a pending job, or stop a running one."""

    note: Blob | None = None


class Hold(JobCommand, frozen=True, kw_only=True):
    """Keep a pending job from starting. An operator's hold is `admin`, an owner's `user`."""

    note: Blob | None = None


class Release(JobCommand, frozen=True, kw_only=True):
    """Lift a hold. Owners lift their own and the system's, operators any."""


class Requeue(JobCommand, frozen=True, kw_only=True):
    """Stop a running, restartable job and let it wait again."""

    note: Blob | None = None


class Change(JobCommand, frozen=True, kw_only=True):
    """Change a live job's request: may it be restarted; its time limit (while pending)."""

    restartable: bool | None = None
    time_limit_s: int | None = None
    note: Blob | None = None


class Place(JobCommand, frozen=True, kw_only=True):
    """The planner's proposal: start a job on these nodes."""

    nodes: tuple[str, ...]
    decision: Decision


class GiveUp(JobCommand, frozen=True, kw_only=True):
    """The clock says that a silent node's attempt may be given up."""

    attempt: int


class NodeCommand(Command, frozen=True, kw_only=True):
    """A request about one node."""

    node: str


class Enrol(NodeCommand, frozen=True, kw_only=True):
    """Let a machine join. `token_*` describe the node token that was made for it."""

    pool: str
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    features: tuple[str, ...] = ()
    cpus: int = 0
    memory_bytes: int = 0
    boot_id: str = ""
    token: str
    sha256: str


class Configure(NodeCommand, frozen=True, kw_only=True):
    """Say where a node stands and what kind it is; absent fields stay as they are."""

    pool: str | None = None
    serial: str | None = None
    rack: str | None = None
    switch: str | None = None
    power: str | None = None
    features: tuple[str, ...] | None = None


class Drain(NodeCommand, frozen=True, kw_only=True):
    """Give a node no new job; what runs there runs on."""

    reason: str = ""


class Resume(NodeCommand, frozen=True, kw_only=True):
    """Let a drained node take jobs again."""

    reason: str = ""


class Down(NodeCommand, frozen=True, kw_only=True):
    """Declare a node dead: what ran there is lost."""

    reason: str = ""


class Retire(NodeCommand, frozen=True, kw_only=True):
    """Take an empty node out of the cluster for good."""

    reason: str = ""


class Silence(NodeCommand, frozen=True, kw_only=True):
    """The clock says that a node has been silent for its lease, since `since`."""

    since: int


class Contact(NodeCommand, frozen=True, kw_only=True):
    """An agent spoke: what it is, and the attempts it has or has unacknowledged reports of.

    `cannot_record`: why its spool takes no records, "" if it does.
    """

    spool: str
    boot_id: str
    build: str
    protocol: int
    image: str = ""
    kernel: str = ""
    packages_sha256: str = ""
    has: frozenset[tuple[int, int]] = frozenset()
    reported: frozenset[tuple[int, int]] = frozenset()
    cannot_record: str = ""


class ReportStarted(NodeCommand, frozen=True, kw_only=True):
    """An agent says that an attempt's process runs."""

    job: int
    attempt: int
    boot_id: str = ""


class ReportEnded(NodeCommand, frozen=True, kw_only=True):
    """An agent says that an attempt is over on its node: no process, no scratch left."""

    job: int
    attempt: int
    end: EndKind
    cause: str
    exit_code: int | None = None
    signal: int | None = None
    ran_us: int = 0
    cpu_us: int | None = None
    output: Output | None = None
    detail: str = ""
    lost: tuple[str, ...] = ()


class IssueToken(Command, frozen=True, kw_only=True):
    """Record a token that was made; its digest, never itself. `expires_at` µs, 0: never."""

    token: str
    sha256: str
    owner: str
    role: Literal["user", "operator", "node", "join"]
    expires_at: int
    note: str = ""


class RevokeToken(Command, frozen=True, kw_only=True):
    """Refuse a token from now on."""

    token: str
    reason: str = ""


class SetPolicy(Command, frozen=True, kw_only=True):
    """Change the policy; absent fields stay as they are."""

    job_lease_s: int | None = None
    lease_margin_s: int | None = None
    lost_after_s: int | None = None
    kill_grace_s: int | None = None
    max_jobs_per_user: int | None = None
    max_time_limit_s: int | None = None
    output_head_bytes: int | None = None
    output_tail_bytes: int | None = None
    abuse_submissions_per_min: int | None = None
    abuse_fail_within_s: int | None = None
    abuse_fail_percent: int | None = None
    abuse_fail_jobs: int | None = None
    abuse_idle_node_s: int | None = None
    abuse_idle_percent: int | None = None
    outage_window_s: int | None = None
    absence_s: int | None = None
    notify: int | None = None
    notice_delay_s: int | None = None
    notice_jobs: int | None = None


class OpenOutage(Command, frozen=True, kw_only=True):
    """Say that something failed, on `nodes` or (none) everywhere, from `since` until `until`, 0 if
    it has not ended; or, `planned`, that it is to be down then."""

    nodes: tuple[str, ...] = ()
    since: int
    until: int = 0
    reason: str
    planned: bool = False


class FindCause(Command, frozen=True, kw_only=True):
    """Say why an outage was, in a person's words."""

    outage: int
    cause: str


class CloseOutage(Command, frozen=True, kw_only=True):
    """Say that an outage is over since `until`, 0: since now; `reason`: what came of it."""

    outage: int
    until: int = 0
    reason: str


class TendOutages(Command, frozen=True, kw_only=True):
    """Close the outages that are over."""


class NoteAbsence(Command, frozen=True, kw_only=True):
    """The clock says that this master, though it reigned, has done nothing since `since`."""

    since: int


class Tell(Command, frozen=True, kw_only=True):
    """Let these users, whom an outage had hit by position `as_of`, have their notices; desks and
    those who are told more of what they were told are known. `more`: further users follow.
    `pool`: the one that fails."""

    outage: int
    why: Why
    users: tuple[str, ...] = ()
    as_of: int = 0
    more: bool = False
    pool: str = ""


class SetContact(Command, frozen=True, kw_only=True):
    """Say how a user or a support `desk` is told: the schemes, and the addresses as a text."""

    owner: str
    desk: bool = False
    channels: tuple[str, ...] = ()
    addresses: Blob | None = None


class RecordSent(Command, frozen=True, kw_only=True):
    """Record that a notice has gone out over these channels."""

    notice: int
    channels: tuple[str, ...]
    tries: int


class RecordFailed(Command, frozen=True, kw_only=True):
    """Record that a notice could not be sent; it is tried again at `next_at`, 0: given up."""

    notice: int
    error: str
    tries: int
    next_at: int


class StartMaster(Command, frozen=True, kw_only=True):
    """Begin a reign: the first command of every master process. `away_us`: how long no master was
    seen to reign; None: not since the last commit, as far as is known."""

    incarnation: str
    build: str
    durability: Literal["full", "off"]
    accept_clock: bool = False
    recovered: dict[str, int]
    away_us: int | None = None


class StopMaster(Command, frozen=True, kw_only=True):
    """End a reign in order."""

    reason: str = ""


class SkipProjection(Command, frozen=True, kw_only=True):
    """Let a projection leave out one event, for ever."""

    projection: str
    position: int
    reason: str


class NoteAbuse(Command, frozen=True, kw_only=True):
    """The clock says that a user who has broken a rule of use is to be put on record."""

    user: str
    rule: AbuseRule


class AnswerAbuse(Command, frozen=True, kw_only=True):
    """Say that a finding has been looked at, and what there is to say to it."""

    finding: int
    note: Blob | None = None


class RecordRefused(Command, frozen=True, kw_only=True):
    """Record one minute's refused demand of one user, pool and code."""

    minute: int
    user: str
    account: str
    pool: str
    code: str
    requests: int
    jobs: int
    node_seconds: int
