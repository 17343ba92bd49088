"""The agent's loop: one sync always under way, orders brought about, reports resent.

What the orders say is the whole truth for this node, so each reply is simply compared with what is
here. An attempt is begun at most once in the life of the spool, whatever happens in between. When
the process is killed or gets SIGTERM its attempts die with it, and the next agent reports them as
`agent_restarted`; it writes no farewell, so that there is one way of ending and not two.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

import structlog

from ledger.agent.lease import Lease
from ledger.agent.local import Identity, Local, end_report
from ledger.agent.output import Kept, Uploads, found
from ledger.agent.processes import Ending, Refused, Runner
from ledger.agent.spool import Key, Memory
from ledger.agent.transport import Rejected, Transport, Unreachable
from ledger.events import Output
from ledger.wire import PROTOCOL, Has, Order, Report, SyncReply, SyncRequest

log = structlog.get_logger("agent")

UPLOAD_PATIENCE_S = 60.0
"""How long an end report waits for its output to be delivered."""

KILL_PATIENCE_S = 5.0
"""How long the next sync waits for what the lease has killed to be gone."""

CANT_RECORD_WAIT_S = 1.0
"""How often it is looked whether the spool has room again."""

REPORTS_A_SYNC = 1000
LINGER_S = 0.05


class Agent:
    """One node's agent. `wait_s` bounds the long poll, `tick_s` how late the lease is noticed."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        spool: Memory,
        runner: Runner,
        uploads: Uploads | None,
        lease: Lease | None = None,
        wait_s: float = 20.0,
        tick_s: float = 1.0,
        rng: random.Random | None = None,
    ) -> None:
        self.identity, self.transport, self.spool = identity, transport, spool
        self.runner, self.uploads = runner, uploads
        self.lease = lease or Lease()
        self.lease_s = 0.0
        self.longest_wait_s, self.tick_s = wait_s, tick_s
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, hides nothing
        self.have: dict[Key, Local] = {}
        self.changed = asyncio.Event()
        self._log = log.bind(node=identity.name)
        self._pause_s = self._retry_s = 0.0
        self._trouble = ""
        self._tasks: asyncio.TaskGroup

    async def run(self) -> NoReturn:
        """Until cancelled, or until the spool fails. Attempts are killed on the way out."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self.recover()
                self._tasks.create_task(self._watch_lease())
                while True:
                    await self._turn()
        finally:
            await self._leave()
        raise AssertionError("the loop has no end")

    async def recover(self) -> None:
        """Kill, wipe and report what an earlier agent left; it is never begun again."""
        killed = await self.runner.clear()
        if self.uploads is not None:
            self.uploads.resume()
        for begun in self.spool.unfinished():
            rebooted = begun.boot_id != self.identity.boot_id
            detail = "the machine was started anew" if rebooted else "the agent was started anew"
            local = self.have[begun.job, begun.attempt] = Local(begun.order(), "stopping")
            local.gone.set()
            output = found(self.uploads.path(*local.key)) if self.uploads is not None else None
            ending = Ending("node_fail", "agent_restarted", detail=detail)
            self._tasks.create_task(self._settle(local, ending, output))
            self._log.warning("attempt_lost", job=begun.job, attempt=begun.attempt, detail=detail)
        self._log.info("agent_ready", spool=self.spool.id, leftovers_killed=killed)

    # ── one turn: send what we know, obey the answer ──

    async def _turn(self) -> None:
        if self.lease.expired:
            await self._enforce_lease()
        self.changed.clear()
        self._look_at_spool()
        wait_s = self.wait_s()
        sent_at = self.lease.clock()
        request = self._request(wait_s, sent_at)
        patience_s = wait_s + max(1.0, min(15.0, self.lease_s / 3 or 15.0))
        try:
            async with asyncio.timeout(patience_s):
                reply = await self.unless_changed(self.transport.sync(request))
        except (Unreachable, Rejected, TimeoutError) as e:
            await self._back_off(e)
            return
        if reply is None:
            return
        self._retry_s = 0.0
        if self.lease.expired:
            await self._enforce_lease()
        progress = self._obey(reply, sent_at)
        await self._pace(progress, self.lease.clock() - sent_at)

    def wait_s(self) -> float:
        """How long the master may keep this call: well within the lease, or it would run out."""
        most = CANT_RECORD_WAIT_S if self.spool.trouble else self.longest_wait_s
        return min(most, self.lease_s / 3)

    def _look_at_spool(self) -> None:
        """Say when nothing can be recorded, and when it can be again."""
        self.spool.probe()
        if self.spool.trouble == self._trouble:
            return
        if self.spool.trouble:
            self._log.error("spool_not_written", error=self.spool.trouble)
        else:
            self._log.warning("spool_written_again")
        self._trouble = self.spool.trouble

    def _request(self, wait_s: float, sent_at: float) -> SyncRequest:
        return SyncRequest(
            protocol=PROTOCOL,
            spool=self.spool.id,
            boot_id=self.identity.boot_id,
            build=self.identity.build,
            facts=self.identity.facts,
            seen=self.spool.seen,
            has=tuple(Has(job=k[0], attempt=k[1], phase=x.phase) for k, x in self.have.items()),
            reports=self.spool.unacked()[:REPORTS_A_SYNC],
            cannot_record=self.spool.trouble,
            wait_s=wait_s,
            sent_ns=int(sent_at * 1_000_000_000),
        )

    async def unless_changed(self, call: Coroutine[Any, Any, SyncReply]) -> SyncReply | None:
        """The answer; None if there is something new to say first (the call is given up)."""
        sync = asyncio.ensure_future(call)
        news = asyncio.ensure_future(self.changed.wait())
        try:
            await asyncio.wait({sync, news}, return_when=asyncio.FIRST_COMPLETED)
            return sync.result() if sync.done() else None
        finally:
            news.cancel()
            sync.cancel()
            await asyncio.wait(
                {sync}
            )  # awaited itself, its end would pass for ours, and ours for it
            if not sync.cancelled():
                sync.exception()

    async def _back_off(self, error: Exception) -> None:
        self._retry_s = min(5.0, max(0.1, self._retry_s * 2))
        say = self._log.error if isinstance(error, Rejected) else self._log.warning
        say("sync_failed", error=str(error) or "no answer in time", retry_s=self._retry_s)
        await asyncio.sleep(self._rng.uniform(0.5, 1.0) * self._retry_s)

    async def _pace(self, progress: bool, took_s: float) -> None:
        """Don't spin on a master that answers at once, though there is nothing for us to do."""
        starting = any(x.phase == "running" and x.running is None for x in self.have.values())
        if starting:
            self._pause_s = LINGER_S  # so that the next sync can already tell of the start
        elif progress or took_s > 1.0:
            self._pause_s = 0.0
            return
        else:
            self._pause_s = min(1.0, max(0.02, self._pause_s * 2))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self.changed.wait()

    # ── orders ──

    def _obey(self, reply: SyncReply, sent_at: float) -> bool:
        """Bring about what the reply says; True if it said anything new."""
        if self.spool.outdated(reply.seen):
            self._log.error("old_epoch_ignored", epoch=reply.seen.epoch, seen=self.spool.seen.epoch)
            return False
        if reply.seen.incarnation != self.spool.seen.incarnation and self.spool.seen.epoch:
            self._log.warning("new_incarnation", incarnation=reply.seen.incarnation)
        with contextlib.suppress(OSError):  # the spool says it, and what follows is not begun
            self.spool.see(reply.seen)
        self.lease.renew(sent_at, reply.lease_s)
        self.lease_s = float(reply.lease_s)
        for local in self.have.values():
            if local.order.restartable and local.running is not None:
                local.running.extend(self.lease.until)
        progress = self.spool.ack(reply.acked)
        wanted = {(o.job, o.attempt): o for o in reply.orders}
        for key in [k for k in self.have if k not in wanted]:
            progress |= self._forget(self.have[key])
        for order in sorted(wanted.values(), key=lambda o: not o.stop):
            with contextlib.suppress(OSError):  # not written, so not done: the order comes again
                progress |= self._bring_about(order)
        return progress

    def _bring_about(self, order: Order) -> bool:
        key = (order.job, order.attempt)
        local = self.have.get(key)
        if order.stop:
            return self._stop(order, local)
        if local is not None:
            if local.phase != "held" or not order.go or not self._leads(order):
                return False
            self._begin(order)
            return True
        if self.spool.knows(key):
            return self._remind(key)
        if self.identity.name not in order.nodes:
            self._log.error("order_for_others", job=order.job, nodes=order.nodes)
            return False
        if self.have or self.spool.trouble:
            return False  # one job at a time: the former must be gone; and begun must be on record
        if order.go and self._leads(order):
            self._begin(order)
        else:
            self.have[key] = Local(order, "held")
        return True

    def _leads(self, order: Order) -> bool:
        return order.nodes[0] == self.identity.name

    def _begin(self, order: Order) -> None:
        self.spool.begin(order, self.identity.boot_id)
        local = self.have[order.job, order.attempt] = Local(order, "running")
        self._tasks.create_task(self._attempt(local))

    def _stop(self, order: Order, local: Local | None) -> bool:
        key = (order.job, order.attempt)
        if local is None or local.phase == "held":
            if self.spool.knows(key):
                return self._remind(key)
            self._report_end(key, Ending("stopped", "stopped", detail="it had not been started"))
            self.have.pop(key, None)
            return True
        if local.why:
            return False
        local.why, local.phase = "stopped", "stopping"
        if local.running is not None:
            local.running.stop(order.kill_grace_s)
        return True

    def _remind(self, key: Key) -> bool:
        """The master still wants an attempt that is over here: tell it again how it ended."""
        if self.spool.forgot(key):
            self._report_end(key, Ending("node_fail", "hold_dropped", detail="it was not listed"))
            return True
        return self.spool.reopen(key)

    def _forget(self, local: Local) -> bool:
        if local.phase == "held":
            del self.have[local.key]
            return True
        if local.why == "forgotten":
            return False
        self._log.warning("attempt_not_listed", job=local.order.job, attempt=local.order.attempt)
        local.why, local.phase = "forgotten", "stopping"
        if local.running is not None:
            local.running.kill()
        return True

    # ── one attempt ──

    async def _attempt(self, local: Local) -> None:
        """From the order to the end report. The spool knows of it already."""
        order, kept = local.order, None
        if self.uploads is not None and not order.output_path:
            path = self.uploads.path(*local.key)
            kept = Kept(path, order.output_head_bytes, order.output_tail_bytes)
            self.uploads.follow(order.job, order.attempt, kept)
        ending = await self._live(local, kept)
        local.phase = "stopping"
        local.gone.set()
        await self._settle(local, ending, kept.close() if kept is not None else None)

    async def _settle(self, local: Local, ending: Ending, output: Output | None) -> None:
        """Nothing of it is left: bring its output to the master, then put its end on record."""
        if self.uploads is not None:
            await self.uploads.delivered(*local.key, UPLOAD_PATIENCE_S)
        if local.why == "forgotten":
            await self._insist(lambda: self.spool.forget(local.key))
            if self.uploads is not None:
                self.uploads.drop(*local.key)
        else:
            await self._insist(lambda: self._report_end(local.key, ending, output))
        del self.have[local.key]
        self.changed.set()

    async def _live(self, local: Local, kept: Kept | None) -> Ending:
        """Run the command until nothing of it is left."""
        order = local.order
        say = self._log.bind(job=order.job, attempt=order.attempt, request=order.request)
        until = self.lease.until if order.restartable else 0.0
        if local.why:
            return local.as_ordered(Ending("stopped", "stopped"))
        try:
            running = await self.runner.start(order, kept.write if kept else _ignore, until)
        except Refused as e:
            say.warning("attempt_refused", cause=e.cause, detail=e.detail)
            return Ending("failed", e.cause, detail=e.detail)
        local.running = running
        if order.restartable:
            running.extend(self.lease.until)  # it may have been renewed meanwhile
        if local.why:
            running.stop(order.kill_grace_s if local.why == "stopped" else 0)
        else:
            say.info("attempt_started")
            await self._insist(partial(self._report_start, local.key))
        ending = local.as_ordered(await running.wait())
        say.info("attempt_ended", end=ending.end, cause=ending.cause, exit_code=ending.exit_code)
        return ending

    def _report_start(self, key: Key) -> None:
        self.spool.report(Report(seq=0, kind="started", job=key[0], attempt=key[1]))
        self.changed.set()

    def _report_end(self, key: Key, ending: Ending, output: Output | None = None) -> None:
        """Put the end on record; OSError if there is no room for it."""
        self.spool.report(end_report(key, ending, output))

    async def _insist(self, write: Callable[[], object]) -> None:
        """Write to the spool, as often as it takes until there is room."""
        while True:
            try:
                write()
                return
            except OSError:
                self.changed.set()
                await asyncio.sleep(CANT_RECORD_WAIT_S)

    # ── the lease ──

    async def _watch_lease(self) -> None:
        while True:
            if self.lease.expired:
                await self._enforce_lease()
            left_s = self.lease.left_s  # once it is over, nothing begins before it is renewed
            await asyncio.sleep(min(self.tick_s, max(0.01, left_s)) if left_s > 0 else self.tick_s)

    async def _enforce_lease(self) -> None:
        """The master may soon start them elsewhere: nothing restartable stays, not even a hold."""
        due = [x for x in self.have.values() if x.order.restartable and not x.gone.is_set()]
        for local in due:
            if local.phase == "held":
                del self.have[local.key]
                ending = Ending("node_fail", "hold_dropped", detail="the lease ran out")
                await self._insist(partial(self._report_end, local.key, ending))
                self.changed.set()
                continue
            if local.why not in ("forgotten", "lease_expired"):
                self._log.warning("lease_expired", job=local.order.job)
                local.why = "lease_expired"
            local.phase = "stopping"
            if local.running is not None:
                local.running.kill()
        killed = [local.gone.wait() for local in due if local.phase != "held"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_PATIENCE_S):
                await asyncio.gather(*killed)

    async def _leave(self) -> None:
        """Leave no process behind; the next agent reports what this one had."""
        for local in self.have.values():
            if local.running is not None:
                local.running.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_PATIENCE_S):
                await self.runner.clear()
        if self.uploads is not None:
            await self.uploads.close()
        await self.transport.close()


def _ignore(data: bytes) -> None:
    """Output that goes to the owner's own file does not come by here."""
