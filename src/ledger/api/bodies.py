"""From a submission's bytes to the command it means: bounded, strict, and the same every time."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, NamedTuple

import msgspec
from pydantic import FailFast, Field, TypeAdapter, ValidationError
from starlette.types import Message, Receive, Scope

from ledger.api.headers import header
from ledger.api.problems import explain_validation
from ledger.commands import Submit
from ledger.domain.errors import Malformed, NotJson, TooLarge, TooSlow
from ledger.domain.submit import MAX_SPECS
from ledger.events import Blob, Dependency, JobSpec
from ledger.master.texts import Words
from ledger.models import JobIn

MAX_BODY = 16 << 20
"""Bytes of a submission; other bodies may have `MAX_SMALL`."""

MAX_SMALL = 1 << 20
MAX_FAULTS = 1_000
KEY = re.compile(r"^[\x21-\x7e]{1,128}$")

BODY_S, BODY_RATE = 10.0, 10_000
"""Seconds that a body may take, and bytes that give it one more."""

MAX_CHUNK = 4 << 20
"""Bytes of a piece of output."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ONE = TypeAdapter(JobIn)
_MANY = TypeAdapter(Annotated[list[JobIn], Field(max_length=MAX_SPECS), FailFast()])
_RAW = TypeAdapter(Annotated[list[object], Field(max_length=MAX_SPECS), FailFast()])
_encode = msgspec.json.Encoder().encode


class Parsed(NamedTuple):
    """A submission: the command, and the texts it speaks of by digest."""

    command: Submit
    blobs: dict[str, bytes]


def limited(scope: Scope, receive: Receive) -> Receive:
    """`receive` that raises `TooLarge` once a body is longer than its route takes, and `TooSlow`
    where it comes more slowly than `BODY_RATE`, after `BODY_S` for nothing."""
    path: str = scope["path"]
    limit = MAX_SMALL
    if path == "/v1/jobs":
        limit = MAX_BODY
    elif path.startswith("/v1/agents/") and "/output/" in path:
        limit = MAX_CHUNK
    length = header(scope, b"content-length") or "0"
    size, due, more = 0, asyncio.get_running_loop().time() + BODY_S, True

    async def next_piece() -> Message:
        nonlocal size, more
        if length.isdigit() and int(length) > limit:
            raise TooLarge(f"The body has {length} bytes; at most {limit} are taken.")
        if not more:  # nothing but the client's going can come
            return await receive()
        try:
            async with asyncio.timeout_at(due + size / BODY_RATE):
                message = await receive()
        except TimeoutError:
            raise TooSlow(f"Of the body, {size} bytes came, and then nothing in time.") from None
        more = bool(message.get("more_body", False))
        size += len(message.get("body", b""))
        if size > limit:
            raise TooLarge(f"The body has more than {limit} bytes.")
        return message

    return next_piece


def parse(data: bytes, content_type: str, key: str, *, each: bool) -> Parsed:
    """A submission out of its body. Raises `Malformed`, `NotJson` or `TooLarge`."""
    if key and not KEY.match(key):
        raise Malformed("Idempotency-Key must be 1 to 128 visible ASCII characters.")
    jobs: Sequence[JobIn | str]
    array = ""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-ndjson":
        jobs = _lines(data, each=each)
    elif kind != "application/json":
        raise NotJson(f"The Content-Type {kind[:80]!r} is not one that is understood here.")
    elif data.lstrip()[:1] == b"[":
        jobs = _many(data, each=each)
    else:
        jobs = [_one(data)]
        array = jobs[0].array if isinstance(jobs[0], JobIn) else ""
    blobs: dict[str, bytes] = {}
    specs = tuple(_item(job, blobs, alone=bool(array), each=each) for job in jobs)
    command = Submit(
        specs=specs, array=array, key=key, body_sha256=_digest(specs, array, each), each=each
    )
    return Parsed(command, blobs)


def _one(data: bytes) -> JobIn:
    try:
        return _ONE.validate_json(data)
    except ValidationError as error:
        raise _refusal(error) from None


