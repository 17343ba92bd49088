"""Parts that are seen in the fold and in what moves it."""

import asyncio
import heapq
from collections import Counter

from ledger.commands import ReportEnded, ReportStarted
from ledger.domain.explain import Tally
from ledger.domain.orders import due
from ledger.domain.schedule import natural
from ledger.domain.state import KEY_LIFETIME_US, Notice
from ledger.master.inner.look import Row, Seen, reigning, sliced
from ledger.master.loop import MAX_QUEUED
from ledger.master.service import Service


async def queue(service: Service, limit: int) -> Seen:
    """What waits: jobs by pool, user and reason, and the requests that wait to be decided."""
    running = reigning(service)
    master, tally = running.master, Tally(running.master.now())
    groups: Counter[tuple[str, str, str]] = Counter()
    async for cluster, number in sliced(master, lambda c: sorted(c.jobs)):
        job = cluster.jobs.get(number)
        if job is not None and job.attempt is None:
            groups[job.spec.pool, job.user, tally.reason(cluster, job)] += 1
    rows: list[Row] = [
        {"pool": pool, "user": user, "reason": reason, "jobs": jobs}
        for (pool, user, reason), jobs in groups.most_common(limit)
    ]
    waiting, counters = master.queued, master.counters
    loop = asyncio.get_running_loop()
    pending, batch = groups.total(), master.last
    facts: Row = {
        "pending": pending,
        "running": len(master.cluster.running),
        "requests_waiting": len(waiting),
        "requests_most": MAX_QUEUED,
        "oldest_request_s": round(loop.time() - waiting[0].since, 6) if waiting else 0.0,
        "requests_decided": counters.requests,
        "requests_refused": counters.refused,
        "last_batch_requests": batch.requests,
        "last_batch_events": batch.events,
        "largest_batch_requests": counters.largest_batch,
    }
    text = f"{pending} jobs wait; {len(waiting)} requests wait to be decided."
    return Seen(text, facts, rows, len(groups) - len(rows))


async def leases(service: Service, limit: int) -> Seen:
    """The nodes, the longest silent first: epoch told, lease, last sync, orders not yet obeyed."""
    running = reigning(service)
    master, contacts = running.master, running.contacts
    found: list[tuple[bool, int, tuple[str | int, ...], Row]] = []
    async for c, name in sliced(master, lambda c: list(c.nodes)):
        if (node := c.nodes.get(name)) is None:
            continue
        heard = contacts.of(name)
        row: Row = {
            "node": name,
            "state": node.state,
            "epoch_told": master.epoch if heard.answered else 0,
            "last_sync_at": heard.last if heard.said is not None else 0,
            "lease_until_at": heard.last + c.policy.job_lease_s * 1_000_000,
            "silent_since_at": node.silent_since,
            "jobs": len(node.attempts),
            "outstanding": len(contacts.outstanding(c, name)),
        }
        found.append((not node.silent_since, heard.last, natural(name), row))
    silent = sum(not in_contact for in_contact, *_ in found)
    heard_of = sum(bool(row["last_sync_at"]) for *_, row in found)
    policy = master.cluster.policy
    facts: Row = {
        "nodes": len(found),
        "heard_in_this_epoch": heard_of,
        "silent": silent,
        "epoch": master.epoch,
        "lease_s": policy.job_lease_s,
        "margin_s": policy.lease_margin_s,
        "agents_ahead": contacts.behind,
    }
    rows = [row for *_, row in heapq.nsmallest(limit, found, key=lambda one: one[:3])]
    text = f"{len(found)} nodes, {heard_of} heard in this epoch, {silent} silent."
    return Seen(text, facts, rows, len(found) - len(rows))


async def outbox(service: Service, limit: int) -> Seen:
    """What is still to be told: orders that agents have not obeyed, reports not yet recorded,
    requests that wait for a job."""
    running = reigning(service)
    contacts = running.contacts
    orders: Counter[str] = Counter()
    rows: list[Row] = []
    async for c, name in sliced(running.master, lambda c: sorted(c.nodes, key=natural)):
        for told in contacts.outstanding(c, name) if name in c.nodes else ():
            orders[told.order] += 1
            if len(rows) < limit:
                last = contacts.of(name).last
                rows.append({"node": name, **told._asdict(), "last_sync_at": last})
    reports = sum(
        isinstance(command, ReportStarted | ReportEnded)
        for request in running.master.queued
        for command in request.commands
    )
    total = orders.total()
    facts: Row = {
        "orders": total,
        **{f"orders_to_{word}": orders[word] for word in ("start", "go", "stop", "forget")},
        "reports_waiting": reports,
        "waits_for_jobs": running.bells.waiting,
        "refusals_to_record": running.refused.waiting,
    }
    text = f"{total} orders not yet obeyed, {reports} reports not yet recorded."
    return Seen(text, facts, rows, total - len(rows))


