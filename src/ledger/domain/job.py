"""Jobs: what may be asked of one (`decide_*`), and what each fact makes of it (`evolve_*`).

A decision may refuse and changes nothing; evolving changes and never refuses.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import TypedDict

from ledger.commands import Cancel, Change, Hold, JobCommand, Release, Requeue
from ledger.domain.abuse import count_submission
from ledger.domain.arrays import indices
from ledger.domain.errors import (
    Conflict,
    Forbidden,
    Impossible,
    JobIsOver,
    JobNotPending,
    JobNotRunning,
    Malformed,
    NotRestartable,
    UnknownJob,
)
from ledger.domain.permissions import demand
from ledger.domain.state import (
    END_CODES,
    KEY_LIFETIME_US,
    Ask,
    Cluster,
    Job,
    Key,
    Outcome,
    Waiting,
)
from ledger.events import (
    Dependency,
    HoldKind,
    JobCancelRequested,
    JobChanged,
    JobEnded,
    JobHeld,
    JobReleased,
    JobRequeued,
    JobSpec,
    JobsSubmitted,
    JobState,
    Recorded,
)

# ── decide ───────────────────────────────────────────────────────────────────────────────────────


def live(c: Cluster, ask: Ask, cmd: JobCommand, action: str) -> Job:
    """The live job that `cmd` is about, if the subject may do `action` to it.

    Whose a job was is not remembered once it has ended: then the subject's role alone is asked.
    """
    job = c.jobs.get(cmd.job)
    if job is None:
        outcome = c.outcome(cmd.job)
        if outcome is None:
            raise UnknownJob(f"There is no job {cmd.job}.")
        demand(ask.subject, action, ask.subject.name)
        raise JobIsOver(f"Job {cmd.job} has ended: it is {outcome}.", state=outcome)
    demand(ask.subject, action, job.user)
    return job


def decide_cancel(c: Cluster, ask: Ask, cmd: Cancel) -> Outcome:
    """A pending job ends; a running one is told to stop. Repeating it changes nothing."""
    if c.outcome(cmd.job) == "cancelled":
        demand(ask.subject, "job.cancel", ask.subject.name)
        return Outcome([])
    job = live(c, ask, cmd, "job.cancel")
    about = _about(job)
    if job.attempt is None:
        ended = JobEnded(
            **about,
            state="cancelled",
            cause="cancelled",
            submitted_at=job.submitted_at,
            note=cmd.note,
        )
        return Outcome([ended])
    if job.attempt.stop == "cancelled":
        return Outcome([])
    return Outcome([JobCancelRequested(**about, attempt=job.attempt.n, note=cmd.note)])


def decide_hold(c: Cluster, ask: Ask, cmd: Hold) -> Outcome:
    """Keep a pending job from starting; an operator's hold takes the place of a user's."""
    job = live(c, ask, cmd, "job.hold")
    if job.attempt is not None:
        raise JobNotPending(f"Job {job.id} is running; only a pending job can be held.")
    own = ask.subject.name == job.user
    kind: HoldKind = "user" if own and ask.subject.role == "user" else "admin"
    if job.hold == kind or job.hold == "admin":
        return Outcome([])
    return Outcome([JobHeld(**_about(job), kind=kind, note=cmd.note)])


def decide_release(c: Cluster, ask: Ask, cmd: Release) -> Outcome:
    """Lift a hold; an operator's hold is lifted by operators only."""
    job = live(c, ask, cmd, "job.release")
    if job.hold is None:
        return Outcome([])
    if job.hold == "admin" and ask.subject.role not in ("operator", "system"):
        raise Forbidden(f"Job {job.id} is held by the operator {job.held_by}.")
    return Outcome([JobReleased(**_about(job), kind=job.hold)])


def decide_requeue(c: Cluster, ask: Ask, cmd: Requeue) -> Outcome:
    """Ask that a running, restartable job stop and wait again; repeating it changes nothing."""
    job = live(c, ask, cmd, "job.requeue")
    if job.attempt is None:
        raise JobNotRunning(f"Job {job.id} is pending.")
    if not job.restartable:
        raise NotRestartable(f"Job {job.id} is not marked as restartable.")
    if job.attempt.stop == "cancelled":
        raise Conflict(f"Job {job.id} was cancelled and is stopping.", hint="Submit it again.")
    if job.attempt.stop:
        return Outcome([])
    return Outcome([JobRequeued(**_about(job), attempt=job.attempt.n, note=cmd.note)])


