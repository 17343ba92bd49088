"""Routes that answer: a job's events, its output, its end, whom an outage hit, the log itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from ledger.api import history, past, show
from ledger.api.auth import Caller, Who
from ledger.api.describe import LAST_EVENT, LINES, OUTPUT, STREAM, JobName
from ledger.api.jobs import job_number
from ledger.api.waiting import FRESH, WAITS
from ledger.domain.errors import Forbidden, Malformed, OutputGone, UnknownJob
from ledger.domain.explain import Heads
from ledger.domain.permissions import demand
from ledger.domain.state import Cluster, Job
from ledger.events import AttemptEnded, JobEnded, Recorded
from ledger.models import ImpactOut, JobOut
from ledger.store.log import Log

router = APIRouter(prefix="/v1", tags=["answers"])

MAX_WAIT_S = 60.0
PAGE_BYTES = 512 << 10
KEEP_ALIVE_S = 15.0

_encode = msgspec.json.Encoder().encode


def line_of(r: Recorded) -> bytes:
    """A recorded event as a JSON object."""
    return _encode(
        {
            "position": r.position,
            "commit": r.commit,
            "at": show.at(r.at).isoformat().replace("+00:00", "Z"),
            "epoch": r.epoch,
            "stream": r.stream,
            "name": r.event.name,
            "by": r.envelope.by,
            "via": r.envelope.via,
            "request": r.envelope.request,
            "event": r.event,
        }
    )


@router.get("/jobs/{job}/events", response_class=Response, responses=LINES, dependencies=FRESH)
async def job_events(who: Who, job: JobName) -> Response:
    """Everything that ever happened to a job, one event a line, as JSON lines or, if asked for so,
    as plain text. Its owner's and operators'. As of a time or position: up to there."""
    job_id = await job_number(who, job)
    cluster = await who.running.master.settled()
    owner, first = await _owner(who, cluster, job_id)
    demand(who.subject, "job.details", owner)
    moment = await past.then(who)

    def read(log: Log) -> list[Recorded]:
        found = [r for r in log.read_stream(f"job-{first}") if first == job_id or _submits(r)]
        if first != job_id:
            found += log.read_stream(f"job-{job_id}")
        return [r for r in found if moment is None or r.position <= moment.position]

    events = await who.running.reader.call(read)
    plain = "text/plain" in who.request.headers.get("accept", "")
    media = "text/plain" if plain else "application/x-ndjson"
    return Response(b"".join(line_of(r) + b"\n" for r in events), media_type=media)


def _submits(r: Recorded) -> bool:
    return r.event.name.startswith("job.submitted.")


async def _owner(who: Caller, cluster: Cluster, job_id: int) -> tuple[str, int]:
    """Whose job it is, and the first job of its submission."""
    live = cluster.jobs.get(job_id)
    if live is not None:
        return live.user, live.first
    if not cluster.exists(job_id):
        raise UnknownJob(f"There is no job {job_id}.")
    return await history.owner(who, job_id)


@router.get("/jobs/{job}/wait", dependencies=WAITS)
async def wait_job(
    who: Who, job: JobName, timeout_s: Annotated[float, Query(ge=0, le=3600)] = 60.0
) -> JobOut:
    """Answer as soon as the job has ended, or after `timeout_s` (60 at most) as it is then."""
    who.demand("job.see")
    job_id = await job_number(who, job)
    cluster: Cluster = await who.running.master.settled()
    bells = who.running.bells
    bell = bells.subscribe(job_id)
    try:
        live = cluster.jobs.get(job_id)
        if live is None:
            if not cluster.exists(job_id):
                raise UnknownJob(f"There is no job {job_id}.")
            return await history.show_job(who, job_id)
        shown = _now(who, cluster, live)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(timeout_s, MAX_WAIT_S)
        master = who.running.master
        while job_id not in bells.ends and loop.time() < deadline and master.accepting:
            bell.clear()
            try:
                await asyncio.wait_for(bell.wait(), deadline - loop.time())
            except TimeoutError:
                break
        cluster = await master.settled()
        if (live := cluster.jobs.get(job_id)) is not None:
            return _now(who, cluster, live)
        return _ended(shown, bells.ends[job_id])
    finally:
        bells.unsubscribe(job_id, bell)


def _now(who: Caller, cluster: Cluster, job: Job) -> JobOut:
    return show.live_job(cluster, job, Heads(cluster, who.running.master.now()), who)


def _ended(before: JobOut, end: Recorded) -> JobOut:
    """A job as it was shown while it lived, and how it ended."""
    event = end.event
    assert isinstance(event, AttemptEnded | JobEnded)
    told: dict[str, object] = {
        "state": event.state,
        "reason": "",
        "stopping": False,
        "out_of_contact_since": None,
        "ended_at": show.at(end.at),
    }
    if isinstance(event, AttemptEnded):
        told["nodes"] = list(event.nodes)
        told["attempt"] = event.attempt
        told["started_at"] = show.when(event.started_at)
    if before.name is not None:
        told["cause"] = event.cause
        told["exit_code"] = event.exit_code if isinstance(event, AttemptEnded) else None
    return before.model_copy(update=told)


@router.get("/jobs/{job}/output", response_class=Response, responses=OUTPUT, dependencies=WAITS)
async def job_output(
    who: Who,
    job: JobName,
    attempt: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    offset: Annotated[int, Query(ge=0, le=2**40)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=60)] = 0.0,
) -> Response:
    """What an attempt (0: the last one) has printed behind `offset`, as plain text.

    With `wait_s`, waits for more while the attempt runs. `Output-Ended` says that there will be
    no more, `Output-Next-Offset` where to go on.
    """
    job_id = await job_number(who, job)
    cluster: Cluster = await who.running.master.settled()
    owner, _ = await _owner(who, cluster, job_id)
    demand(who.subject, "job.details", owner)
    n = attempt or await _last_attempt(who, cluster, job_id)
    bell = who.running.bells.subscribe(job_id)
    try:
        chunk, ended = await _output_now(who, job_id, n, offset)
        if not chunk and not ended and wait_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), wait_s)
            chunk, ended = await _output_now(who, job_id, n, offset)
    finally:
        who.running.bells.unsubscribe(job_id, bell)
    headers = {
        "Output-Attempt": str(n),
        "Output-Next-Offset": str(offset + len(chunk)),
        "Output-Ended": "true" if ended and not chunk else "false",
        "Content-Disposition": f'attachment; filename="job-{job_id}-{n}.txt"',
    }
    return Response(chunk, 200, headers, "text/plain; charset=utf-8")


async def _last_attempt(who: Caller, cluster: Cluster, job_id: int) -> int:
    live = cluster.jobs.get(job_id)
    if live is not None:
        return live.attempts
    return await history.attempts(who, job_id)


async def _output_now(who: Caller, job_id: int, n: int, offset: int) -> tuple[bytes, bool]:
    cluster: Cluster = await who.running.master.settled()
    live = cluster.jobs.get(job_id)
    ended = live is None or (live.attempts > n or (live.attempts == n and live.attempt is None))
    try:
        chunk = await asyncio.to_thread(who.running.outputs.read, job_id, n, offset)
    except OutputGone:
        if live is None and offset == 0 and not await history.printed_nothing(who, job_id, n):
            raise
        chunk = b""
    return chunk, ended and n > 0


@router.get("/impact", dependencies=FRESH)
async def impact(
    who: Who,
    nodes: Annotated[str, Query(max_length=4_000)] = "",
    since: Annotated[str, Query(max_length=40)] = "",
    until: Annotated[str, Query(max_length=40)] = "",
    stated: bool | None = None,
    master: bool = False,
) -> ImpactOut:
    """Whose jobs were interrupted by the loss of these nodes (all of them if none is named) in
    this window; with `master`, by the master's own absences. Users see themselves, operators
    everybody.

    With `stated` the nodes were lost then because the asker says so: whoever ran there counts,
    also where no loss is on record. Left out: only in an archive, of nodes that are named and a
    window that has a beginning, since an imported history records no silence."""
    if who.subject.role not in ("user", "operator", "system"):
        raise Forbidden("Nodes have no business here.")
    window = history.micros(since), history.micros(until)
    if not master:
        answer = await history.impact(who, nodes, *window, stated)
    elif nodes or stated:
        raise Malformed("The master's absence has no nodes, and is on record: leave these out.")
    else:
        answer = await history.impact_of_absences(who, *window)
    if who.subject.role == "operator":
        return answer
    own = [user for user in answer.users if user.user == who.subject.name]
    waiting = {user: n for user, n in answer.waiting.items() if user == who.subject.name}
    return answer.model_copy(update={"users": own, "waiting": waiting})


@router.get("/events", response_class=Response, responses=STREAM, openapi_extra=LAST_EVENT)
async def events(
    who: Who,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    follow: bool = False,
) -> StreamingResponse:
    """The event stream behind a position: JSON lines, or server-sent events if asked for so.

    The id of a server-sent event is its position; `Last-Event-ID` goes on there.
    """
    who.demand("log.read")
    sse = "text/event-stream" in who.request.headers.get("accept", "")
    last = who.request.headers.get("last-event-id", "")
    if sse and last.isascii() and last.isdigit() and len(last) <= 15:
        after = int(last)
    media = "text/event-stream" if sse else "application/x-ndjson"
    return StreamingResponse(_stream(who, after, follow=follow or sse, sse=sse), media_type=media)


async def _stream(who: Caller, after: int, *, follow: bool, sse: bool) -> AsyncIterator[bytes]:
    master = who.running.master
    changed = asyncio.Event()
    forget = master.listen(lambda _: changed.set())
    try:
        while True:
            changed.clear()
            # Asked before the head is: nothing is appended behind the head of one that has ended.
            ends = not follow or master.failed or not master.accepting
            head = master.head.position
            while after < head:
                page, after = await who.running.reader.call(partial(_page, after=after, sse=sse))
                yield page
            if ends:
                return
            try:
                await asyncio.wait_for(changed.wait(), KEEP_ALIVE_S)
            except TimeoutError:
                yield b": still here\n\n" if sse else b"\n"
    finally:
        forget()


def _page(log: Log, after: int, *, sse: bool) -> tuple[bytes, int]:
    """Events behind `after` (any position), about `PAGE_BYTES` of them, and where to go on.

    That much is kept in memory for a client that takes its time.
    """
    found = bytearray()
    upto = log.head().position  # asked first: what is appended while we read is for the next page
    for r in log.read(after=log.commit_before(after), upto=upto):
        if r.position <= after:
            continue
        found += _framed(r, sse=sse)
        if len(found) >= PAGE_BYTES:
            return bytes(found), r.position
    return bytes(found), max(after, upto)


def _framed(r: Recorded, *, sse: bool) -> bytes:
    line = line_of(r)
    if sse:
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (r.position, r.event.name.encode(), line)
    return line + b"\n"
