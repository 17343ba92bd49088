"""What `/v1` answers."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ledger.events import JobState, NodeState
from ledger.models.asked import DependencyIn


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(frozen=True)


class NotAcceptedOut(Answer):
    """A place in the request that did not become a job, and why."""

    item: int
    code: str
    sentence: str
    hint: str


class SubmittedOut(Answer):
    """The ids given: `first_job` up to `first_job + count - 1`, in the request's order.

    Where a request was decided item by item, `items` are the accepted places, one for each id.
    `repeated`: the key was known, and this is the answer of the first time.
    """

    first_job: int
    count: int
    items: list[int] | None = None
    not_accepted: list[NotAcceptedOut] = []
    repeated: bool = False
    position: int


class AttemptOut(Answer):
    """One try at a job; `ended_at` is null while it lasts. `cpu_s` is the processor time it used,
    as its leading node measured it. Details only for those who may."""

    attempt: int
    nodes: list[str]
    placed_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = ""
    cause: str = ""
    next: str = ""
    lost: list[str] = []
    held_s: float | None = None
    ran_s: float | None = None
    cpu_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    output_bytes: int | None = None
    machines: list[dict[str, str]] = []


class JobOut(Answer):
    """A job. `array` is `FIRST_INDEX` for an array's task. Details are null for others' jobs."""

    job: int
    array: str = ""
    user: str
    account: str
    pool: str
    nodes_wanted: int
    nodes: list[str] = []
    state: JobState
    reason: str = ""
    stopping: bool = False
    out_of_contact_since: datetime | None = None
    held_by: str = ""
    time_limit_s: int
    restartable: bool
    submitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempt: int = 0
    name: str | None = None
    exit_code: int | None = None
    cause: str = ""


class JobDetailOut(JobOut):
    """A job with all its attempts, and what its owner wrote. `incomplete` says why former attempts
    are missing, if they are: the job itself is told from the master's own state."""

    attempts: list[AttemptOut] = []
    features: list[str] = []
    exclude: list[str] = []
    depends: list[DependencyIn] = []
    begin_at: datetime | None = None
    argv: list[str] | None = None
    script: str | None = None
    workdir: str | None = None
    output_path: str | None = None
    comment: str | None = None
    submitted_from: str | None = None
    request: str | None = None
    incomplete: str = ""
    position: int = 0


class JobsOut(Answer):
    """A page of jobs; `next` is the cursor of the page after it, null on the last."""

    jobs: list[JobOut]
    next: str | None = None
    position: int


class DoneOut(Answer):
    """It is so now (or was already): the log's head when it was. `array` is `FIRST_INDEX` for an
    array's task, where the job was live."""

    job: int | None = None
    array: str = ""
    node: str | None = None
    state: str = ""
    changed: bool = True
    position: int


class EvidenceOut(Answer):
    """A piece of evidence."""

    what: str
    found: str


class WhyOut(Answer):
    """Why a job waits: token, sentence, evidence, what would change it, as of which position."""

    job: int
    state: str
    reason: str
    sentence: str
    evidence: list[EvidenceOut]
    advice: list[str]
    ahead: int
    ahead_jobs: list[int]
    ahead_node_s: int
    position: int
    policy: int
    at: datetime


class SaidOut(Answer):
    """Why a node takes no jobs: who said so, when, the cause and his own words."""

    at: datetime
    by: str
    cause: str
    reason: str


class NodeOut(Answer):
    """A node; `silent_since` is its last contact if it is out of contact. `said` is why it drains,
    the first reason first."""

    node: str
    state: NodeState
    pool: str
    jobs: list[int] = []
    features: list[str] = []
    since: datetime
    cause: str = ""
    reason: str = ""
    silent_since: datetime | None = None
    drain: bool = False
    said: list[SaidOut] = []
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    cpus: int = 0
    memory_bytes: int = 0
    image: str = ""
    kernel: str = ""
    packages_sha256: str = ""
    build: str = ""
    boot_id: str = ""


class NodesOut(Answer):
    """All nodes."""

    nodes: list[NodeOut]
    position: int