def decide_change(c: Cluster, ask: Ask, cmd: Change) -> Outcome:
    """Change what a live job asks for."""
    job = live(c, ask, cmd, "job.change")
    if cmd.time_limit_s is not None:
        if job.attempt is not None:
            raise JobNotPending(f"Job {job.id} is running; its time limit is fixed.")
        if not 1 <= cmd.time_limit_s <= c.policy.max_time_limit_s:
            raise Impossible(
                f"The time limit must be 1 to {c.policy.max_time_limit_s} seconds.",
                hint="Ask for a shorter time limit.",
            )
    same_restart = cmd.restartable in (None, job.restartable)
    same_limit = cmd.time_limit_s in (None, job.time_limit_s)
    if same_restart and same_limit:
        return Outcome([])
    changed = JobChanged(
        **_about(job),
        restartable=None if same_restart else cmd.restartable,
        time_limit_s=None if same_limit else cmd.time_limit_s,
        note=cmd.note,
    )
    return Outcome([changed])


class About(TypedDict):
    """What every event about a job repeats."""

    job: int
    user: str
    account: str
    pool: str


def _about(job: Job) -> About:
    return {"job": job.id, "user": job.user, "account": job.spec.account, "pool": job.spec.pool}


# ── evolve ───────────────────────────────────────────────────────────────────────────────────────


def evolve_submitted(c: Cluster, r: Recorded, e: JobsSubmitted) -> None:
    """The jobs exist, wait, and their key is remembered."""
    if e.part == 1:
        count_submission(c, r, e)
    key = _remember(c, e) if e.key else None
    end = e.first_job + e.count
    if end > c.next_job:
        c.next_job = end
    if c.next_job > len(c.ended):
        c.ended.extend(bytes(c.next_job - len(c.ended)))
    c.per_user[e.user] = c.per_user.get(e.user, 0) + e.count
    if e.count == 1 and not e.array and e.specs:  # nearly all are like this
        _enter(c, r, e, e.first_job, e.specs[0], -1, key)
        return
    for job_id, spec, index in _described(e):
        _enter(c, r, e, job_id, spec, index, key)


def _enter(
    c: Cluster,
    r: Recorded,
    e: JobsSubmitted,
    job_id: int,
    spec: JobSpec,
    index: int,
    key: tuple[str, str] | None,
) -> None:
    """One job exists, and waits."""
    job = c.jobs[job_id] = Job(
        id=job_id,
        user=e.user,
        spec=spec,
        first=e.first_job,
        index=index,
        submitted_at=r.at,
        restartable=spec.restartable,
        time_limit_s=spec.time_limit_s,
        hold="user" if spec.held else None,
        held_by=e.user if spec.held else "",
        key=key,
        request=r.envelope.request,
    )
    if spec.depends:
        _await(c, job, spec.depends)
    queue(c, job)


def _described(e: JobsSubmitted) -> Iterator[tuple[int, JobSpec, int]]:
    """Each job's id, description and place in its array (-1: no array).

    Whatever a log says, there are `count` jobs: what it leaves out, the last description stands
    for, and an index that can't be read is the job's place.
    """
    specs = e.specs or (JobSpec(),)
    found: list[int] = []
    if e.array:
        with suppress(Malformed):
            found = indices(e.array)
    for i in range(e.count):
        index = (found[i] if i < len(found) else i) if e.array else -1
        yield e.first_job + i, specs[min(i, len(specs) - 1)], index


def _remember(c: Cluster, e: JobsSubmitted) -> tuple[str, str]:
    name = (e.user, e.key)
    known = c.keys.get(name)
    if known is None or e.part == 1:
        c.keys[name] = Key(e.body_sha256, e.first_job, e.count, e.items, e.count)
        if known is not None:
            c.idle_keys.pop(name, None)
    else:
        known.count += e.count
        known.live += e.count
        if known.items is not None and e.items is not None:
            known.items += e.items
    return name


def _await(c: Cluster, job: Job, depends: tuple[Dependency, ...]) -> None:
    unmet = []
    for dependency in depends:
        outcome = c.outcome(dependency.job)
        if outcome is None:
            unmet.append(dependency)
            c.dependents.setdefault(dependency.job, set()).add(job.id)
        elif not satisfied(dependency, outcome):
            job.impossible = True
    job.depends = tuple(unmet)


def satisfied(dependency: Dependency, outcome: JobState) -> bool:
    """Does this end of the other job let the waiting one go on?"""
    if dependency.kind == "afterany":
        return True
    return (outcome == "completed") == (dependency.kind == "afterok")


