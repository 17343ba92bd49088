"""Answers out of the projections: what has ended, and what happened when.

A read is at least as new as the head of the log was when it arrived, if the projection gets there
within two seconds; `Ledger-Position` and `Ledger-Lag` say what it is. `?at_least=N` insists on a
position, `?stale=ok` waits for none. `?at=TIME` and `?at_position=N` ask as of then.
"""

import asyncio
from typing import Any, NamedTuple

from ledger.api import past, show
from ledger.api.auth import Caller
from ledger.api.past import micros
from ledger.api.stated import with_stays
from ledger.api.waiting import PATIENCE_S, as_of, freshness
from ledger.domain.errors import Behind, Malformed, UnknownJob
from ledger.domain.permissions import may
from ledger.master.texts import Words, parsed
from ledger.models import (
    AbsenceOut,
    AttemptOut,
    DependencyIn,
    ImpactJobOut,
    ImpactOut,
    ImpactUserOut,
    JobDetailOut,
    JobOut,
    JobsOut,
)
from ledger.nodenames import BadNodes, expand
from ledger.projection.reader import Unavailable

__all__ = ["micros"]

MOST_ABSENCES = 10_000
"""Of the master, the latest, are asked after at once."""


class Filter(NamedTuple):
    """Which jobs to list; empty fields ask for all. Times are µs, `cursor` a job id."""

    user: str = ""
    account: str = ""
    pool: str = ""
    node: str = ""
    states: tuple[str, ...] = ()
    name: str = ""
    since: int = 0
    until: int = 0
    limit: int = 200
    cursor: int = 0
    ascending: bool = True


async def ask(who: Caller, projection: str, query: str, *args: Any, **kwargs: Any) -> Any:
    """What a query of a projection gives, fresh enough for the request; or what it gave then, as
    the request says. Raises `Behind`, and what `past.then` and `past.ask` raise."""
    if (moment := await past.then(who)) is not None:
        return await past.ask(who, moment, projection, query, args, kwargs)
    return await ask_now(who, projection, query, *args, **kwargs)


async def now(who: Caller) -> int:
    """The present that a request speaks of, µs."""
    moment = await past.then(who)
    present: int = who.running.master.now() if moment is None else moment.now
    return present


async def ask_now(who: Caller, projection: str, query: str, *args: Any, **kwargs: Any) -> Any:
    """What a query of a projection gives, fresh enough for the request. Raises `Behind`."""
    running = who.running
    asked = freshness(who.request)
    wanted = 0 if asked.stale else (asked.at_least or running.master.head.position)
    reader = running.history

    def read() -> Any:
        function = reader.query(projection, query)
        return reader.at_least(
            projection, wanted, PATIENCE_S, lambda connection: function(connection, *args, **kwargs)
        )

    try:
        answer = await asyncio.to_thread(read)
    except Unavailable as error:
        raise Behind(
            f"This can't be answered yet: {error}.", hint="Is `jobledger follow` running?"
        ) from None
    except ValueError as error:
        raise Malformed(f"That can't be asked: {error}.") from None
    if asked.at_least and answer.position < asked.at_least:
        raise Behind(f"The answers are at {answer.position}, not yet at {asked.at_least}.")
    who.request.state.ledger_position = answer.position
    who.request.state.ledger_lag = answer.lag
    return answer.value


async def list_jobs(who: Caller, asked: Filter) -> JobsOut:
    """A page of all jobs there ever were. By name, users find only their own."""
    user = asked.user
    if asked.name and who.subject.role != "operator":
        if user not in ("", who.subject.name):
            return JobsOut(jobs=[], next=None, position=who.running.master.head.position)
        user = who.subject.name
    rows, cursor = await ask(
        who,
        "jobs",
        "list_jobs",
        user=user,
        account=asked.account,
        pool=asked.pool,
        node=asked.node,
        states=asked.states,
        name=asked.name,
        since=asked.since or None,
        until=asked.until or None,
        limit=asked.limit,
        cursor=str(asked.cursor) if asked.cursor else "",
        ascending=asked.ascending,
    )
    return JobsOut(
        jobs=[_job(who, row) for row in rows],
        next=cursor,
        position=who.request.state.ledger_position,
    )


