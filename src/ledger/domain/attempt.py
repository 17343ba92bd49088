"""Attempts: placing, starting, ending, giving up. Here lies "never twice at once".

The leading node alone runs the command, so the attempt is over when the leader says that no process
is left, or when the leader has been silent for longer than its lease and the margin: by then its
agent has killed what may be restarted. What may not be restarted is never placed again at all.
"""

from itertools import islice

from ledger.commands import GiveUp, Place, ReportEnded, ReportStarted
from ledger.domain import losses
from ledger.domain.abuse import count_end
from ledger.domain.errors import StaleProposal
from ledger.domain.job import About, finish, queue, unqueue
from ledger.domain.state import (
    SETTLED_REMEMBERED,
    Ask,
    Attempt,
    Cluster,
    Job,
    Node,
    Outcome,
)
from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    AttemptStarted,
    Event,
    JobState,
    Machine,
    Next,
    NodeStateChanged,
    Recorded,
    StaleReported,
)
from ledger.events import Outcome as AttemptOutcome

RESTARTS_BEFORE_HOLD = 5
"""A job that has lost this many attempts to its nodes is held: perhaps it kills them."""

MOST_CPUS = 4_096
"""Processors that are believed of a node which has not said how many it has."""

NO_REPORT = ("node_lost", "agent_forgot")
"""Causes by which the master ended an attempt without its agent's word."""

# ── decide ───────────────────────────────────────────────────────────────────────────────────────


def decide_place(c: Cluster, ask: Ask, cmd: Place) -> Outcome:
    """Start a job on nodes, if the proposal still holds."""
    job = c.jobs.get(cmd.job)
    if job is None or cmd.job not in c.waiting.get(job.spec.pool, {}):
        raise StaleProposal(f"Job {cmd.job} no longer waits for nodes.")
    if job.spec.begin_at > ask.at:
        raise StaleProposal(f"Job {cmd.job} may not begin yet.")
    if len(set(cmd.nodes)) != job.spec.nodes or len(cmd.nodes) != job.spec.nodes:
        raise StaleProposal(f"Job {cmd.job} asks for {job.spec.nodes} nodes.")
    machines = []
    for name in cmd.nodes:
        node = c.nodes.get(name)
        if node is None or not node.free or not _suits(job, node):
            raise StaleProposal(f"Node {name} can't take job {cmd.job} now.")
        machines.append(
            Machine(
                serial=node.serial,
                rack=node.rack,
                image=node.image,
                kernel=node.kernel,
                build=node.build,
            )
        )
    placed = AttemptPlaced(
        job=job.id,
        user=job.user,
        account=job.spec.account,
        pool=job.spec.pool,
        attempt=job.attempts + 1,
        nodes=cmd.nodes,
        placed_at=ask.at,
        time_limit_s=job.time_limit_s,
        restartable=job.restartable,
        decision=cmd.decision,
        machines=tuple(machines),
    )
    return Outcome([placed])


def _suits(job: Job, node: Node) -> bool:
    return (
        node.pool == job.spec.pool
        and node.features.issuperset(job.spec.features)
        and node.name not in job.spec.exclude
    )


def decide_started(c: Cluster, ask: Ask, cmd: ReportStarted) -> Outcome:
    """The leader says that the command runs; the answer is True: acknowledge the report."""
    job = _current(c, cmd.job, cmd.attempt)
    if job is None or job.attempt is None or job.attempt.nodes[0] != cmd.node:
        return Outcome(_stale(c, cmd.job, cmd.attempt, cmd.node, "started"), True)
    if job.attempt.started_at:
        return Outcome([], True)
    started = AttemptStarted(**_about(job, job.attempt), started_at=ask.at, boot_id=cmd.boot_id)
    return Outcome([started], True)


def decide_ended(c: Cluster, ask: Ask, cmd: ReportEnded) -> Outcome:
    """A node says that the attempt is over there. The answer: is the report dealt with?

    Of a node that does not lead it is not, until the leader has ended too: its report is kept
    unacknowledged, and the leader is told to stop meanwhile.
    """
    job = _current(c, cmd.job, cmd.attempt)
    if job is None or job.attempt is None or cmd.node not in job.attempt.nodes:
        report = StaleReported(
            job=cmd.job,
            attempt=cmd.attempt,
            node=cmd.node,
            report="ended",
            cause=cmd.cause,
            exit_code=cmd.exit_code,
            ran_us=cmd.ran_us,
        )
        return Outcome(_stale(c, cmd.job, cmd.attempt, cmd.node, "ended", report), True)
    if cmd.node != job.attempt.nodes[0]:
        return Outcome([], False)
    return Outcome(_end(c, ask, job, cmd.end, cmd.cause, _lost(c, job.attempt, cmd), cmd), True)


