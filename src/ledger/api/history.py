"""Answers out of the projections: what has ended, and what happened when.

A read is at least as new as the head of the log was when it arrived, if the projection gets there
within two seconds; `Ledger-Position` and `Ledger-Lag` say what it is. `?at_least=N` insists on a
position, `?stale=ok` waits for none.
"""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ClusterShell.NodeSet import (  # type: ignore[import-untyped]
    RESOLVER_NOGROUP,
    NodeSet,
    NodeSetException,
)

from ledger.api import show
from ledger.api.auth import Caller
from ledger.api.waiting import PATIENCE_S, freshness
from ledger.domain.errors import Behind, Malformed, UnknownJob
from ledger.domain.permissions import may
from ledger.master.texts import Words, parsed
from ledger.models import (
    AttemptOut,
    DependencyIn,
    ImpactJobOut,
    ImpactOut,
    ImpactUserOut,
    JobDetailOut,
    JobOut,
    JobsOut,
)
from ledger.projection.reader import Unavailable

MAX_NODES = 100_000
_NODES = re.compile(r"[A-Za-z0-9._,/\[\]-]+")
_BETWEEN = re.compile(r",(?![^\[]*\])")
_GROUP = re.compile(r"\[([^\]]*)\]")
_SPAN = re.compile(r"(\d+)-(\d+)")


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


def micros(text: str) -> int:
    """A time of a query as µs, 0 for none. Raises `Malformed`."""
    if not text:
        return 0
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(f"{text!r} is not a time: write 2026-11-20T10:00:00Z.") from None
    if when.tzinfo is None or not 1970 <= when.year < 3000:
        raise Malformed(f"{text!r}: give a time with its zone, such as 2026-11-20T10:00:00Z.")
    return int(when.astimezone(UTC).timestamp() * 1_000_000)


async def _ask(who: Caller, projection: str, query: str, *args: Any, **kwargs: Any) -> Any:
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
    rows, cursor = await _ask(
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
    found = await _ask(who, "jobs", "show_job", job)
    if found is None:
        raise UnknownJob(f"There is no job {job} in the tables yet; ask again.")
    row, attempts = found
    return row, attempts


async def show_job(who: Caller, job: int) -> JobDetailOut:
    """A job that has ended, with all its attempts."""
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
    row, _ = await _found(who, job)
    return row.user, row.first


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
    """The job that `FIRST_INDEX` names. Raises `UnknownJob`."""
    found: int | None = await _ask(who, "jobs", "task", first, index)
    if found is None:
        raise UnknownJob(f"There is no job {first}_{index}.")
    return found


async def impact(who: Caller, nodes: str, since: int, until: int) -> ImpactOut:
    """Whom the loss of nodes hit in a window; no nodes: any, no times: ever."""
    names = expand(nodes) if nodes else None
    users = await _ask(
        who,
        "outage_impact",
        "impact",
        nodes=names,
        since=since or None,
        until=until or None,
    )
    return ImpactOut(
        nodes=names or [],
        since=show.when(since),
        until=show.when(until),
        users=[_hit(user) for user in users],
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


def expand(nodes: str) -> list[str]:
    """The names in `n3,n[7-9]`, in order. Raises `Malformed`, before anything is expanded that
    would be too much; node groups, which are looked up by running programs, are none of it."""
    if not _NODES.fullmatch(nodes):
        raise Malformed(f"{nodes[:80]!r} is not a list of nodes: write n3,n[7-9].")
    if sum(_at_most(piece) for piece in _BETWEEN.split(nodes)) > MAX_NODES:
        raise Malformed(f"At most {MAX_NODES} nodes can be asked for at once.")
    try:
        return list(NodeSet(nodes, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise Malformed(f"{nodes[:80]!r} is not a list of nodes: {error}.") from None


def _at_most(piece: str) -> int:
    """How many names `n[1-4]x[1-9]` has, or more."""
    names = 1
    for group in _GROUP.findall(piece):
        names *= sum(
            max(1, int(span[2]) - int(span[1]) + 1) if (span := _SPAN.match(part)) else 1
            for part in group.split(",")
        )
    return names


async def text(who: Caller, sha256: str) -> str | None:
    """A text that a user wrote, None if it was erased."""
    found = await who.running.reader.call(lambda log: log.blobs([sha256]))
    return found[sha256].decode() if sha256 in found else None
