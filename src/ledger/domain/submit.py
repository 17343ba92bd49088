"""Submitting: which requests become jobs, under which ids, and what a repeated one is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from ledger.commands import Submit
from ledger.domain.arrays import indices
from ledger.domain.errors import Impossible, KeyReused, Malformed, Refusal, TooManyJobs, UnknownJob
from ledger.domain.state import Ask, Cluster, Outcome
from ledger.events import Event, JobSpec, JobsSubmitted

MAX_SPECS = 10_000
"""Jobs in one request, and in one event."""

MAX_EVENT_BYTES = 900_000
"""Of specs in one event; a larger request becomes several events of one commit."""

_size = msgspec.json.Encoder().encode


class NotAccepted(NamedTuple):
    """A place in the request that did not become a job."""

    item: int
    code: str
    sentence: str
    hint: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission; repeated requests get the same ids again."""

    first_job: int
    count: int
    items: tuple[int, ...] | None
    not_accepted: tuple[NotAccepted, ...]
    repeated: bool


def decide(c: Cluster, ask: Ask, cmd: Submit) -> Outcome:
    """Accept or refuse a submission; `Outcome.reply` is a `Submitted`."""
    user = ask.subject.name
    if cmd.key and (known := c.keys.get((user, cmd.key))) is not None:
        return Outcome(
            [], _repeat(known.body_sha256, cmd, known.first_job, known.count, known.items)
        )
    tasks = len(indices(cmd.array)) if cmd.array else len(cmd.specs)
    if not 1 <= tasks <= MAX_SPECS:
        raise Malformed(f"A request may have 1 to {MAX_SPECS} jobs; this one has {tasks}.")
    if cmd.array and len(cmd.specs) != 1:
        raise Malformed("An array has one job description for all of its tasks.")
    accepted, refused = _sift(c, user, cmd, tasks)
    if refused and not (cmd.each and accepted):
        raise refused[0][1]
    specs = tuple(spec for i in accepted if not isinstance(spec := cmd.specs[i], str))
    items = tuple(accepted) if refused else None
    count = len(specs) if not cmd.array else tasks
    events = _events(c.next_job, user, specs, items, count, cmd)
    told = tuple(NotAccepted(i, r.code, r.sentence, r.advice) for i, r in refused)
    return Outcome(events, Submitted(c.next_job, count, items, told, repeated=False))


def _repeat(
    digest: str, cmd: Submit, first: int, count: int, items: tuple[int, ...] | None
) -> Submitted:
    if digest != cmd.body_sha256:
        raise KeyReused(f"The idempotency key {cmd.key!r} was used for another request.")
    told: tuple[NotAccepted, ...] = ()
    if items is not None:
        taken = set(items)
        told = tuple(
            NotAccepted(i, "not_accepted", "This item was not accepted the first time.", "")
            for i in range(len(cmd.specs))
            if i not in taken
        )
    return Submitted(first, count, items, told, repeated=True)


def _sift(
    c: Cluster, user: str, cmd: Submit, tasks: int
) -> tuple[list[int], list[tuple[int, Refusal]]]:
    """The places accepted, and the places refused with their reasons."""
    accepted: list[int] = []
    refused: list[tuple[int, Refusal]] = []
    room = c.policy.max_jobs_per_user - c.per_user.get(user, 0)
    each = tasks if cmd.array else 1
    for i, spec in enumerate(cmd.specs):
        try:
            if isinstance(spec, str):
                raise Malformed(spec)
            check(c, spec)
            if (len(accepted) + 1) * each > room:
                raise TooManyJobs(
                    f"{user} has {c.per_user.get(user, 0)} jobs that have not ended; the limit is "
                    f"{c.policy.max_jobs_per_user}, and this request asks for {tasks} more.",
                    limit=c.policy.max_jobs_per_user,
                    present=c.per_user.get(user, 0),
                )
        except Refusal as refusal:
            refused.append((i, refusal))
            if not cmd.each:
                break
        else:
            accepted.append(i)
    return accepted, refused


def check(c: Cluster, spec: JobSpec) -> None:
    """Raise the refusal that `spec` earns in this cluster, if any."""
    if spec.nodes < 1:
        raise Malformed(f"A job needs at least one node; {spec.nodes} were asked for.")
    for dependency in spec.depends:
        if not c.exists(dependency.job):
            raise UnknownJob(f"There is no job {dependency.job} to wait for.")
    if not 1 <= spec.time_limit_s <= c.policy.max_time_limit_s:
        raise Impossible(
            f"The time limit must be 1 to {c.policy.max_time_limit_s} seconds; "
            f"{spec.time_limit_s} was asked for.",
            hint="Ask for a shorter time limit.",
        )
    names = c.pools.get(spec.pool, set())
    if spec.nodes <= len(names) and not spec.features and not spec.exclude:
        return
    fit = matching(c, spec.pool, frozenset(spec.features), frozenset(spec.exclude))
    if len(fit) < spec.nodes:
        wanted = f" with {', '.join(spec.features)}" if spec.features else ""
        less = " that are not excluded" if spec.exclude else ""
        raise Impossible(
            f"The pool {spec.pool} has {len(fit)} nodes{wanted}{less}; "
            f"{spec.nodes} were asked for.",
            pool=spec.pool,
            nodes=len(fit),
        )


def matching(c: Cluster, pool: str, features: frozenset[str], exclude: frozenset[str]) -> list[str]:
    """The nodes of a pool, in whatever state, that have the features and are not excluded."""
    return [
        name
        for name in c.pools.get(pool, ())
        if name not in exclude and features <= c.nodes[name].features
    ]


def _events(
    first: int,
    user: str,
    specs: Sequence[JobSpec],
    items: tuple[int, ...] | None,
    count: int,
    cmd: Submit,
) -> list[Event]:
    pieces = [(0, 1)] if len(specs) == 1 else _pieces(specs)
    return [
        JobsSubmitted(
            first_job=first + low,
            count=count if cmd.array else high - low,
            user=user,
            specs=tuple(specs[low:high]),
            array=cmd.array,
            items=None if items is None else items[low:high],
            key=cmd.key,
            body_sha256=cmd.body_sha256,
            part=part,
            parts=len(pieces),
        )
        for part, (low, high) in enumerate(pieces, 1)
    ]


def _pieces(specs: Sequence[JobSpec]) -> list[tuple[int, int]]:
    """Cut a list of specs so that each piece fits into one event."""
    pieces: list[tuple[int, int]] = []
    low = size = 0
    for i, spec in enumerate(specs):
        weight = len(_size(spec)) + 1
        if i > low and size + weight > MAX_EVENT_BYTES:
            pieces.append((low, i))
            low, size = i, 0
        size += weight
    return [*pieces, (low, len(specs))]