def _lines(data: bytes, *, each: bool) -> Sequence[JobIn | str]:
    lines = [line for line in data.split(b"\n") if line.strip()]
    if len(lines) > MAX_SPECS:
        raise _too_many()
    found: list[JobIn | str] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_one(line))
        except Malformed as fault:
            if not each:
                raise type(fault)(f"Line {number}: {fault.sentence}") from None
            found.append(fault.sentence)
    return found


def _too_many() -> TooLarge:
    return TooLarge(f"A request may have {MAX_SPECS} jobs; this one has more.")


def _many(data: bytes, *, each: bool) -> Sequence[JobIn | str]:
    try:
        return _MANY.validate_json(data)
    except ValidationError as error:
        refusal = _refusal(error)
        if not each or isinstance(refusal, NotJson | TooLarge):
            raise refusal from None
    try:
        items = _RAW.validate_json(data)
    except ValidationError as error:
        raise _refusal(error) from None
    found: list[JobIn | str] = []
    for item in items:
        try:
            found.append(_ONE.validate_python(item))
        except ValidationError as error:
            found.append(_refusal(error).sentence)
    return found


def _refusal(error: ValidationError) -> Malformed:
    if error.error_count() > MAX_FAULTS:  # listing a million would take longer than finding them
        return Malformed(f"The body has {error.error_count()} faults.")
    faults = error.errors(include_input=False, include_url=False)
    if faults[0]["type"] == "json_invalid":
        return NotJson(f"The body is not JSON: {faults[0]['ctx']['error']}.")
    if faults[0]["type"] == "too_long" and not faults[0]["loc"]:
        return _too_many()
    return Malformed(explain_validation(list(faults)))


def _item(job: JobIn | str, blobs: dict[str, bytes], *, alone: bool, each: bool) -> JobSpec | str:
    fault = job if isinstance(job, str) else ""
    if isinstance(job, JobIn):
        if not job.argv and not job.script:
            fault = "There is nothing to run: give `argv`, or a `script`."
        elif job.array and not alone:
            fault = "An array must be submitted alone, not in a list."
        else:
            return spec_of(job, blobs)
    if not each:
        raise Malformed(fault)
    return fault


def spec_of(job: JobIn, blobs: dict[str, bytes]) -> JobSpec:
    """What the log keeps of a job; its texts are added to `blobs`."""
    words = Words(
        argv=job.argv, workdir=job.workdir, output_path=job.output_path, comment=job.comment
    )
    begin_at = 0
    if job.begin_at is not None:
        begin_at = _micros(job.begin_at)
    return JobSpec(
        name=job.name,
        account=job.account,
        pool=job.pool,
        qos=job.qos,
        nodes=job.nodes,
        time_limit_s=job.time_limit_s,
        restartable=job.restartable,
        features=tuple(sorted(set(job.features))),
        exclude=tuple(sorted(set(job.exclude))),
        depends=tuple(Dependency(kind=d.kind, job=d.job) for d in job.depends),
        begin_at=begin_at,
        held=job.held,
        script=_blob(job.script.encode(), blobs) if job.script else None,
        text=_blob(_encode(words), blobs),
    )


def _micros(when: datetime) -> int:
    if when.tzinfo is None:
        raise Malformed("begin_at: give a time with its zone, such as 2026-11-20T10:00:00Z.")
    if not 1970 < when.year < 3000:
        raise Malformed("begin_at: that is no year for a job.")
    return (when - EPOCH) // timedelta(microseconds=1)


def _blob(text: bytes, blobs: dict[str, bytes]) -> Blob:
    digest = sha256(text).hexdigest()
    blobs[digest] = text
    return Blob(sha256=digest, bytes=len(text))


def note_blob(note: str) -> tuple[Blob | None, dict[str, bytes]]:
    """A note as the log keeps it, and its text; None for an empty one."""
    if not note:
        return None, {}
    blobs: dict[str, bytes] = {}
    return _blob(note.encode(), blobs), blobs


def _digest(specs: Sequence[JobSpec | str], array: str, each: bool) -> str:
    """What makes two submissions the same: the decoded, canonical request."""
    return sha256(_encode([array, each, specs])).hexdigest()
