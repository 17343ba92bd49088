"""Routes about jobs: submitting them, looking at them, and telling them what to do."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from ledger.api import bodies, history, show
from ledger.api.auth import Caller, Who
from ledger.api.describe import JobName
from ledger.api.headers import header
from ledger.api.waiting import FRESH, as_of
from ledger.commands import Cancel, Change, Command, Hold, Release, Requeue, Submit
from ledger.domain.arrays import indices
from ledger.domain.errors import (
    Behind,
    Impossible,
    JobIsOver,
    Limited,
    Malformed,
    Refusal,
    TooBusy,
    UnknownJob,
)
from ledger.domain.explain import Heads, why
from ledger.domain.permissions import may
from ledger.domain.state import Cluster, Job
from ledger.domain.submit import Submitted
from ledger.events import JobSpec
from ledger.master.timers import Demand
from ledger.models import (
    NAME,
    ChangeIn,
    DoneOut,
    EvidenceOut,
    JobDetailOut,
    JobOut,
    JobsOut,
    NoteIn,
    SubmittedOut,
    WhyOut,
)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_encode = msgspec.json.Encoder().encode
OptionalFilter = Annotated[str, Query(max_length=64, pattern=f"^$|{NAME}")]

# JSON lines stand in the words only: generators of clients know no such body, and would leave out
# the route, or make one that fails on a list.
_SUBMIT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/JobIn"},
                        {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 10_000,
                            "items": {"$ref": "#/components/schemas/JobIn"},
                        },
                    ]
                }
            },
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 128},
            "description": "Repeating a request under its key gives the first answer again.",
        }
    ],
}


@router.post(
    "",
    status_code=201,
    response_model=SubmittedOut,
    responses={200: {"model": SubmittedOut, "description": "The answer of the first time"}},
    openapi_extra=_SUBMIT_BODY,
)
async def submit(
    who: Who,
    items: Annotated[str, Query(pattern="^(atomic|each)$")] = "atomic",
) -> Response:
    """Queue one job, an array, or up to 10,000 jobs as a JSON list, or as JSON lines if the
    Content-Type is `application/x-ndjson`.

    `items=each` accepts what can be accepted item by item. 201, or 200 for a repeated request.
    """
    running = who.running
    who.demand("submit")
    data = await who.request.body()
    kind = header(who.request.scope, b"content-type")
    parsed = bodies.parse(
        data,
        "application/json" if kind is None else kind,
        header(who.request.scope, b"idempotency-key") or "",
        each=items == "each",
    )
    try:
        outcome = await running.master.ask_one(
            who.subject, parsed.command, via=who.via, request=who.id, blobs=parsed.blobs
        )
    except (Limited, Impossible) as refusal:
        _count_refused(who, parsed.command, refusal)
        raise
    running.texts.remember(parsed.blobs)
    reply: Submitted = outcome.reply
    body = {
        "first_job": reply.first_job,
        "count": reply.count,
        "items": reply.items,
        "not_accepted": [n._asdict() for n in reply.not_accepted],
        "repeated": reply.repeated,
        "position": running.master.head.position,
    }
    headers = {"Location": f"/v1/jobs/{reply.first_job}"}
    status = 200 if reply.repeated else 201
    return Response(_encode(body), status, headers, "application/json")


def _count_refused(who: Caller, command: Submit, refusal: Refusal) -> None:
    """Demand that a limit or the cluster's size refused is demand all the same."""
    specs = [s for s in command.specs if isinstance(s, JobSpec)]
    if specs and not isinstance(refusal, TooBusy):
        what = Demand(who.subject.name, specs[0].account, specs[0].pool, refusal.code)
        tasks = len(indices(command.array)) if command.array else 1
        seconds = sum(s.nodes * s.time_limit_s for s in specs) * tasks
        who.running.refused.add(what, len(specs) * tasks, min(seconds, 2**53))