def _lost(c: Cluster, attempt: Attempt, cmd: ReportEnded) -> tuple[str, ...]:
    """The nodes whose loss ended the attempt. A node that was told to stop and did is not lost."""
    if attempt.stop:
        return tuple(n for n in cmd.lost if n not in c.nodes or c.nodes[n].health == "down")
    if cmd.end in ("node_fail", "stopped") and not cmd.lost:
        return (cmd.node,)
    return cmd.lost


def decide_give_up(c: Cluster, ask: Ask, cmd: GiveUp) -> Outcome:
    """End the attempt of a leader that has been silent for too long; empty if it is too early."""
    job = _current(c, cmd.job, cmd.attempt)
    if job is None or job.attempt is None:
        return Outcome([])
    due = give_up_at(c, job)
    if due is None or ask.at < due:
        return Outcome([])
    lost = tuple(n for n in job.attempt.nodes if n not in c.nodes or c.nodes[n].health == "down")
    return Outcome(_end(c, ask, job, "node_fail", "node_lost", lost, None))


def give_up_at(c: Cluster, job: Job) -> int | None:
    """When a running job's attempt may be given up, µs; None while its leader is in contact.

    Restartable: lease and margin after the last contact, or after this master began, which could
    not hear anybody before. Not restartable, or not so for the whole attempt: `lost_after`, but not
    before a new master has listened for as long; at once if an operator has declared the node dead.
    Time in which no master reigned, and what a clock was put forward by, is no silence.
    """
    assert job.attempt is not None
    leader = c.nodes.get(job.attempt.nodes[0])
    if leader is None:
        return 0
    if leader.health != "down" or not leader.silent_since:
        return None
    p = c.policy
    lease_over = max(leader.silent_since, c.started_at) + p.job_lease_s * 1_000_000
    killed = max(lease_over, c.lease_until) + p.lease_margin_s * 1_000_000
    if job.attempt.restartable:
        return killed
    if leader.cause == "declared_dead":
        return leader.since
    unheard_since = leader.silent_since + c.absent_us - leader.absent_us
    return max(killed, unheard_since + p.lost_after_s * 1_000_000)


def lose(
    c: Cluster, ask: Ask, job: Job, cause: str, lost: tuple[str, ...], outage: int
) -> list[Event]:
    """The events that end a job's attempt because nodes lost it (`agent_forgot`); `outage`: the one
    that has taken this loss already, if not 0."""
    return _end(c, ask, job, "node_fail", cause, lost, None, outage)


def _end(
    c: Cluster,
    ask: Ask,
    job: Job,
    end: str,
    cause: str,
    lost: tuple[str, ...],
    report: ReportEnded | None,
    outage: int = 0,
) -> list[Event]:
    attempt = job.attempt
    assert attempt is not None
    again = job.restartable and (cause != "node_lost" or attempt.restartable)
    outcome, following, state = _verdict(job, attempt, end, again)
    held_us = ask.at - attempt.placed_at
    events: list[Event] = []
    if outcome == "node_fail" and not outage:
        events, outage = losses.lost_with_attempt(c, ask.at, attempt, cause, lost, report)
    ended = AttemptEnded(
        **_about(job, attempt),
        started_at=attempt.started_at,
        ran_us=min(report.ran_us, held_us) if report else 0,
        cpu_us=_measured(c, attempt, held_us, report),
        held_us=held_us,
        outcome=outcome,
        cause=cause,
        next=following,
        state=state,
        exit_code=report.exit_code if report else None,
        signal=report.signal if report else None,
        lost=lost,
        output=report.output if report else None,
        detail=report.detail if report else "",
        outage=outage,
    )
    return [*events, ended, *_emptied(c, attempt)]


def _measured(c: Cluster, attempt: Attempt, held_us: int, report: ReportEnded | None) -> int | None:
    """The processor time that a report tells of: no more than its node's processors had."""
    if report is None or report.cpu_us is None:
        return None
    leader = c.nodes.get(attempt.nodes[0])
    return min(report.cpu_us, held_us * (leader.cpus if leader and leader.cpus else MOST_CPUS))


