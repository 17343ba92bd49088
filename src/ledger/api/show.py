"""From the master's state to what people are shown; private things only to those who may."""

from datetime import UTC, datetime

from ledger.api.auth import Caller
from ledger.domain.explain import Heads
from ledger.domain.permissions import may
from ledger.domain.state import Cluster, Job, Node
from ledger.master.texts import Words
from ledger.models import AttemptOut, DependencyIn, JobDetailOut, JobOut, NodeOut, SaidOut


def when(micros: int) -> datetime | None:
    """A time out of the log, None for 0."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC) if micros else None


def at(micros: int) -> datetime:
    """A time out of the log that is known to be there."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def task_name(job: Job) -> str:
    """`17_3` for the task 3 of the array whose first job is 17, else nothing."""
    return f"{job.first}_{job.index}" if job.index >= 0 else ""


def live_job(c: Cluster, job: Job, heads: Heads, caller: Caller) -> JobOut:
    """A live job in a list."""
    a = job.attempt
    silent = 0
    if a is not None and (leader := c.nodes.get(a.nodes[0])) is not None:
        silent = leader.silent_since if leader.health == "down" else 0
    private = may(caller.subject, "job.details", job.user)
    return JobOut(
        job=job.id,
        array=task_name(job),
        user=job.user,
        account=job.spec.account,
        pool=job.spec.pool,
        nodes_wanted=job.spec.nodes,
        nodes=list(a.nodes) if a else [],
        state=job.state,
        reason=heads.reason(job) if a is None else "",
        stopping=bool(a and a.stop),
        out_of_contact_since=when(silent),
        held_by=job.held_by,
        time_limit_s=job.time_limit_s,
        restartable=job.restartable,
        submitted_at=at(job.submitted_at),
        started_at=when(a.started_at) if a else None,
        attempt=job.attempts,
        name=job.spec.name if private else None,
    )


def live_detail(
    c: Cluster, job: Job, heads: Heads, caller: Caller, words: Words | None, script: str | None
) -> JobDetailOut:
    """A live job with what is known of its present attempt; former ones are added by history."""
    details = JobDetailOut(
        **dict(live_job(c, job, heads, caller)),
        features=list(job.spec.features),
        exclude=list(job.spec.exclude),
        depends=[DependencyIn(kind=d.kind, job=d.job) for d in job.depends],
        begin_at=when(job.spec.begin_at),
        position=c.position,
        request=(job.request or None) if may(caller.subject, "job.details", job.user) else None,
        argv=list(words.argv) if words else None,
        workdir=words.workdir if words else None,
        output_path=words.output_path if words else None,
        comment=words.comment if words else None,
        script=script,
    )
    if job.attempt is None:
        return details
    a = job.attempt
    present = AttemptOut(
        attempt=a.n,
        nodes=list(a.nodes),
        placed_at=at(a.placed_at),
        started_at=when(a.started_at),
    )
    return details.model_copy(update={"attempts": [present]})


def node(n: Node) -> NodeOut:
    """A node."""
    return NodeOut(
        node=n.name,
        state=n.state,
        pool=n.pool,
        jobs=sorted(job for job, _ in n.attempts),
        features=sorted(n.features),
        since=at(n.since),
        cause=n.cause,
        reason=n.reason,
        silent_since=when(n.silent_since),
        drain=n.drain,
        said=[SaidOut(at=at(s.at), by=s.by, cause=s.cause, reason=s.reason) for s in n.said],
        serial=n.serial,
        rack=n.rack,
        switch=n.switch,
        power=n.power,
        cpus=n.cpus,
        memory_bytes=n.memory_bytes,
        image=n.image,
        kernel=n.kernel,
        packages_sha256=n.packages_sha256,
        build=n.build,
        boot_id=n.boot_id,
    )