class TokenMadeOut(Answer):
    """A new token. `secret` is shown this once and stored nowhere."""

    token: str
    secret: str
    owner: str
    role: str
    expires_at: datetime | None


class TokenOut(Answer):
    """A token without its secret."""

    token: str
    owner: str
    role: str
    issued_at: datetime
    expires_at: datetime | None
    note: str


class TokensOut(Answer):
    """The tokens one may see."""

    tokens: list[TokenOut]


class PolicyOut(Answer):
    """The policy in force. `meanings` says in a sentence what each field means."""

    policy: int
    job_lease_s: int
    lease_margin_s: int
    lost_after_s: int
    kill_grace_s: int
    max_jobs_per_user: int
    max_time_limit_s: int
    output_head_bytes: int
    output_tail_bytes: int
    abuse_submissions_per_min: int
    abuse_fail_within_s: int
    abuse_fail_percent: int
    abuse_fail_jobs: int
    abuse_idle_node_s: int
    abuse_idle_percent: int
    meanings: dict[str, str] = {}
    outage_window_s: int
    absence_s: int
    notify: int
    notice_delay_s: int
    notice_jobs: int


class ImpactJobOut(Answer):
    """A job that an outage interrupted: what it lost, what became of it.

    Of a loss that is stated and not on record: `ended_there` is an attempt that ended then, other
    than completed; `ran_there` one that was on the node and outlasted it, or completed.
    """

    job: int
    attempt: int
    node: str
    struck_at: datetime
    restartable: bool
    lost_node_s: float
    effect: Literal[
        "requeued", "lost", "out_of_contact", "continued", "held", "ended_there", "ran_there"
    ]
    state: str


class ImpactUserOut(Answer):
    """One user whom an outage hit."""

    user: str
    account: str
    jobs: list[ImpactJobOut]
    lost_node_s: float
    requeued: int
    needs_owner: int


class AbsenceOut(Answer):
    """The master was away, or stood still, from `since` to `until`: an outage by this number."""

    outage: int
    since: datetime
    until: datetime


class ImpactOut(Answer):
    """Whom the loss of these nodes (none named: of any) in this window hit; null times: ever.

    `stated`: the loss was taken as stated, so whoever ran there then is among them. `never_used`:
    where nobody was hit, those of the nodes that no job ever ran on, perhaps because there are no
    such nodes. Where the master's own absences were asked for, these are the `absences`, and
    `waiting` is whose jobs only waited longer, and how many of them at once.
    """

    nodes: list[str]
    since: datetime | None
    until: datetime | None
    stated: bool = False
    users: list[ImpactUserOut]
    never_used: list[str] = []
    absences: list[AbsenceOut] = []
    waiting: dict[str, int] = {}
    position: int


class HeadOut(Answer):
    """The head of the log."""

    position: int
    commit: int
    hash: str
    at: datetime | None
    epoch: int
    incarnation: str


class UsedOut(Answer):
    """What was used in a period by those whom the grouping names; `day` is null without days.

    Seconds times nodes, or processors that were given (imported histories know them), of all
    attempts in that period; `wasted`: of the attempts among them that had come to nothing, by how
    they ended. `measured_cpu_seconds`: processor time really used, as far as agents measured it,
    whole in the period in which an attempt ended. `attempts` and `jobs` ended in it.
    """

    day: date | None
    user: str
    account: str
    pool: str
    jobs_ended: int
    attempts_ended: int
    node_seconds: float
    cpu_seconds: float
    measured_cpu_seconds: float
    wasted: dict[str, float]


class UsageOut(Answer):
    """Use between two moments. `zone` is where its days begin at midnight."""

    since: datetime | None
    until: datetime | None
    zone: str
    rows: list[UsedOut]
    position: int


class BackupsOut(Answer):
    """How old the newest verified backup of this log is (null: there is none), how often one is to
    be made (0: never by itself), and what is wrong with that, if anything."""

    age_s: float | None
    every_s: int
    warning: str = ""


class WhoOut(Answer):
    """Who you are to this service."""

    name: str
    role: str
    how: str


class Problem(Answer):
    """Any refusal (RFC 9457): `code` for programs, `detail` and `hint` for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str
    request: str
    details: dict[str, Any] = {}
