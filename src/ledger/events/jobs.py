"""What can happen to jobs and to their attempts."""

import msgspec

from ledger.events.base import (
    DependencyKind,
    Event,
    HoldKind,
    How,
    JobState,
    Next,
    Outcome,
    Part,
    event,
)


class Blob(Part, frozen=True, kw_only=True):
    """Bytes kept beside the log: what users wrote, which may be erased without breaking it."""

    sha256: str
    bytes: int


class Dependency(Part, frozen=True, kw_only=True):
    """Wait for the end of another job: any end, a completed one, or one that did not complete."""

    kind: DependencyKind
    job: int


class JobSpec(Part, frozen=True, kw_only=True):
    """What a user asked for. `text` holds arguments, comment and working directory as JSON.

    `features`: all of them on every node. `exclude`: never on these nodes. `held`: wait for a
    release. `begin_at`: not before (0: at once). `env_names` are names only: values are never kept.
    """

    name: str = ""
    account: str = ""
    pool: str = "default"
    qos: str = ""
    nodes: int = 1
    time_limit_s: int = 3600
    restartable: bool = False
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    depends: tuple[Dependency, ...] = ()
    begin_at: int = 0
    held: bool = False
    script: Blob | None = None
    text: Blob | None = None
    env_names: tuple[str, ...] = ()


@event("job.submitted.v1", "person")
class JobsSubmitted(Event, frozen=True, kw_only=True):
    """One or many jobs of one user entered the queue with the ids `first_job`, `first_job`+1, …

    Either `specs` has one element per job, or `array` (such as `0-9:3,12`) lists the task indices
    that share the only element. `items` are the accepted places of a request decided item by item
    (absent: all of them). `key` and `body_sha256` make a repeated request recognisable; `part` of
    `parts` counts the events of one request that was too large for one event. `array_job` is there
    in imported histories: the number of the array that this task belongs to, where the tasks'
    numbers do not follow one another.
    """

    first_job: int
    count: int
    user: str
    specs: tuple[JobSpec, ...]
    array: str = ""
    items: tuple[int, ...] | None = None
    key: str = ""
    body_sha256: str = ""
    part: int = 1
    parts: int = 1
    array_job: int = 0

    @property
    def stream(self) -> str:
        return f"job-{self.first_job}"


class JobEvent(Event, frozen=True, kw_only=True):
    """What every event about one job repeats."""

    job: int
    user: str
    account: str
    pool: str

    @property
    def stream(self) -> str:
        return f"job-{self.job}"


@event("job.held.v1", "person")
class JobHeld(JobEvent, frozen=True, kw_only=True):
    """A pending job may not start until it is released. `note` is the holder's own words."""

    kind: HoldKind
    note: Blob | None = None


@event("job.released.v1", "person")
class JobReleased(JobEvent, frozen=True, kw_only=True):
    """A hold was lifted."""

    kind: HoldKind


@event("job.changed.v1", "person")
class JobChanged(JobEvent, frozen=True, kw_only=True):
    """The request of a live job was changed; absent fields stay as they were."""

    restartable: bool | None = None
    time_limit_s: int | None = None
    note: Blob | None = None


@event("job.cancel_requested.v1", "person")
class JobCancelRequested(JobEvent, frozen=True, kw_only=True):
    """A running job was told to stop; its AttemptEnded follows when its nodes have obeyed."""

    attempt: int
    note: Blob | None = None


@event("job.requeued.v1", "person")
class JobRequeued(JobEvent, frozen=True, kw_only=True):
    """A person asked that a running, restartable job stop and wait again; AttemptEnded follows."""

    attempt: int
    note: Blob | None = None


@event("job.ended.v1", "person")
class JobEnded(JobEvent, frozen=True, kw_only=True):
    """A job ended while it was pending."""

    state: JobState
    cause: str
    submitted_at: int
    note: Blob | None = None


class Machine(Part, frozen=True, kw_only=True):
    """A node as it was known when an attempt was placed on it."""

    serial: str = ""
    rack: str = ""
    image: str = ""
    kernel: str = ""
    build: str = ""


class Passed(Part, frozen=True, kw_only=True):
    """Jobs of higher rank that a placement went past: all counted, at most 20 named."""

    count: int = 0
    jobs: tuple[int, ...] = ()


class Decision(Part, frozen=True, kw_only=True):
    """Why now, why there: the view (a position) and the numbers the planner decided from."""

    view: int
    now: int
    rules: int
    policy: int
    rank: int
    of: int
    how: How
    factors: dict[str, int] = msgspec.field(default_factory=dict)
    passed: Passed = Passed()


class AttemptEvent(JobEvent, frozen=True, kw_only=True):
    """What every event about an attempt repeats. `nodes` are ordered: the first one leads."""

    attempt: int
    nodes: tuple[str, ...]
    placed_at: int


@event("attempt.placed.v1", "planner")
class AttemptPlaced(AttemptEvent, frozen=True, kw_only=True):
    """Nodes were chosen for a job. Durable before any agent hears of it.

    In imported histories: `cpus` are those that it was given, `node_count` is how many nodes it had
    where their names are not known.
    """

    time_limit_s: int
    restartable: bool
    decision: Decision
    machines: tuple[Machine, ...] = ()
    cpus: int | None = None
    node_count: int | None = None


@event("attempt.started.v1", "agent")
class AttemptStarted(AttemptEvent, frozen=True, kw_only=True):
    """The job's process runs. `boot_id` is that of the leading node."""

    started_at: int
    boot_id: str = ""


class Output(Part, frozen=True, kw_only=True):
    """What the output store keeps of an attempt: size as written, bytes kept, digest of these."""

    bytes: int = 0
    kept: int = 0
    sha256: str = ""


@event("attempt.ended.v1", "agent")
class AttemptEnded(AttemptEvent, frozen=True, kw_only=True):
    """An attempt is over; `next` says what becomes of its job, so no second event is needed.

    `held_us`: placed to ended on the log's clock. `ran_us`: as the agent measured it, at most
    `held_us`. `started_at` is 0 if it never started. `state` is the job's new state (`pending`
    unless `next` is `final`). `lost` are the nodes whose loss ended it. `cause` is a word of
    `docs/reference/causes.md`. `cpu_us`: processor time that its processes used on the leading
    node, as the agent measured it, at most `held_us` times that node's processors; absent if nobody
    did. `cpus` (given, not used) and `node_count` as in AttemptPlaced. `outage` is the number of
    the outage that ended it, 0 for none.
    """

    started_at: int
    ran_us: int
    held_us: int
    outcome: Outcome
    cause: str
    next: Next
    state: JobState
    exit_code: int | None = None
    signal: int | None = None
    lost: tuple[str, ...] = ()
    output: Output | None = None
    detail: str = ""
    cpus: int | None = None
    node_count: int | None = None
    cpu_us: int | None = None
    outage: int = 0


@event("attempt.stale_reported.v1", "agent")
class StaleReported(Event, frozen=True, kw_only=True):
    """An agent reported on an attempt that is not (or no longer) its own; nothing changed."""

    job: int
    attempt: int
    node: str
    report: str
    cause: str = ""
    exit_code: int | None = None
    ran_us: int = 0

    @property
    def stream(self) -> str:
        return f"job-{self.job}"
