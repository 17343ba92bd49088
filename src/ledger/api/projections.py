"""The routes about projections as such: which there are, how far they are, what one is to skip."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path

from ledger.api.auth import Caller, Who
from ledger.commands import SkipProjection
from ledger.domain.errors import Malformed, UnknownProjection
from ledger.models import (
    DoneOut,
    ListedOut,
    ProjectionDetailOut,
    ProjectionsOut,
    SkipIn,
    TableOut,
    UnusedOut,
)
from ledger.projection import inventory
from ledger.projection.discover import discover
from ledger.projection.model import Projection
from ledger.projection.reader import Reader, Status, Unavailable
from ledger.store.chain import Head

router = APIRouter(prefix="/v1/projections", tags=["service"])
Name = Annotated[str, Path(pattern="^[a-z][a-z0-9_]{0,63}$")]


@router.get("")
async def list_projections(who: Who) -> ProjectionsOut:
    """All projections that are installed: how far each is, and why it stands still if it does."""
    who.demand("projection.see")
    head, reader = who.running.master.head, who.running.history
    found = await asyncio.to_thread(_listed, who, reader, head)
    left = await asyncio.to_thread(_unused, who)
    return ProjectionsOut(projections=found, unused=left, position=head.position)


@router.get("/{projection}")
async def show_projection(who: Who, projection: Name) -> ProjectionDetailOut:
    """One projection: its tables with their rows, its queries, what it was told to leave out."""
    who.demand("projection.see")
    head, reader = who.running.master.head, who.running.history
    known = reader.projections.get(projection)
    if known is None:
        raise UnknownProjection(f"There is no projection {projection}.")
    return await asyncio.to_thread(_shown, who, known, head)


@router.post("/{projection}/skip")
async def skip_projection(who: Who, projection: Name, body: SkipIn) -> DoneOut:
    """Let a projection leave out one event, for ever: live and in every rebuild."""
    who.demand("projection.skip")
    running = who.running
    if projection not in running.history.projections:
        raise UnknownProjection(f"There is no projection {projection}.")
    if body.position > running.master.head.position:
        raise Malformed(
            f"position={body.position}: the log ends at {running.master.head.position}."
        )
    command = SkipProjection(projection=projection, position=body.position, reason=body.reason)
    await running.master.ask_one(who.subject, command, via=who.via, request=who.id)
    return DoneOut(position=running.master.head.position)


def _listed(who: Caller, reader: Reader, head: Head) -> list[ListedOut]:
    told = [
        ListedOut(**_facts(who, reader.projections[status.name], status, head))
        for status in reader.status()
    ]
    broken = [
        ListedOut(
            projection=name,
            version=0,
            state="broken",
            position=0,
            lag_events=0,
            lag_s=0.0,
            bytes=None,
            error=error,
        )
        for name, error in discover().broken.items()
    ]
    return told + broken


def _unused(who: Caller) -> list[UnusedOut]:
    service = who.service
    known = who.running.history.projections.values()
    try:
        found = inventory.unused(known, service.data, service.database_url)
    except Unavailable:  # of each that is installed the list says so
        return []
    return [
        UnusedOut(projection=one.name, version=one.version, bytes=one.bytes)
        for one in found
        if one.name not in discover().broken  # which version of it is in use, nobody can tell
    ]


def _facts(who: Caller, projection: Projection, status: Status, head: Head) -> dict[str, Any]:
    events, seconds = status.behind(head.position, head.at)
    service = who.service
    return {
        "projection": status.name,
        "version": status.version,
        "state": status.state(events),
        "position": status.position,
        "lag_events": events,
        "lag_s": seconds,
        "bytes": inventory.size(
            who.running.history, projection, service.data, service.database_url
        ),
        "question": projection.question,
        "stopped_at": status.stopped_at,
        "error": status.error,
    }


def _shown(who: Caller, projection: Projection, head: Head) -> ProjectionDetailOut:
    reader = who.running.history
    status = next(one for one in reader.status() if one.name == projection.name)
    try:
        rows = inventory.rows(reader, projection)
        skipped = list(reader.checkpoint(projection.name).skipped)
    except Unavailable:
        rows, skipped = {}, []
    tables = [
        TableOut(
            table=table.name,
            key=[column.name for column in table.columns[: table.key]],
            columns=[column.name for column in table.columns],
            indexes=[list(index) for index in table.indexes],
            rows=rows.get(table.name),
        )
        for table in projection.tables
    ]
    return ProjectionDetailOut(
        **_facts(who, projection, status, head),
        tables=tables,
        queries=list(projection.queries),
        skipped=skipped,
        head=head.position,
    )