def _verdict(
    job: Job, attempt: Attempt, end: str, again: bool
) -> tuple[AttemptOutcome, Next, JobState]:
    """What an end means for the attempt, for what comes next, and for the job; `again`: it may be
    placed once more, since it is restartable and surely no process of it is left."""
    if end == "completed":
        return "completed", "final", "completed"
    if attempt.stop == "cancelled":
        return "cancelled", "final", "cancelled"
    if attempt.stop == "requeued" and again:
        return "requeued", "requeued", "pending"
    if end in ("node_fail", "stopped"):
        if not again:
            return "node_fail", "final", "node_fail"
        if job.node_fails + 1 >= RESTARTS_BEFORE_HOLD:
            return "node_fail", "held", "pending"
        return "node_fail", "requeued", "pending"
    if end == "timeout":
        return "timeout", "final", "timeout"
    if end == "out_of_memory":
        return "out_of_memory", "final", "out_of_memory"
    return "failed", "final", "failed"


def _emptied(c: Cluster, attempt: Attempt) -> list[Event]:
    """The draining nodes that have nothing left once this attempt has ended."""
    emptied: list[Event] = []
    for name in attempt.nodes:
        node = c.nodes.get(name)
        if node is not None and node.state == "draining" and len(node.attempts) == 1:
            emptied.append(
                NodeStateChanged(
                    node=name,
                    was="draining",
                    to="drained",
                    cause="emptied",
                    pool=node.pool,
                    rack=node.rack,
                    reason=node.reason,
                )
            )
    return emptied


def _current(c: Cluster, job_id: int, attempt: int) -> Job | None:
    job = c.jobs.get(job_id)
    return job if job and job.attempt and job.attempt.n == attempt else None


def _stale(
    c: Cluster, job: int, attempt: int, node: str, what: str, report: StaleReported | None = None
) -> list[Event]:
    # A number that a restored log left out may be a job's of the lost range: it is on record then.
    if not 0 < job < c.next_job or (job, attempt, node) in c.settled:
        return []
    return [report or StaleReported(job=job, attempt=attempt, node=node, report=what)]


class AboutAttempt(About):
    """What every event about an attempt repeats."""

    attempt: int
    nodes: tuple[str, ...]
    placed_at: int


def _about(job: Job, attempt: Attempt) -> AboutAttempt:
    return {
        "job": job.id,
        "user": job.user,
        "account": job.spec.account,
        "pool": job.spec.pool,
        "attempt": attempt.n,
        "nodes": attempt.nodes,
        "placed_at": attempt.placed_at,
    }


# ── evolve ───────────────────────────────────────────────────────────────────────────────────────


def evolve_placed(c: Cluster, r: Recorded, e: AttemptPlaced) -> None:
    """The job runs as far as its user is concerned; its nodes are taken."""
    job = c.jobs.get(e.job)
    if job is None or not e.nodes:
        return
    job.attempt = Attempt(e.attempt, e.nodes, e.placed_at, restartable=e.restartable)
    job.attempts = e.attempt
    c.running.add(job.id)
    unqueue(c, job)
    for name in e.nodes:
        if (node := c.nodes.get(name)) is not None:
            node.attempts.add((e.job, e.attempt))


def evolve_started(c: Cluster, r: Recorded, e: AttemptStarted) -> None:
    """The command runs."""
    job = _current(c, e.job, e.attempt)
    if job is not None and job.attempt is not None:
        job.attempt.started_at = e.started_at


def evolve_ended(c: Cluster, r: Recorded, e: AttemptEnded) -> None:
    """The nodes are free; the job is over, waits again, or is held."""
    count_end(c, r, e)
    for name in e.nodes:
        if (node := c.nodes.get(name)) is not None:
            node.attempts.discard((e.job, e.attempt))
    if e.cause not in NO_REPORT:
        # the leader has reported; of the others, a report is news only if their loss was the cause
        alone = len(e.nodes) == 1
        for name in e.nodes if alone else sorted({*e.nodes[:1], *(set(e.nodes) - set(e.lost))}):
            _settle(c, (e.job, e.attempt, name), r.position)
    losses.attempt_ended(c, r, e)
    job = _current(c, e.job, e.attempt)
    if job is None:
        return
    if e.next == "final":
        finish(c, job, e.state, r.at)
        return
    job.attempt = None
    c.running.discard(job.id)
    if e.outcome == "node_fail":
        job.node_fails += 1
        job.avoid = tuple(sorted({*job.avoid, *e.lost}))
    if e.next == "held":
        job.hold, job.held_by = "system", "system"
    queue(c, job)


def evolve_stale(c: Cluster, r: Recorded, e: StaleReported) -> None:
    """Remember that it was recorded."""
    _settle(c, (e.job, e.attempt, e.node), r.position)


def _settle(c: Cluster, what: tuple[int, int, str], position: int) -> None:
    settled = c.settled
    settled.pop(what, None)  # so that the oldest stands first
    settled[what] = position
    if len(settled) >= 2 * SETTLED_REMEMBERED:  # one by one it would take twice as long
        c.settled = dict(islice(settled.items(), SETTLED_REMEMBERED, None))