def queue(c: Cluster, job: Job) -> None:
    """Put a job among those that only nodes or time keep waiting, if it belongs there."""
    if (pool := c.waiting.get(job.spec.pool)) is None:
        pool = c.waiting[job.spec.pool] = {}
    if job.attempt is None and job.hold is None and not job.depends and not job.impossible:
        spec = job.spec
        pool[job.id] = Waiting(
            job.id,
            job.user,
            spec.nodes,
            job.time_limit_s,
            frozenset(spec.features) if spec.features else NONE,
            frozenset(spec.exclude) if spec.exclude else NONE,
            frozenset(job.avoid) if job.avoid else NONE,
            spec.begin_at,
        )
        if spec.begin_at:
            c.begins[job.id] = spec.begin_at
    else:
        unqueue(c, job)


NONE: frozenset[str] = frozenset()
"""One for all: each would take 216 bytes, and nearly every waiting job has three."""


def unqueue(c: Cluster, job: Job) -> None:
    """Take a job from among those that wait for nodes or time, if it is there."""
    c.waiting.get(job.spec.pool, {}).pop(job.id, None)
    c.begins.pop(job.id, None)


def evolve_held(c: Cluster, r: Recorded, e: JobHeld) -> None:
    """The job waits for a release."""
    if (job := c.jobs.get(e.job)) is not None:
        job.hold, job.held_by = e.kind, r.envelope.by
        queue(c, job)


def evolve_released(c: Cluster, r: Recorded, e: JobReleased) -> None:
    """The hold is gone."""
    if (job := c.jobs.get(e.job)) is not None:
        job.hold, job.held_by = None, ""
        queue(c, job)


def evolve_changed(c: Cluster, r: Recorded, e: JobChanged) -> None:
    """The job asks for something else now."""
    if (job := c.jobs.get(e.job)) is not None:
        if e.restartable is not None:
            job.restartable = e.restartable
            if job.attempt is not None and not e.restartable:
                job.attempt.restartable = False
        if e.time_limit_s is not None:
            job.time_limit_s = e.time_limit_s
        queue(c, job)


def evolve_cancel_requested(c: Cluster, r: Recorded, e: JobCancelRequested) -> None:
    """The attempt is to stop, and the job with it."""
    _stop(c, e.job, e.attempt, "cancelled")


def evolve_requeued(c: Cluster, r: Recorded, e: JobRequeued) -> None:
    """The attempt is to stop, and the job to wait again."""
    _stop(c, e.job, e.attempt, "requeued")


def _stop(c: Cluster, job_id: int, attempt: int, why: str) -> None:
    job = c.jobs.get(job_id)
    if job is not None and job.attempt is not None and job.attempt.n == attempt:
        job.attempt.stop = why


def evolve_ended(c: Cluster, r: Recorded, e: JobEnded) -> None:
    """A pending job is over."""
    if (job := c.jobs.get(e.job)) is not None:
        finish(c, job, e.state, r.at)


def finish(c: Cluster, job: Job, state: JobState, at: int) -> None:
    """Forget a job but for its outcome; let go what waited for it; age its key."""
    del c.jobs[job.id]
    if job.attempt is None:
        unqueue(c, job)
    else:
        c.running.discard(job.id)
    c.ended[job.id] = END_CODES.get(state, END_CODES["failed"])
    left = c.per_user[job.user] - 1
    if left:
        c.per_user[job.user] = left
    else:
        del c.per_user[job.user]
    if job.key is not None and (key := c.keys.get(job.key)) is not None:
        key.live -= 1
        if key.live == 0:
            key.ended_at = at
            c.idle_keys[job.key] = at
    for dependency in job.depends:
        c.dependents.get(dependency.job, set()).discard(job.id)
    if not c.dependents:
        return
    for waiter_id in sorted(c.dependents.pop(job.id, ())):
        if (waiter := c.jobs.get(waiter_id)) is not None:
            _let_go(c, waiter, job.id, state)


def _let_go(c: Cluster, waiter: Job, ended: int, state: JobState) -> None:
    for dependency in waiter.depends:
        if dependency.job == ended and not satisfied(dependency, state):
            waiter.impossible = True
    waiter.depends = tuple(d for d in waiter.depends if d.job != ended)
    queue(c, waiter)


def forget_keys(c: Cluster, now: int) -> None:
    """Drop the keys whose lifetime has passed on the log's clock."""
    while c.idle_keys:
        name, ended_at = next(iter(c.idle_keys.items()))
        if ended_at + KEY_LIFETIME_US > now:
            return
        del c.idle_keys[name]
        del c.keys[name]
