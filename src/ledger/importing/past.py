"""A cluster's past as events: what each job was, when it ran and where, in the order of time."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypedDict

from ledger import __version__
from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    AttemptStarted,
    Decision,
    Envelope,
    Event,
    Fact,
    JobEnded,
    JobSpec,
    JobsSubmitted,
    JobState,
    MasterStarted,
    NodeEnrolled,
    NodeStateChanged,
    Outcome,
)
from ledger.store.chain import Head
from ledger.store.log import Draft, Log

EPOCH = 1
RULES = 0
"""No rules of ours placed these jobs."""

MAX_EVENTS = 4_000
"""Of one commit."""

AT_ONCE = 20_000
"""Events of one transaction, as near as whole commits allow."""

UNRUN = {"deadline": "deadline", "node_fail": "node_lost"}
"""Why a job ended that never ran, where it was not cancelled."""

NODE_LOSS: Outcome = "node_fail"
_ENVELOPE = Envelope(by="import")
Progress = Callable[[int, int], None]


class Try(NamedTuple):
    """An attempt: times are µs, `end` None while it still ran. `again`: the job waited once more.

    `node_count` is the number of its nodes, whose names need not be known.
    """

    start: int
    end: int | None
    nodes: tuple[str, ...]
    node_count: int
    cpus: int | None
    outcome: Outcome = "completed"
    cause: str = "unknown"
    exit_code: int | None = None
    signal: int | None = None
    again: bool = False


class Past(NamedTuple):
    """A job. `ended_at` (µs) is when it ended without having run, None if it ran or waits.

    `array` is the job that its task index `task` belongs to; 0 for none.
    """

    job: int
    user: str
    account: str
    pool: str
    qos: str
    name: str
    submitted_at: int
    nodes: int
    time_limit_s: int
    tries: tuple[Try, ...] = ()
    ended_at: int | None = None
    state: JobState = "cancelled"
    array: int = 0
    task: int = -1


class _Step(NamedTuple):
    """What happens at a moment. At one time, what ended makes room first, then jobs come, then they
    start; a try that took no time has its end with its start."""

    at: int
    rank: int
    job: int
    n: int
    past: Past


ENDS, COMES, BEGINS, LEAVES = range(4)


def write(log: Log, jobs: Sequence[Past], progress: Progress | None = None) -> Head:
    """Fill an empty log with a past; the head it then has."""
    steps = sorted(_steps(jobs))
    drafts: list[Draft] = []
    held = 0
    begun = steps[0].at if steps else 0
    known: dict[str, str] = {}
    start = MasterStarted(
        incarnation=log.incarnation, build=__version__, rules=RULES, durability="off"
    )
    drafts.append(Draft(begun, EPOCH, [Fact(start, _ENVELOPE)]))
    done = 0
    for at, some in groupby(steps, key=lambda step: step.at):
        facts: list[Fact] = []
        for step in some:
            facts += [Fact(event, _ENVELOPE) for event in _events(step, known)]
            done += 1
        parts = (facts[low : low + MAX_EVENTS] for low in range(0, len(facts), MAX_EVENTS))
        drafts += [Draft(at, EPOCH, part) for part in parts]
        held += len(facts)
        if held >= AT_ONCE:
            log.append(drafts)
            drafts, held = [], 0
            if progress is not None:
                progress(done, len(steps))
    head = log.append(drafts) if drafts else log.head()
    if progress is not None:
        progress(done, len(steps))
    return head


def _steps(jobs: Sequence[Past]) -> Iterator[_Step]:
    for past in jobs:
        yield _Step(past.submitted_at, COMES, past.job, 0, past)
        for n, a_try in enumerate(past.tries, 1):
            yield _Step(a_try.start, BEGINS, past.job, n, past)
            if a_try.end is not None and a_try.end > a_try.start:
                yield _Step(a_try.end, ENDS, past.job, n, past)
        if past.ended_at is not None:
            yield _Step(past.ended_at, LEAVES, past.job, 0, past)


def _events(step: _Step, known: dict[str, str]) -> Iterator[Event]:
    past = step.past
    if step.rank == COMES:
        yield _submitted(past)
    elif step.rank == LEAVES:
        cause = UNRUN.get(past.state, "cancelled")
        yield JobEnded(
            **_about(past), state=past.state, cause=cause, submitted_at=past.submitted_at
        )
    elif step.rank == ENDS:
        yield _ended(past, step.n, step.at)
    else:
        a_try = past.tries[step.n - 1]
        for node in a_try.nodes:
            yield from _enrolled(node, past.pool, known)
        yield _placed(past, step.n, a_try)
        yield AttemptStarted(
            **_about(past),
            attempt=step.n,
            nodes=a_try.nodes,
            placed_at=a_try.start,
            started_at=a_try.start,
        )
        if a_try.end == a_try.start:
            yield _ended(past, step.n, step.at)


def _enrolled(node: str, pool: str, known: dict[str, str]) -> Iterator[Event]:
    """A node exists from the first job on it; it belongs to the pool of that job."""
    if node not in known:
        known[node] = pool
        yield NodeEnrolled(node=node, pool=pool)
        yield NodeStateChanged(
            node=node, was="checking", to="idle", cause="reported_empty", pool=pool
        )


def _submitted(past: Past) -> JobsSubmitted:
    spec = JobSpec(
        name=past.name,
        account=past.account,
        pool=past.pool,
        qos=past.qos,
        nodes=past.nodes,
        time_limit_s=past.time_limit_s,
    )
    return JobsSubmitted(
        first_job=past.job,
        count=1,
        user=past.user,
        specs=(spec,),
        array=str(past.task) if past.array else "",
        array_job=past.array if past.array != past.job else 0,
    )


def _placed(past: Past, n: int, a_try: Try) -> AttemptPlaced:
    decision = Decision(
        view=0, now=a_try.start, rules=RULES, policy=0, rank=0, of=0, how="in_order"
    )
    return AttemptPlaced(
        **_about(past),
        attempt=n,
        nodes=a_try.nodes,
        placed_at=a_try.start,
        time_limit_s=past.time_limit_s,
        restartable=False,
        decision=decision,
        cpus=a_try.cpus,
        node_count=_count(a_try),
    )


def _ended(past: Past, n: int, at: int) -> AttemptEnded:
    a_try = past.tries[n - 1]
    ended: JobState = "pending" if a_try.again else _state(a_try.outcome)
    return AttemptEnded(
        **_about(past),
        attempt=n,
        nodes=a_try.nodes,
        placed_at=a_try.start,
        started_at=a_try.start,
        ran_us=at - a_try.start,
        held_us=at - a_try.start,
        outcome=a_try.outcome,
        cause=a_try.cause,
        next="requeued" if a_try.again else "final",
        state=ended,
        exit_code=a_try.exit_code,
        signal=a_try.signal,
        lost=a_try.nodes if a_try.outcome == NODE_LOSS and len(a_try.nodes) == 1 else (),
        cpus=a_try.cpus,
        node_count=_count(a_try),
    )


def _count(a_try: Try) -> int | None:
    """How many nodes there were, where their names don't tell."""
    return None if len(a_try.nodes) == a_try.node_count else a_try.node_count


def _state(outcome: Outcome) -> JobState:
    """What a job is whose last try came out so."""
    return "cancelled" if outcome == "preempted" or outcome == "requeued" else outcome


class _About(TypedDict):
    job: int
    user: str
    account: str
    pool: str


def _about(past: Past) -> _About:
    return {"job": past.job, "user": past.user, "account": past.account, "pool": past.pool}
