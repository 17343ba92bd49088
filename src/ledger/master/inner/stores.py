"""Parts that are seen on disk and in memory: the log, checkpoints, projections."""

import asyncio

import psutil  # type: ignore[import-untyped]

from ledger.master.inner.look import Row, Seen, reigning
from ledger.master.recovery import CHECKPOINT_EVERY
from ledger.master.service import Service


async def checkpoints(service: Service, limit: int) -> Seen:
    """The checkpoints that a start begins from, and how the last ones were written."""
    running = reigning(service)
    kept, head = running.checkpoints, running.master.head.position
    files = await asyncio.to_thread(kept.files)
    rows: list[Row] = [
        {
            "position": file.position,
            "behind": head - file.position,
            "size_bytes": file.size,
            "written_at": file.written,
        }
        for file in files
    ]
    newest = files[0].position if files else 0
    facts: Row = {
        "position": newest,
        "events_behind": head - newest,
        "every_events": CHECKPOINT_EVERY,
        "saved": kept.saved,
        "last_took_s": kept.micros / 1_000_000,
        "failures": kept.failures,
        "error": kept.error,
    }
    text = f"A start would replay {head - newest} events."
    if kept.error:
        text += f" The last checkpoint could not be written: {kept.error}."
    return Seen(text, facts, rows[:limit], max(0, len(rows) - limit))


async def projections(service: Service, limit: int) -> Seen:
    """The projections: how far each is behind the log, and why it stands still if it does."""
    running = reigning(service)
    told = await asyncio.to_thread(running.history.status)
    head = running.master.head
    rows: list[Row] = []
    for status in told:
        events, seconds = status.behind(head.position, head.at)
        rows.append(
            {
                "projection": status.name,
                "version": status.version,
                "state": status.state(events),
                "position": status.position,
                "lag_events": events,
                "lag_s": seconds,
                "stopped_position": status.stopped_at,
                "error": status.error,
            }
        )
    bad = sum(row["state"] in ("stopped", "unavailable") for row in rows)
    most = max((int(row["lag_events"] or 0) for row in rows), default=0)
    facts: Row = {"projections": len(rows), "head": head.position, "most_behind": most, "bad": bad}
    text = f"{len(rows)} projections, at most {most} events behind, {bad} not following."
    return Seen(text, facts, rows[:limit], max(0, len(rows) - limit))


async def log(service: Service, limit: int) -> Seen:
    """The log: its head, the last commit's time and size, from where its chain was checked."""
    running = reigning(service)
    master = running.master
    await master.settled()
    head, last, counters, trouble = master.head, master.last, master.counters, master.trouble
    disk = await asyncio.to_thread(service.log_bytes)
    facts: Row = {
        "position": head.position,
        "commit": head.commit,
        "hash": head.hash,
        "committed_at": head.at,
        "epoch": head.epoch,
        "incarnation": master.log.incarnation,
        "chain_checked_from": running.recovery["from_checkpoint"],
        "last_events": last.events,
        "last_bytes": last.size,
        "last_took_s": last.micros / 1_000_000,
        "mean_took_s": counters.append_micros / max(1, counters.commits) / 1_000_000,
        "commits_of_this_epoch": counters.commits,
        "full_since_at": trouble.since if trouble is not None else 0,
        "disk_bytes": disk,
    }
    text = f"Position {head.position}, commit {head.commit}, epoch {head.epoch}."
    if trouble is not None:
        text += f" {trouble.sentence} What would be recorded is refused."
    return Seen(text, facts)


async def memory(service: Service, limit: int) -> Seen:
    """What the master holds in memory, by kind."""
    running = reigning(service)
    c = await running.master.settled()
    process = await asyncio.to_thread(lambda: psutil.Process().memory_info())
    counts: dict[str, tuple[int, int | None]] = {
        "live jobs": (len(c.jobs), None),
        "ended jobs": (len(c.ended) - 1, len(c.ended)),
        "keys": (len(c.keys), None),
        "tokens": (len(c.tokens), None),
        "nodes": (len(c.nodes), None),
        "end reports": (len(c.settled), None),
        "texts": running.texts.held,
        "requests": (len(running.master.queued), None),
    }
    rows: list[Row] = [
        {"what": what, "count": count, "size_bytes": size} for what, (count, size) in counts.items()
    ]
    facts: Row = {"resident_bytes": process.rss, "virtual_bytes": process.vms}
    text = f"{process.rss / 2**20:.0f} MiB are resident, with {len(c.jobs)} live jobs."
    return Seen(text, facts, rows[:limit], max(0, len(rows) - limit))
