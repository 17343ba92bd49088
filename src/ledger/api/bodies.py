"""From a submission's bytes to the command it means: bounded, strict, and the same every time."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

import msgspec
from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from ledger.api.models import JobIn
from ledger.api.problems import explain_validation
from ledger.commands import Submit
from ledger.domain.errors import Malformed, NotJson, TooLarge
from ledger.domain.submit import MAX_SPECS
from ledger.events import Blob, Dependency, JobSpec
from ledger.master.contacts import Words

MAX_BODY = 16 << 20
"""Bytes of a submission; other bodies may have `MAX_SMALL`."""

MAX_SMALL = 1 << 20
KEY = re.compile(r"^[\x21-\x7e]{1,128}$")

_ONE = TypeAdapter(JobIn)
_MANY = TypeAdapter(list[JobIn])
_RAW = TypeAdapter(list[object])
_encode = msgspec.json.Encoder().encode


class Parsed(NamedTuple):
    """A submission: the command, and the texts it speaks of by digest."""

    command: Submit
    blobs: dict[str, bytes]


async def body(request: Request, limit: int = MAX_SMALL) -> bytes:
    """The request's bytes; more than `limit` are refused before they are kept."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise TooLarge(f"The body has {length} bytes; at most {limit} are taken.")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise TooLarge(f"The body has more than {limit} bytes.")
        pieces.append(piece)
    return b"".join(pieces)


def parse(data: bytes, content_type: str, key: str, *, each: bool) -> Parsed:
    """A submission out of its body. Raises `Malformed`, `NotJson` or `TooLarge`."""
    if key and not KEY.match(key):
        raise Malformed("Idempotency-Key must be 1 to 128 visible ASCII characters.")
    jobs: Sequence[JobIn | str]
    if content_type.partition(";")[0].strip() == "application/x-ndjson":
        lines = [line for line in data.split(b"\n") if line.strip()]
        data = b"[" + b",".join(lines) + b"]"
    array = ""
    if data.lstrip()[:1] == b"[":
        jobs = _many(data, each=each)
    else:
        jobs = [_one(data)]
        array = jobs[0].array if isinstance(jobs[0], JobIn) else ""
    if len(jobs) > MAX_SPECS:
        raise TooLarge(f"A request may have {MAX_SPECS} jobs; this one has {len(jobs)}.")
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


def _many(data: bytes, *, each: bool) -> Sequence[JobIn | str]:
    try:
        return _MANY.validate_json(data)
    except ValidationError as error:
        if not each or error.errors()[0]["type"] == "json_invalid":
            raise _refusal(error) from None
    found: list[JobIn | str] = []
    for item in _RAW.validate_json(data):
        try:
            found.append(_ONE.validate_json(_encode(item)))
        except ValidationError as error:
            found.append(explain_validation(list(error.errors())))
    return found


def _refusal(error: ValidationError) -> Malformed:
    faults = error.errors()
    if faults[0]["type"] == "json_invalid":
        return NotJson(f"The body is not JSON: {faults[0]['ctx']['error']}.")
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
    return int(when.astimezone(UTC).timestamp() * 1_000_000)


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
