"""Routes for agents: joining, the one long poll, and what jobs print."""

import asyncio
import re
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Response

from ledger.api.auth import Who
from ledger.api.describe import BINARY, NodeName, wire
from ledger.commands import Enrol
from ledger.domain.errors import Forbidden, Malformed, NotJson
from ledger.domain.state import Cluster
from ledger.events import AttemptPlaced
from ledger.master.identity import make_token
from ledger.models import NAME
from ledger.store.log import Log
from ledger.wire import EnrolReply, EnrolRequest, SyncReply, SyncRequest

router = APIRouter(prefix="/v1/agents", tags=["agents"])

MAX_FEATURES = 32

_name = re.compile(NAME)
_encode = msgspec.json.Encoder().encode
_decode_sync = msgspec.json.Decoder(SyncRequest).decode
_decode_enrol = msgspec.json.Decoder(EnrolRequest).decode
_BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": BINARY},
    }
}


@router.post(
    "/{node}/enrol",
    status_code=201,
    response_class=Response,
    **wire(EnrolRequest, EnrolReply, 201),
)
async def enrol(who: Who, node: NodeName) -> Response:
    """Let a machine join as `node`; the answer holds its own token, once (wire.EnrolReply)."""
    who.demand("node.enrol", node)
    if not _name.fullmatch(node):
        raise Malformed(f"{node[:64]!r} is no name for a node.")
    asked = _decoded(_decode_enrol, await who.request.body())
    if len(asked.features) > MAX_FEATURES:
        raise Malformed(f"A node may have {MAX_FEATURES} features.")
    for label in (asked.pool, *asked.features):
        if not _name.fullmatch(label):
            raise Malformed(f"{label[:64]!r} is no name for a pool or a feature.")
    for line in (asked.serial, asked.rack, asked.switch, asked.power, asked.boot_id):
        _plain(line)
    token = make_token()
    command = Enrol(
        node=node,
        pool=asked.pool,
        serial=asked.serial,
        rack=asked.rack,
        switch=asked.switch,
        power=asked.power,
        features=tuple(sorted(set(asked.features))),
        cpus=_counted(asked.facts.cpus),
        memory_bytes=_counted(asked.facts.memory_bytes),
        boot_id=asked.boot_id,
        token=token.id,
        sha256=token.sha256,
    )
    await who.running.master.ask_one(who.subject, command, via=who.via, request=who.id)
    reply = EnrolReply(node=node, token=token.secret)
    return Response(_encode(reply), 201, media_type="application/json")


@router.post("/{node}/sync", response_class=Response, **wire(SyncRequest, SyncReply, 200))
async def sync(who: Who, node: NodeName) -> Response:
    """Reports in, orders out: wire.SyncRequest and wire.SyncReply."""
    who.demand("node.speak", node)
    asked = _decoded(_decode_sync, await who.request.body())
    for line in (
        asked.spool,
        asked.boot_id,
        asked.build,
        asked.facts.image,
        asked.facts.kernel,
        asked.facts.packages_sha256,
        asked.seen.incarnation,
        asked.seen.hash,
        asked.cannot_record,
        *(report.cause for report in asked.reports),
        *(report.output.sha256 for report in asked.reports if report.output is not None),
    ):
        _plain(line)
    _bounded(asked)
    reply = await who.running.contacts.sync(who.subject, node, asked, who.via, who.id)
    return Response(_encode(reply), media_type="application/json")


@router.post("/{node}/output/{job}/{attempt}", openapi_extra=_BYTES)
async def keep_output(
    who: Who,
    node: NodeName,
    job: Annotated[int, Path(ge=1, le=2**53)],
    attempt: Annotated[int, Path(ge=1, le=1_000_000)],
    offset: Annotated[int, Query(ge=0, le=2**40)] = 0,
) -> dict[str, int]:
    """Keep a chunk of what an attempt printed. Repeating it changes nothing."""
    who.demand("node.speak", node)
    cluster: Cluster = await who.running.master.settled()
    if not cluster.exists(job):
        raise Malformed(f"There is no attempt {attempt} of job {job}.")
    live = cluster.jobs.get(job)
    current = live is not None and live.attempt is not None and live.attempt.n == attempt
    if current:
        leader = live.attempt.nodes[0]  # type: ignore[union-attr]
    else:
        leader = await who.running.reader.call(lambda log: _led_by(log, job, attempt))
    if leader != node:
        raise Forbidden(f"Attempt {attempt} of job {job} is not led by {node}.")
    chunk = await who.request.body()
    size = await asyncio.to_thread(who.running.outputs.write, job, attempt, offset, chunk)
    who.running.bells.ring(job)
    return {"size": size}


def _led_by(log: Log, job: int, attempt: int) -> str:
    """Who led an attempt that is over; "" if there never was one."""
    for recorded in log.read_stream(f"job-{job}"):
        if isinstance(recorded.event, AttemptPlaced) and recorded.event.attempt == attempt:
            return recorded.event.nodes[0]
    return ""


def _decoded(decode: Any, data: bytes) -> Any:
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        raise Malformed(f"The body is not what it should be: {error}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(f"The body is not JSON: {error}.") from None


def _plain(line: str) -> None:
    if len(line) > 300 or not line.isprintable():
        raise Malformed(f"{line[:40]!r} has control characters, or more than 300 characters.")


def _bounded(sync: SyncRequest) -> None:
    """Numbers that will be stored must be such as every store can hold."""
    numbers = [sync.protocol, sync.seen.epoch, sync.seen.position]
    for r in sync.reports:
        numbers += [r.job, r.attempt, r.exit_code or 0, r.signal or 0, r.ran_us, r.cpu_us or 0]
        if r.output is not None:
            numbers += [r.output.bytes, r.output.kept]
    if any(abs(number) >= 2**53 for number in numbers):
        raise Malformed("A number in the call is beyond 53 bits.")


def _counted(number: int) -> int:
    if not 0 <= number < 2**53:
        raise Malformed("cpus and memory_bytes must be sensible numbers.")
    return number