async def notices(service: Service, limit: int) -> Seen:
    """Notices that wait to be sent, how often each was tried, and what this master has sent."""
    running = reigning(service)
    master, outbox, counts = running.master, running.outbox, running.outbox.counts
    rows: list[Row] = []
    total = unreachable = 0
    async for c, notice in sliced(master, lambda c: sorted(c.notices.values(), key=_waits)):
        reached = outbox.reachable(c, notice.to, notice.desk)
        total, unreachable = total + 1, unreachable + (not reached)
        if len(rows) < limit:
            rows.append(
                {
                    "notice": notice.n,
                    "to": notice.to,
                    "desk": notice.desk,
                    "outage": notice.outage,
                    "why": notice.why,
                    "due_at": notice.due_at,
                    "tries": notice.tries,
                    "next_at": notice.next_at,
                    "reachable": reached,
                }
            )
    facts: Row = {
        "waiting": total,
        "unreachable": unreachable,
        "under_way": outbox.under_way,
        "sent": counts.sent,
        "failed_tries": counts.failed,
        "last_error": counts.error,
        "failed_at": counts.error_at,
        "trouble": running.teller.trouble,
    }
    text = f"{total} wait to be sent, {unreachable} of them for a contact; {counts.sent} were sent."
    if running.teller.trouble:
        text += f" Not all can be told yet: {running.teller.trouble}."
    return Seen(text, facts, rows, total - len(rows))


def _waits(notice: Notice) -> tuple[int, int]:
    return notice.due_at, notice.n


async def plan(service: Service, limit: int) -> Seen:
    """The planner's last pass: when, at which view, what it looked at and proposed, what of that
    was dropped and why; and why there is none now."""
    running = reigning(service)
    planner = running.planner
    await running.master.settled()
    latest, made = planner.latest, planner.last
    idle = "nothing that could start a job has changed since"
    if planner.trouble:
        idle = f"the next one could not be carried out: {planner.trouble}"
    elif planner.wanted:
        idle = "the next one is due"
    facts: Row = {"passes": planner.passes, "now": idle}
    if latest is None or made is None:
        return Seen(f"No plan was made yet: {idle}.", facts)
    dropped = sum(latest.dropped.values())
    facts |= {
        "made_at": latest.at,
        "view": latest.view,
        "took_s": latest.micros / 1_000_000,
        "looked_at": latest.looked_at,
        "proposals": latest.proposals,
        "dropped": dropped,
        "wakes_at": made.wake_at,
        "proposals_so_far": planner.proposals,
        "dropped_so_far": planner.dropped.total(),
    }
    rows: list[Row] = [
        {"what": "dropped", "of": code, "count": n} for code, n in planner.dropped.most_common()
    ]
    rows += [
        {"what": "first in its pool", "of": f"{pool}: job {job}", "count": 1}
        for pool, job in sorted(made.heads.items())
    ]
    text = (
        f"{planner.passes} plans were made. Jobs that the last one looked at: {latest.looked_at}, "
        f"proposed: {latest.proposals}, placed: {latest.proposals - dropped}; {idle}."
    )
    return Seen(text, facts, rows[:limit], max(0, len(rows) - limit))


async def keys(service: Service, limit: int) -> Seen:
    """The idempotency keys that are remembered, by whose they are."""
    running = reigning(service)
    owners: Counter[str] = Counter()
    async for _, (owner, _key) in sliced(running.master, lambda c: list(c.keys)):
        owners[owner] += 1
    c = running.master.cluster
    oldest = next(iter(c.idle_keys.values()), 0)
    total = owners.total()
    facts: Row = {
        "remembered": total,
        "with_live_jobs": total - len(c.idle_keys),
        "without": len(c.idle_keys),
        "oldest_ended_at": oldest,
        "next_forgotten_at": oldest + KEY_LIFETIME_US if oldest else 0,
    }
    rows: list[Row] = [{"user": user, "keys": n} for user, n in owners.most_common(limit)]
    text = f"{total} keys are remembered, {len(c.idle_keys)} of them without a live job."
    return Seen(text, facts, rows, len(owners) - len(rows))


class _Soonest:
    """The `limit` soonest of many timers, and how many there were."""

    def __init__(self, limit: int) -> None:
        self.count, self._limit = 0, limit
        self._kept: list[tuple[int, str, str]] = []

    def add(self, due_at: int, what: str, of: str) -> None:
        """Take one in."""
        self.count += 1
        if len(self._kept) < self._limit:
            heapq.heappush(self._kept, (-due_at, what, of))
        else:
            heapq.heappushpop(self._kept, (-due_at, what, of))

    def rows(self, now: int) -> list[Row]:
        """Those kept, the soonest first."""
        soonest = sorted((-due_at, what, of) for due_at, what, of in self._kept)
        return [
            {"what": what, "of": of, "due_at": at, "in_s": (at - now) / 1_000_000}
            for at, what, of in soonest
        ]


async def timers(service: Service, limit: int) -> Seen:
    """What the clock will bring next: silences, jobs given up, begin times, keys forgotten."""
    running = reigning(service)
    master, contacts, soonest = running.master, running.contacts, _Soonest(limit)
    async for c, name in sliced(master, lambda c: list(c.nodes)):
        if name in c.nodes and not c.nodes[name].silent_since:
            lease_us = c.policy.job_lease_s * 1_000_000
            soonest.add(contacts.of(name).last + lease_us, "lease runs out", name)
    async for _, (job, begin_at) in sliced(master, lambda c: list(c.begins.items())):
        if begin_at > master.now():
            soonest.add(begin_at, "may begin", f"job {job}")
    cluster = await master.settled()
    for at, lost in due(cluster):
        soonest.add(at, "given up", f"job {lost.id}")
    if (oldest := next(iter(cluster.idle_keys.values()), 0)) > 0:
        soonest.add(oldest + KEY_LIFETIME_US, "key is forgotten", "")
    rows = soonest.rows(master.now())
    text = f"{soonest.count} timers" + (
        f"; the next in {rows[0]['in_s']:.0f} s: {rows[0]['what']} {rows[0]['of']}."
        if rows
        else "."
    )
    return Seen(text, {"timers": soonest.count}, rows, soonest.count - len(rows))
