"""The state as canonical bytes and back: what a checkpoint holds.

The same state gives the same bytes, whatever order sets and dictionaries were filled in. Jobs with
equal descriptions (an array's tasks) share one after loading.
"""

from collections import OrderedDict

import msgspec

from ledger.domain.job import queue
from ledger.domain.state import (
    Cluster,
    Job,
    Key,
    Node,
    Notice,
    Outage,
    Policy,
    Recipient,
    Token,
)
from ledger.domain.watch import Watched
from ledger.events import JobSpec

STATE_VERSION = 6
"""Raised whenever the state's shape or meaning changes: older checkpoints are then ignored."""


class Snapshot(msgspec.Struct, array_like=True):
    """The stored form: `specs` once each, and for every job the place of its own among them."""

    position: int
    at: int
    epoch: int
    started_at: int
    incarnation: str
    clean_stop: bool
    next_job: int
    policy: Policy
    specs: list[JobSpec]
    jobs: list[tuple[int, Job]]
    ended: bytes
    keys: list[tuple[tuple[str, str], Key]]
    nodes: list[Node]
    tokens: list[tuple[str, Token]]
    settled: list[tuple[tuple[int, int, str], int]]
    lease_until: int
    absent_us: int
    watch: Watched
    next_outage: int
    next_notice: int
    outages: list[Outage]
    past_outages: list[Outage]
    notices: list[Notice]
    recipients: list[Recipient]


_NO_SPEC = JobSpec()
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


def to_bytes(c: Cluster) -> bytes:
    """The canonical bytes of a state."""
    places: dict[JobSpec, int] = {}
    jobs = []
    for job_id in sorted(c.jobs):
        job = c.jobs[job_id]
        place = places.setdefault(job.spec, len(places))
        jobs.append((place, _with_spec(job, _NO_SPEC)))
    return _encode(
        Snapshot(
            position=c.position,
            at=c.at,
            epoch=c.epoch,
            started_at=c.started_at,
            incarnation=c.incarnation,
            clean_stop=c.clean_stop,
            next_job=c.next_job,
            policy=c.policy,
            specs=list(places),
            jobs=jobs,
            ended=bytes(c.ended),
            keys=sorted(c.keys.items()),
            nodes=[c.nodes[name] for name in sorted(c.nodes)],
            tokens=sorted(c.tokens.items()),
            settled=sorted(c.settled.items(), key=lambda item: (item[1], item[0])),
            lease_until=c.lease_until,
            absent_us=c.absent_us,
            watch=Watched.of(c.watch),
            next_outage=c.next_outage,
            next_notice=c.next_notice,
            outages=[c.outages[n] for n in sorted(c.outages)],
            past_outages=list(c.past_outages.values()),
            notices=[c.notices[n] for n in sorted(c.notices)],
            recipients=[c.recipients[key] for key in sorted(c.recipients)],
        )
    )


def from_bytes(data: bytes) -> Cluster:
    """The state that `to_bytes` wrote. Raises `msgspec.MsgspecError` for anything else."""
    s = _decode(data)
    c = Cluster(
        position=s.position,
        at=s.at,
        epoch=s.epoch,
        started_at=s.started_at,
        lease_until=s.lease_until,
        absent_us=s.absent_us,
        incarnation=s.incarnation,
        clean_stop=s.clean_stop,
        next_job=s.next_job,
        policy=s.policy,
        ended=bytearray(s.ended),
        keys=dict(s.keys),
        tokens=dict(s.tokens),
        settled=dict(s.settled),
        watch=s.watch.watch(),
        next_outage=s.next_outage,
        next_notice=s.next_notice,
        outages={o.n: o for o in s.outages},
        past_outages=OrderedDict((o.n, o) for o in s.past_outages),
        notices={notice.n: notice for notice in s.notices},
        recipients={(r.owner, r.desk): r for r in s.recipients},
    )
    for node in s.nodes:
        c.nodes[node.name] = node
        c.pools.setdefault(node.pool, set()).add(node.name)
    idle = [(key.ended_at, name) for name, key in c.keys.items() if key.live == 0]
    c.idle_keys = OrderedDict((name, ended_at) for ended_at, name in sorted(idle))
    for place, job in s.jobs:
        job.spec = s.specs[place]
        c.jobs[job.id] = job
        c.per_user[job.user] = c.per_user.get(job.user, 0) + 1
        for dependency in job.depends:
            c.dependents.setdefault(dependency.job, set()).add(job.id)
        if job.attempt is not None:
            c.running.add(job.id)
        queue(c, job)
    return c


def _with_spec(job: Job, spec: JobSpec) -> Job:
    """A shallow copy of a job with another description: the state itself stays untouched."""
    return msgspec.structs.replace(job, spec=spec)