def _job(who: Caller, row: Any) -> JobOut:
    private = may(who.subject, "job.details", row.user)
    return JobOut(
        job=row.job,
        array=f"{row.first}_{row.task}" if row.task >= 0 else "",
        user=row.user,
        account=row.account,
        pool=row.pool,
        nodes_wanted=row.nodes_wanted,
        nodes=list(row.nodes) if row.state != "pending" else [],
        state=row.state,
        stopping=bool(row.stopping),
        held_by=row.held_by,
        time_limit_s=row.time_limit_s,
        restartable=row.restartable,
        submitted_at=show.at(row.submitted_at),
        started_at=show.when(row.started_at or 0),
        ended_at=show.when(row.ended_at or 0),
        attempt=row.attempts,
        name=row.name if private else None,
        exit_code=row.exit_code if private else None,
        cause=row.cause if private else "",
    )


async def _found(who: Caller, job: int) -> tuple[Any, list[Any]]:
    found = await ask(who, "jobs", "show_job", job)
    if found is None and not as_of(who.request).present:
        raise UnknownJob(f"There was no job {job} then.")
    if found is None:
        raise UnknownJob(f"There is no job {job} in the tables yet; ask again.")
    row, attempts = found
    return row, attempts


async def show_job(who: Caller, job: int) -> JobDetailOut:
    """A job that has ended, or as it was once, with all its attempts."""
    row, attempts = await _found(who, job)
    private = may(who.subject, "job.details", row.user)
    details = JobDetailOut(
        **dict(_job(who, row)),
        attempts=[_attempt(a, private=private) for a in attempts],
        features=list(row.features),
        exclude=list(row.exclude),
        depends=[DependencyIn(kind=d.kind, job=d.job) for d in row.depends],
        begin_at=show.when(row.begin_at or 0),
        position=who.request.state.ledger_position,
    )
    if not private:
        return details
    words = Words()
    if row.text_sha256 and (data := await text(who, row.text_sha256)):
        words = parsed(data)
    script = await text(who, row.script_sha256) if row.script_sha256 else None
    return details.model_copy(
        update={
            "argv": list(words.argv),
            "workdir": words.workdir,
            "output_path": words.output_path,
            "comment": words.comment,
            "script": script,
            "submitted_from": row.machine,
            "request": row.request,
        }
    )


def _attempt(row: Any, *, private: bool) -> AttemptOut:
    shown = AttemptOut(
        attempt=row.attempt,
        nodes=list(row.nodes),
        placed_at=show.at(row.placed_at),
        started_at=show.when(row.started_at or 0),
        ended_at=show.when(row.ended_at or 0),
        outcome=row.outcome,
        next=row.next,
        lost=list(row.lost),
        held_s=None if row.held_us is None else row.held_us / 1_000_000,
        ran_s=None if row.ran_us is None else row.ran_us / 1_000_000,
        cpu_s=None if row.cpu_us is None else row.cpu_us / 1_000_000,
        machines=[
            {"serial": m.serial, "rack": m.rack, "image": m.image, "kernel": m.kernel}
            for m in row.machines
        ],
    )
    if not private:
        return shown
    details = {
        "cause": row.cause,
        "exit_code": row.exit_code,
        "signal": row.signal,
        "detail": row.detail,
        "output_bytes": row.output.bytes if row.output else None,
    }
    return shown.model_copy(update=details)


async def former_attempts(who: Caller, job: int, before: int, owner: str) -> list[AttemptOut]:
    """The attempts of a live job that lie before the number `before`."""
    if before <= 1:
        return []
    _, attempts = await _found(who, job)
    private = may(who.subject, "job.details", owner)
    return [_attempt(a, private=private) for a in attempts if a.attempt < before]


async def owner(who: Caller, job: int) -> tuple[str, int]:
    """Whose an ended job was, and the first job of its submission."""
    found = await ask_now(who, "jobs", "show_job", job)
    if found is None:
        raise UnknownJob(f"There is no job {job} in the tables yet; ask again.")
    return found[0].user, found[0].first


