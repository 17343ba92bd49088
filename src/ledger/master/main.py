"""The master as a process: take the lead, come back by replay, reign, go in order.

The order of things is the whole of its safety: leadership before the log is opened for writing,
replay before anything is decided, `MasterStarted` in the log before anybody is answered. The API
listens from the beginning, so that `/readyz` can tell how far the replay has come.
"""

import asyncio
import contextlib
import gc
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import structlog
import uvloop

from ledger.domain.state import Cluster
from ledger.master.clock import Clock
from ledger.master.core import Core
from ledger.master.loop import Once
from ledger.master.outbox import NO_POST, Post
from ledger.master.outputs import Outputs
from ledger.master.past import Apart
from ledger.master.reader import LogReader
from ledger.master.recovery import (
    CHECKPOINT_EVERY,
    Checkpoints,
    Recovered,
    is_archive,
    recover,
)
from ledger.master.service import Running, Service
from ledger.projection.discover import discover
from ledger.projection.reader import Reader
from ledger.settings import keep_private
from ledger.sink import say
from ledger.store.leadership import Leadership, leadership
from ledger.store.location import had_log, open_log
from ledger.store.log import Log, LogUnavailable

logger = structlog.get_logger("master")

FAILED = 70
GC_THRESHOLDS = (10_000, 20, 1_000_000)
"""Young garbage is collected as usual; the old every minute, by `_keep_house` alone."""

ALIVE_EVERY_S = 1.0

Serve = Callable[[Service, asyncio.Event], Coroutine[None, None, None]]


@dataclass(frozen=True)
class MasterSettings:
    """How a master is run. `operator_uids`: accounts that are operators on the Unix socket.
    `job_lease_s`: make this the policy's lease before any agent is answered. `backups`: the folder
    whose newest backup it tells the age of, and how often there should be one (0: never).
    `expect_log`: never begin a new log. `post`: how people are told."""

    data: Path
    database_url: str | None = None
    listen: tuple[str, ...] = ()
    wait: bool = False
    accept_clock: bool = False
    job_lease_s: int | None = None
    operator_uids: frozenset[int] = frozenset()
    backups: Path | None = None
    backup_every_s: int = 0
    expect_log: bool = False
    post: Post = NO_POST


def run_master(settings: MasterSettings, serve: Serve, say: Callable[[str], None]) -> int:
    """Run a master until it is told to stop (0) or its log fails (70).

    `serve` runs the API over a `Service` until an event is set. Raises `LogFailure` or a `Refusal`
    where it can't begin; `say` is told, in sentences, what a person at the terminal wants to know.
    """
    keep_private(settings.data)
    die = Once(_die)
    lead = leadership(settings.data, settings.database_url, die)
    lead.acquire(wait=settings.wait)
    try:
        new = not settings.expect_log and not had_log(settings.data)
        log = open_log(settings.data, settings.database_url, write=True, create=new)
        try:
            if is_archive(log):
                raise LogUnavailable(
                    f"the ledger in {settings.data} is an archive, which no master goes on from: "
                    "choose another data directory"
                )
            return uvloop.run(Reign(settings, lead, log, die, say).run(serve))
        finally:
            log.close()
    finally:
        lead.release()


def _die(reason: str) -> None:
    """End the process now, but for a moment in which those who wait are told why.

    A reason to die may come from any thread, at any time, even while the event loop hangs.
    """
    timer = threading.Timer(0.3, os._exit, (FAILED,))
    timer.daemon = True
    timer.start()
    logger.critical("this master is over", reason=reason)
    say(f"jobledger: this master is over: {reason}")


