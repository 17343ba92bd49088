"""What waits and runs, now and over time; what was asked for, and by how much it was too much."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from ledger.api import history, show
from ledger.api.auth import Caller, Who
from ledger.api.jobs import OptionalFilter
from ledger.api.periods import Step, Time, ZoneName, cut, zone_of
from ledger.api.waiting import FRESH, as_of
from ledger.domain.state import Job
from ledger.master.inner.look import sliced
from ledger.models import DemandedOut, DemandOut, QueuedOut, QueueOut
from ledger.projection.grid import SLOT_US

router = APIRouter(prefix="/v1", tags=["answers"])

NAME = "(pool|user|account)"
GROUP = "(hour|day|pool|user|account)"
LEVELS = ("queued_jobs", "queued_nodes", "held_jobs", "held_nodes", "running_jobs")
COUNTED = ("asked", "started", "withdrawn", "refused")

Group = tuple[str, ...]


@router.get("/queue", dependencies=FRESH)
async def queue(
    who: Who,
    by: Annotated[str, Query(pattern=f"^({NAME}(,{NAME}){{0,2}})?$")] = "pool,user,account",
    user: OptionalFilter = "",
    account: OptionalFilter = "",
    pool: OptionalFilter = "",
) -> QueueOut:
    """What waits and runs now, by pool, user, account, or several of these; the most nodes wanted
    first."""
    who.demand("job.see")
    names = [name for name in by.split(",") if name]
    asked = {"user": user, "account": account, "pool": pool}
    live = as_of(who.request).present and not who.service.archive
    rows, whole = await (_now if live else _then)(who, names, asked)
    rows.sort(key=lambda r: (-r.queued_nodes, -r.nodes_in_use, r.pool, r.user, r.account))
    head = who.running.master.head.position
    position = head if live else who.request.state.ledger_position
    return QueueOut(rows=rows, whole=whole, position=position, at=show.at(await history.now(who)))


async def _now(
    who: Caller, names: list[str], asked: dict[str, str]
) -> tuple[list[QueuedOut], QueuedOut]:
    """Out of the master's state, a millisecond at a time: however many jobs there are."""
    master, groups = who.running.master, dict[Group, Counter[str]]()
    async for cluster, number in sliced(master, lambda c: list(c.jobs)):
        job = cluster.jobs.get(number)
        if job is None:
            continue
        whose = {"user": job.user, "account": job.spec.account, "pool": job.spec.pool}
        if all(value in ("", whose[name]) for name, value in asked.items()):
            tally = groups.setdefault(tuple(whose[name] for name in names), Counter())
            tally.update(_levels(job))
    serving: Counter[str] = Counter()
    for node in master.cluster.nodes.values():
        if node.serves and asked["pool"] in ("", node.pool):
            serving[node.pool] += 1
    nobodys = not (asked["user"] or asked["account"])
    if names == ["pool"] and nobodys:
        groups |= {(pool,): Counter() for pool in serving if (pool,) not in groups}
    rows = [
        _queued(
            dict(zip(names, group, strict=True)),
            levels,
            serving[group[0]] if names == ["pool"] and nobodys else None,
        )
        for group, levels in groups.items()
    ]
    total = sum(groups.values(), Counter[str]())
    return rows, _queued({}, total, serving.total() if nobodys else None)


def _levels(job: Job) -> dict[str, int]:
    if job.attempt is not None:
        return {"running_jobs": 1, "nodes_in_use": len(job.attempt.nodes)}
    held = int(job.hold is not None)
    nodes = job.spec.nodes
    return {
        "queued_jobs": 1,
        "queued_nodes": nodes,
        "held_jobs": held,
        "held_nodes": held * nodes,
    }


def _queued(whose: dict[str, str], levels: Mapping[str, int], serving: int | None) -> QueuedOut:
    told = {name: levels.get(name, 0) for name in (*LEVELS, "nodes_in_use")}
    return QueuedOut.model_validate({**whose, **told, "nodes_in_service": serving})


async def _then(
    who: Caller, names: list[str], asked: dict[str, str]
) -> tuple[list[QueuedOut], QueuedOut]:
    """Out of the tables."""
    rows = await history.ask(who, "demand", "depth", by=names, **asked)
    whole = await history.ask(who, "demand", "depth", **asked)
    told = [QueuedOut.model_validate(_depth(row)) for row in rows]
    nothing = _queued({}, {}, None if asked["user"] or asked["account"] else 0)
    return told, QueuedOut.model_validate(_depth(whole[0])) if whole else nothing


def _depth(row: Any) -> dict[str, Any]:
    whose = {name: getattr(row, name) for name in ("pool", "user", "account")}
    levels = {name: getattr(row, name) for name in LEVELS}
    service = {"nodes_in_use": row.used_nodes, "nodes_in_service": row.serving_nodes}
    return {**whose, **levels, **service}


@router.get("/demand", dependencies=FRESH)
async def demand(
    who: Who,
    by: Annotated[str, Query(pattern=f"^({GROUP}(,{GROUP}){{0,3}})?$")] = "",
    since: Time = "",
    until: Time = "",
    zone: ZoneName = "UTC",
    user: OptionalFilter = "",
    account: OptionalFilter = "",
    pool: OptionalFilter = "",
) -> DemandOut:
    """How long queues were, how many nodes were in use, what was asked for, refused, withdrawn and
    unmet: by hour or day, pool, user, account, or several of these.

    Without `since` and `until` all there is. They are moved to whole quarters of an hour, outwards.
    """
    who.demand("demand.see")
    groups, where = by.split(","), zone_of(zone)
    first, last, now = history.micros(since), history.micros(until), await history.now(who)
    span = await history.ask(who, "demand", "span")
    if span is not None:
        first = (first or span[0]) // SLOT_US * SLOT_US
        last = min(-(-(last or now) // SLOT_US) * SLOT_US, max(now, first + 1))
    if span is None or first >= last:
        return _answer(who, first, last, zone, [])
    step: Step = "hour" if "hour" in groups else "day" if "day" in groups else ""
    edges = cut(first, last, step, where)
    rows = await history.ask(
        who, "demand", "demand", edges=edges, by=groups, user=user, account=account, pool=pool
    )
    return _answer(who, first, last, zone, [_row(row, edges) for row in rows])


def _answer(who: Caller, first: int, last: int, zone: str, rows: list[DemandedOut]) -> DemandOut:
    return DemandOut(
        since=show.when(first),
        until=show.when(last),
        zone=zone,
        rows=rows,
        position=who.request.state.ledger_position,
    )


def _row(row: Any, edges: list[int]) -> DemandedOut:
    return DemandedOut(
        **_depth(row),
        since=show.at(edges[row.period]),
        until=show.at(edges[row.period + 1]),
        queued_job_seconds=row.queued_jobs_us / 1_000_000,
        queued_node_seconds=row.queued_nodes_us / 1_000_000,
        held_job_seconds=row.held_jobs_us / 1_000_000,
        held_node_seconds=row.held_nodes_us / 1_000_000,
        running_job_seconds=row.running_jobs_us / 1_000_000,
        in_use_node_seconds=row.used_nodes_us / 1_000_000,
        in_service_node_seconds=_seconds(row.serving_nodes_us),
        unmet_node_seconds=_seconds(row.unmet_us),
        **{f"{what}_jobs": getattr(row, f"{what}_jobs") for what in COUNTED},
        **{f"{what}_node_seconds": getattr(row, f"{what}_node_s") for what in COUNTED},
    )


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1_000_000