@router.get("", dependencies=FRESH)
async def list_jobs(
    who: Who,
    scope: Annotated[str, Query(pattern="^(live|all)$")] = "live",
    user: OptionalFilter = "",
    account: OptionalFilter = "",
    pool: OptionalFilter = "",
    node: OptionalFilter = "",
    state: Annotated[str, Query(max_length=200, pattern="^[a-z_,]*$")] = "",
    name: Annotated[str, Query(max_length=200)] = "",
    since: Annotated[str, Query(max_length=40)] = "",
    until: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
    cursor: Annotated[str, Query(max_length=15, pattern="^[0-9]*$")] = "",
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "asc",
) -> JobsOut:
    """Jobs, a page at a time: those that live, or all there ever were; also as it was once.

    `since`, `until`: those that were in the system at some time from the one on and before the
    other.
    """
    who.demand("job.see")
    asked = history.Filter(
        user=user,
        account=account,
        pool=pool,
        node=node,
        states=tuple(s for s in state.split(",") if s),
        name=name,
        since=history.micros(since),
        until=history.micros(until),
        limit=limit,
        cursor=int(cursor) if cursor else 0,
        ascending=order == "asc",
    )
    told = who.service.archive or not as_of(who.request).present  # not out of the master's state
    if told and scope == "live" and not asked.states:
        asked = asked._replace(states=("pending", "running"))
    if scope == "all" or told:
        return await history.list_jobs(who, asked)
    cluster = await who.running.master.settled()
    return _live_page(cluster, who, asked)


def _live_page(cluster: Cluster, who: Caller, asked: history.Filter) -> JobsOut:
    heads = Heads(cluster, who.running.master.now())
    ids = sorted(cluster.jobs, reverse=not asked.ascending)
    page: list[JobOut] = []
    for job_id in ids:
        if asked.cursor and (job_id <= asked.cursor) == asked.ascending:
            continue
        if job_id == asked.cursor:
            continue
        job = cluster.jobs[job_id]
        if not _matches(job, asked, who):
            continue
        if len(page) == asked.limit:
            return JobsOut(jobs=page, next=str(page[-1].job), position=cluster.position)
        page.append(show.live_job(cluster, job, heads, who))
    return JobsOut(jobs=page, next=None, position=cluster.position)


def _matches(job: Job, asked: history.Filter, who: Caller) -> bool:
    """Is a live job one of those asked for? It has not ended, so it fits every `since`."""
    return (
        (not asked.user or job.user == asked.user)
        and (not asked.account or job.spec.account == asked.account)
        and (not asked.pool or job.spec.pool == asked.pool)
        and (not asked.states or job.state in asked.states)
        and (not asked.node or (job.attempt is not None and asked.node in job.attempt.nodes))
        and (not asked.until or job.submitted_at < asked.until)
        and (
            not asked.name
            or (job.spec.name == asked.name and may(who.subject, "job.details", job.user))
        )
    )


async def job_number(who: Caller, text: str) -> int:
    """The id that `17` or `17_3` names. Raises `Malformed` or `UnknownJob`."""
    first, underscore, index = text.partition("_")
    if not _is_id(first) or (underscore and not _is_id(index)):
        raise Malformed(f"{text[:40]!r} is not a job: write 17, or 17_3 for a task of an array.")
    if not underscore:
        return int(first)
    cluster = await who.running.master.settled()
    leader = cluster.jobs.get(int(first))
    if leader is not None and leader.index >= 0:
        job_id = _task(cluster, int(first), int(index))
        if job_id:
            return job_id
    return await history.task(who, int(first), int(index))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


def _task(cluster: Cluster, first: int, index: int) -> int:
    job_id = first
    while (job := cluster.jobs.get(job_id)) is not None and job.first == first:
        if job.index == index:
            return job_id
        job_id += 1
    return 0