async def attempts(who: Caller, job: int) -> int:
    """How many attempts an ended job had."""
    row, _ = await _found(who, job)
    count: int = row.attempts
    return count


async def printed_nothing(who: Caller, job: int, n: int) -> bool:
    """Is it on record that an attempt of an ended job printed nothing?"""
    _, attempts = await _found(who, job)
    output = next((a.output for a in attempts if a.attempt == n), None)
    return output is not None and output.bytes == 0


async def task(who: Caller, first: int, index: int) -> int:
    """The job that `FIRST_INDEX` names, now and for ever. Raises `UnknownJob`."""
    found: int | None = await ask_now(who, "jobs", "task", first, index)
    if found is None:
        raise UnknownJob(f"There is no job {first}_{index}.")
    return found


async def impact(
    who: Caller, nodes: str, since: int, until: int, stated: bool | None = None
) -> ImpactOut:
    """Whom the loss of nodes hit in a window; no nodes: any, no times: ever.

    `stated`: count whoever ran there then; None: only in an archive, whose nodes nobody watched.
    """
    try:
        names = list(expand(nodes)) if nodes else None
    except BadNodes as bad:
        raise Malformed(str(bad)) from None
    if stated is None:
        stated = who.service.archive and bool(names and since)
    if stated and not since:
        raise Malformed("A loss that is stated needs a beginning: give since=.")
    window: dict[str, Any] = {"nodes": names, "since": since or None, "until": until or None}
    found = await ask(who, "outage_impact", "impact", **window)
    users = [_hit(user) for user in found]
    if stated:
        position = who.request.state.ledger_position
        stays = await ask(who, "occupancy", "stays", **window)
        users = with_stays(users, stays, since, until or None)
        who.request.state.ledger_position = min(position, who.request.state.ledger_position)
    never: list[str] = []
    if names and not users:
        never = await ask(who, "occupancy", "never_used", nodes=names)
    return ImpactOut(
        nodes=names or [],
        since=show.when(since),
        until=show.when(until),
        stated=stated,
        users=users,
        never_used=never,
        position=who.request.state.ledger_position,
    )


async def impact_of_absences(who: Caller, since: int, until: int) -> ImpactOut:
    """Whom the master's own absences hit that were not over at `since` and began before `until`; no
    times: all of them."""
    rows = await ask(
        who, "outages", "list_outages", since=since or None, kinds=["master"], limit=MOST_ABSENCES
    )
    absences = [row for row in reversed(rows) if not until or row.since < until]
    numbers = [row.outage for row in absences]
    found = []
    if numbers:
        found = await ask(who, "outage_impact", "impact", outages=numbers, window=False)
    waiting: dict[str, int] = {}
    for row in absences:
        for user, jobs in row.waiting.items():
            waiting[user] = max(jobs, waiting.get(user, 0))
    return ImpactOut(
        nodes=[],
        since=show.when(since),
        until=show.when(until),
        users=[_hit(user) for user in found],
        absences=[
            AbsenceOut(outage=row.outage, since=show.at(row.since), until=show.at(row.until))
            for row in absences
        ],
        waiting=dict(sorted(waiting.items())),
        position=who.request.state.ledger_position,
    )


def _hit(user: Any) -> ImpactUserOut:
    return ImpactUserOut(
        user=user.user,
        account=user.account,
        jobs=[
            ImpactJobOut(
                job=job.job,
                attempt=job.attempt,
                node=job.node,
                struck_at=show.at(job.struck_at),
                restartable=job.restartable,
                lost_node_s=job.lost_us / 1_000_000,
                effect=job.effect,
                state=job.state,
            )
            for job in user.jobs
        ],
        lost_node_s=user.lost_us / 1_000_000,
        requeued=user.requeued,
        needs_owner=user.needs_owner,
    )


async def text(who: Caller, sha256: str) -> str | None:
    """A text that a user wrote, None if it was erased."""
    found = await who.running.reader.call(lambda log: log.blobs([sha256]))
    return found[sha256].decode() if sha256 in found else None
