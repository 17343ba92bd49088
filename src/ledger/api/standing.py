"""How the service is, in its users' words: `GET /v1/status` of the master."""

import asyncio
from collections.abc import Iterable, Mapping

from fastapi import APIRouter

from ledger import __version__
from ledger.api import show
from ledger.api.auth import Who
from ledger.master.service import Running, Service
from ledger.models import BackupsOut, ProjectionOut, StatusOut
from ledger.projection.reader import Status
from ledger.store.chain import Head
from ledger.store.shelf import Freshness

router = APIRouter(prefix="/v1", tags=["service"])
LATE_S = 60.0
"""A projection that is behind by more than this is told of as a warning."""


@router.get("/status")
async def status(who: Who) -> StatusOut:
    """How the service is: does it take submissions, does it start jobs, what is wrong.

    `jobledger follow` answers the same on its own listener, also while the master is away.
    """
    who.demand("service.see")
    service = who.service
    running = service.running
    if running is None:
        return _replaying(service)
    fresh = await asyncio.to_thread(service.freshness)
    told = await asyncio.to_thread(running.history.status)
    return _reigning(service, running, fresh, told)


def _replaying(service: Service) -> StatusOut:
    return StatusOut(
        told_by="master",
        sentence=f"The master is starting: {service.replayed} of {service.head} events replayed.",
        well=False,
        accepting=False,
        starting=False,
        warnings=service.warnings,
        projections=[],
        position=service.replayed,
        written_at=None,
        epoch=0,
        build=__version__,
    )


def _reigning(
    service: Service, running: Running, fresh: Freshness | None, told: list[Status]
) -> StatusOut:
    master, c = running.master, running.master.cluster
    serving = sum(node.serves for node in c.nodes.values())
    lost = sum(node.health == "down" for node in c.nodes.values())
    refusing = "It is an archive." if service.archive else _refusing(running)
    idle = refusing or ("No node is in service." if not serving else running.planner.trouble)
    projections = shown(told, master.head)
    warnings = [*service.all_warnings(), *behind(projections), *late(fresh)]
    if lost:
        are = "is" if lost == 1 else "are"
        warnings.append(f"{lost} of {len(c.nodes)} nodes {are} lost; `jobledger nodes` names them")
    return StatusOut(
        told_by="master",
        sentence=_sentence(refusing, idle, warnings),
        well=not (refusing or idle or warnings),
        accepting=not refusing,
        starting=not idle,
        warnings=warnings,
        counted_at=show.at(master.now()),
        pending=len(c.jobs) - len(c.running),
        running=len(c.running),
        nodes=len(c.nodes),
        in_service=serving,
        lost=lost,
        projections=projections,
        backups=backups(fresh),
        position=master.head.position,
        written_at=show.when(master.head.at),
        epoch=master.epoch,
        build=__version__,
    )


def _refusing(running: Running) -> str:
    """Why no submission is taken now; empty if it is."""
    master = running.master
    if master.failed:
        return f"The master has ended: {master.failed}."
    if not master.accepting:
        return "The master is stopping."
    return master.trouble.sentence if master.trouble is not None else ""


def _sentence(refusing: str, idle: str, warnings: list[str]) -> str:
    if refusing:
        return f"Submissions are refused: {refusing}"
    if idle:
        return f"Submissions are taken; no job is started: {idle}"
    return works(warnings)


def works(warnings: list[str]) -> str:
    """The sentence about a service that takes submissions and starts jobs."""
    needs = "; something needs an operator's look" if warnings else ""
    return f"The service works{needs}."


def looked_again(last: StatusOut, own: list[str], update: Mapping[str, object]) -> StatusOut:
    """What the master said of itself, with projections and backups as they are now: `own` is what
    is wrong with these, in place of what it said of them."""
    said = {*behind(last.projections), last.backups.warning if last.backups else ""}
    warnings = [warning for warning in last.warnings if warning not in said] + own
    working = last.accepting and last.starting
    return last.model_copy(
        update={
            **update,
            "warnings": warnings,
            "well": working and not warnings,
            "sentence": works(warnings) if working else last.sentence,
        }
    )


def shown(told: Iterable[Status], head: Head) -> list[ProjectionOut]:
    """Projections beside the head of the log."""
    found = []
    for one in told:
        events, seconds = one.behind(head.position, head.at)
        found.append(
            ProjectionOut(
                projection=one.name,
                version=one.version,
                state=one.state(events),
                position=one.position,
                lag_events=events,
                lag_s=seconds,
                error=one.error,
            )
        )
    return found


def behind(projections: list[ProjectionOut], *, beginning: bool = False) -> list[str]:
    """What is wrong with projections, a sentence each; `beginning`: also of those that are only
    being made."""
    found = []
    for one in projections:
        if one.state in ("stopped", "unavailable"):
            found.append(f"the projection {one.projection} does not follow: {one.error}")
        elif one.lag_s > LATE_S or (beginning and one.lag_events and not one.position):
            found.append(f"the projection {one.projection} is {one.lag_events} events behind")
    return found


def late(fresh: Freshness | None) -> list[str]:
    """What is wrong with the backups, if anything."""
    return [fresh.warning] if fresh is not None and fresh.warning else []


def backups(fresh: Freshness | None) -> BackupsOut | None:
    """How old the newest backup is."""
    return BackupsOut(**fresh._asdict()) if fresh is not None else None