@router.get("/{job}", dependencies=FRESH)
async def show_job(who: Who, job: JobName) -> JobDetailOut:
    """One job with all its attempts, now or as it was once; what its owner wrote only for him and
    for operators."""
    who.demand("job.see")
    job_id = await job_number(who, job)
    if not as_of(who.request).present:
        return await history.show_job(who, job_id)
    cluster = await who.running.master.settled()
    live = cluster.jobs.get(job_id)
    if live is None:
        if not cluster.exists(job_id):
            raise UnknownJob(f"There is no job {job_id}.")
        return await history.show_job(who, job_id)
    words = script = None
    heads = Heads(cluster, who.running.master.now())
    details = show.live_detail(cluster, live, heads, who, None, None)
    if may(who.subject, "job.details", live.user):
        words = await who.running.texts.words(live)
        if live.spec.script is not None:
            script = await history.text(who, live.spec.script.sha256)
        details = details.model_copy(
            update={
                "argv": list(words.argv),
                "workdir": words.workdir,
                "output_path": words.output_path,
                "comment": words.comment,
                "script": script,
            }
        )
    before = live.attempts if live.attempt is not None else live.attempts + 1
    try:
        former = await history.former_attempts(who, job_id, before, live.user)
    except Behind as behind:
        return details.model_copy(update={"incomplete": behind.sentence})
    return details.model_copy(update={"attempts": [*former, *details.attempts]})


@router.get("/{job}/why")
async def why_job(who: Who, job: JobName) -> WhyOut:
    """Why a live job waits: token, sentence, evidence, computed now."""
    who.demand("job.see")
    job_id = await job_number(who, job)
    cluster = await who.running.master.settled()
    if (ended := cluster.outcome(job_id)) is not None:
        raise JobIsOver(
            f"Job {job_id} does not wait: it is {ended}.",
            hint=f"`jobledger show {job_id}` says how.",
        )
    answer = why(cluster, job_id, who.running.master.now())
    return WhyOut(
        job=answer.job,
        state=answer.state,
        reason=answer.reason,
        sentence=answer.sentence,
        evidence=[EvidenceOut(what=row.what, found=row.found) for row in answer.evidence],
        advice=list(answer.advice),
        ahead=answer.ahead,
        ahead_jobs=list(answer.ahead_jobs),
        ahead_node_s=answer.ahead_node_s,
        position=answer.position,
        policy=answer.policy,
        at=show.at(answer.now),
    )


@router.post("/{job}/cancel")
async def cancel(who: Who, job: JobName, body: NoteIn) -> DoneOut:
    """End a pending job, or stop a running one."""
    note, blobs = bodies.note_blob(body.note)
    return await _tell(who, Cancel(job=await job_number(who, job), note=note), blobs)


@router.post("/{job}/hold")
async def hold(who: Who, job: JobName, body: NoteIn) -> DoneOut:
    """Keep a pending job from starting."""
    note, blobs = bodies.note_blob(body.note)
    return await _tell(who, Hold(job=await job_number(who, job), note=note), blobs)


@router.post("/{job}/release")
async def release(who: Who, job: JobName, body: NoteIn) -> DoneOut:
    """Lift a hold."""
    return await _tell(who, Release(job=await job_number(who, job)), {})


@router.post("/{job}/requeue")
async def requeue(who: Who, job: JobName, body: NoteIn) -> DoneOut:
    """Stop a running, restartable job and let it wait again."""
    note, blobs = bodies.note_blob(body.note)
    return await _tell(who, Requeue(job=await job_number(who, job), note=note), blobs)


@router.patch("/{job}")
async def change(who: Who, job: JobName, body: ChangeIn) -> DoneOut:
    """Change what a live job asks for."""
    note, blobs = bodies.note_blob(body.note)
    command = Change(
        job=await job_number(who, job),
        restartable=body.restartable,
        time_limit_s=body.time_limit_s,
        note=note,
    )
    return await _tell(who, command, blobs)


async def _tell(who: Caller, command: Command, blobs: dict[str, bytes]) -> DoneOut:
    running = who.running
    job_id: int = command.job  # type: ignore[attr-defined]
    before = (await running.master.settled()).jobs.get(job_id)
    outcome = await running.master.ask_one(
        who.subject, command, via=who.via, request=who.id, blobs=blobs
    )
    cluster: Cluster = await running.master.settled()
    live = cluster.jobs.get(job_id)
    return DoneOut(
        job=job_id,
        array=show.task_name(before) if before is not None else "",
        state=live.state if live is not None else (cluster.outcome(job_id) or ""),
        changed=bool(outcome.events),
        position=running.master.head.position,
    )