class Reign:
    """One master's time, from replay to its last event. `stop` ends it in order."""

    def __init__(
        self,
        settings: MasterSettings,
        lead: Leadership,
        log: Log,
        die: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._lead = lead
        self._log = log
        self._die = die
        self._say = say
        self.stop = asyncio.Event()
        self._checkpoints = Checkpoints(settings.data / "checkpoints")

    def clock(self, last_at: int) -> Callable[[], int]:
        """The clock of this reign, which goes on from the last commit's time."""
        return Clock(last_at, accept=self._settings.accept_clock).now

    async def run(self, serve: Serve) -> int:
        """Replay, reign, go in order: 0, or 70 where the log failed."""
        s = self._settings
        service = Service(
            s.data,
            s.database_url,
            s.operator_uids,
            head=self._log.head().position,
            backups=s.backups,
            backup_every_s=s.backup_every_s,
        )
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop.set)
        server = asyncio.ensure_future(serve(service, self.stop))
        try:
            recovered = await loop.run_in_executor(None, self._recover, service)
            core, workers = await self._begin(service, recovered)
            await asyncio.wait(
                [server, asyncio.ensure_future(self.stop.wait()), *workers],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for worker in workers:
                if worker.done() and not worker.cancelled() and worker.exception():
                    self._die(f"a worker failed: {worker.exception()!r}")
            if not core.master.failed and (cluster := await core.end(workers)) is not None:
                self._checkpoints.save(core.master.head, cluster)
        finally:
            self.stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await server
            if service.running is not None:  # the last answers may have needed them
                service.running.reader.close()
                service.running.history.close()
                service.running.past.close()
        return FAILED if service.running and service.running.master.failed else 0

    def _recover(self, service: Service) -> Recovered:
        def progress(position: int, head: int) -> None:
            service.replayed, service.head = position, head

        return recover(self._log, self._checkpoints.folder, progress)

    async def _begin(
        self, service: Service, recovered: Recovered
    ) -> tuple[Core, list["asyncio.Task[None]"]]:
        now = self.clock(self._log.head().at)
        reader = LogReader(
            partial(open_log, self._settings.data, self._settings.database_url, write=False)
        )
        core = Core(self._log, recovered, now, self._refold, self._die, reader, self._lead.fresh)
        self._lead.reign(core.master.epoch)
        workers = await core.begin(
            accept_clock=self._settings.accept_clock,
            job_lease_s=self._settings.job_lease_s,
            away_us=self._lead.away_us(),
        )
        workers.append(asyncio.ensure_future(self._stay_alive()))
        outputs = Outputs(self._settings.data / "output")
        found = discover()
        service.warnings += recovered.set_aside
        service.warnings += [f"projection {n}: {why}" for n, why in sorted(found.broken.items())]
        if recovered.lost:
            service.warnings.append(
                f"the log ends {recovered.lost} positions before a checkpoint that was made of it: "
                "what was acknowledged there is lost; see docs/runbooks/log-behind.md"
            )
        s = self._settings
        history = Reader(found.projections, s.data, s.database_url, self._log.incarnation)
        apart = Apart(self._settings.data, self._settings.database_url)
        post = self._settings.post
        running = core.running(history, apart, outputs, self._checkpoints, post)
        tellers = (running.teller.run(), running.outbox.run())
        workers += map(asyncio.ensure_future, tellers)
        workers.append(asyncio.ensure_future(self._keep_house(running)))
        _spare_garbage_collector(everything=True)
        service.running = running
        self._say(_sentence(running.recovery, core.master.epoch))
        for warning in service.warnings:
            self._say(f"Warning: {warning}.")
        logger.info("this master reigns", epoch=core.master.epoch, **running.recovery)
        return core, workers

    def _refold(self) -> Cluster:
        log = open_log(self._settings.data, self._settings.database_url, write=False)
        try:
            return recover(log, self._checkpoints.folder).cluster
        finally:
            log.close()

    async def _stay_alive(self) -> None:
        """Leave a mark every second, so that the next master knows until when there was one."""
        while True:
            await asyncio.to_thread(self._lead.mark)
            await asyncio.sleep(ALIVE_EVERY_S)

    async def _keep_house(self, running: Running) -> None:
        """Checkpoints and expired output, out of the way of everything else."""
        began = running.master.head.position
        for minute in count(1):
            await asyncio.sleep(60)
            _spare_garbage_collector(everything=minute % 60 == 0)
            try:
                await asyncio.to_thread(running.outputs.expire)
            except OSError as error:
                logger.error("old output could not be removed", error=str(error))
            cluster = await running.master.settled()
            last = max(began, self._checkpoints.position)
            if running.master.head.position - last >= CHECKPOINT_EVERY:
                self._checkpoints.save(running.master.head, cluster)


def _spare_garbage_collector(*, everything: bool) -> None:
    """Collect what became garbage lately, or all of it, and then look at what is left no more.

    Left to itself, Python would go through all jobs again and again while many are submitted: a
    tenth of a second, and more with every job, in which nobody is answered.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    if everything:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


def _sentence(report: dict[str, int], epoch: int) -> str:
    """The recovery report, as a person reads it."""
    seconds = report["micros"] / 1_000_000
    how = "after an orderly stop" if report["clean_stop"] else "after a crash"
    if report["events_replayed"] == 0 and report["from_checkpoint"] == 0:
        return f"A new log: master of epoch {epoch} is ready."
    from_text = (
        f" from the checkpoint at {report['from_checkpoint']}" if report["from_checkpoint"] else ""
    )
    return (
        f"Back {how}: {report['events_replayed']} events replayed{from_text} in {seconds:.2f} s; "
        f"{report['jobs_pending']} jobs pending, {report['jobs_running']} running, "
        f"{report['agents_awaited']} agents awaited; {report['lost_positions'] or 'nothing'} lost, "
        f"{report['set_aside'] or 'nothing'} set aside. Epoch {epoch}."
    )
