"""The parts of a master that decide, wired together: without API, files, signals or threads of its
own, so that a real process and a simulated one run the very same."""

import asyncio
import contextlib
from collections.abc import Callable

from ledger import __version__
from ledger.commands import SYSTEM, SetPolicy, StartMaster, StopMaster
from ledger.domain.errors import Refusal
from ledger.domain.state import Cluster
from ledger.effects.sender import Sender
from ledger.master.contacts import Contacts
from ledger.master.loop import Master
from ledger.master.outbox import NO_POST, Outbox, Post
from ledger.master.outputs import Outputs
from ledger.master.past import Past
from ledger.master.reader import LogReader
from ledger.master.recovery import Checkpoints, Recovered
from ledger.master.service import Bells, Running
from ledger.master.telling import History, Teller
from ledger.master.texts import Texts
from ledger.master.timers import Planner, RefusedDemand, Ticker
from ledger.projection.reader import Reader
from ledger.store.log import Log


class Core:
    """A master from its recovery on. `fresh` says whether it may still speak for the log; `die` is
    told when it has to end; `refold` gives the fold of the durable log again."""

    def __init__(
        self,
        log: Log,
        recovered: Recovered,
        now: Callable[[], int],
        refold: Callable[[], Cluster],
        die: Callable[[str], None],
        reader: LogReader,
        fresh: Callable[[], bool],
    ) -> None:
        self._recovered, self._reader, self._fresh = recovered, reader, fresh
        self.master = Master(log, recovered.cluster, now, refold, die)
        self.texts = Texts(reader)
        self.contacts = Contacts(self.master, self.texts, fresh, reader)
        self.planner = Planner(self.master)
        self.refused = RefusedDemand()
        self.bells = Bells()
        self.master.listen(self.bells.heard)
        self.master.listen(self.contacts.heard)
        self._ticker = Ticker(self.master, self.contacts, self.planner, self.refused)

    def running(
        self,
        history: Reader,
        past: Past,
        outputs: Outputs,
        checkpoints: Checkpoints,
        post: Post = NO_POST,
    ) -> Running:
        """These parts as the API sees them, with what it needs beside them."""
        known = History(history)
        outbox = Outbox(self.master, self.texts, known, post, Sender(), self._fresh)
        return Running(
            self.master,
            self.contacts,
            self.texts,
            self.planner,
            self.refused,
            self._reader,
            history,
            past,
            outputs,
            self.bells,
            self._recovered.report(),
            checkpoints,
            Teller(self.master, known),
            outbox,
        )

    async def begin(
        self,
        *,
        accept_clock: bool = False,
        job_lease_s: int | None = None,
        away_us: int | None = None,
    ) -> list["asyncio.Task[None]"]:
        """Begin the reign; its tasks, the writer first. `away_us`: how long there was none.

        `MasterStarted` is durable before anything else is decided, and the policy's lease, if one
        is given, before any agent is answered.
        """
        writer = asyncio.ensure_future(self.master.run())
        start = StartMaster(
            incarnation=self.master.log.incarnation,
            build=__version__,
            durability="full",
            accept_clock=accept_clock,
            recovered=self._recovered.report(),
            away_us=away_us,
        )
        await self.master.ask_one(SYSTEM, start)
        if job_lease_s is not None:
            await self.master.ask_one(SYSTEM, SetPolicy(job_lease_s=job_lease_s))
        timers = (self.planner.run(), self._ticker.run())
        return [writer, *map(asyncio.ensure_future, timers)]

    async def end(self, workers: list["asyncio.Task[None]"]) -> Cluster | None:
        """Go in order: the last event, then nothing more; the state to keep a checkpoint of, or
        None where the log failed, or lost its end. `workers` are those of `begin`, and others."""
        for worker in workers[1:]:
            worker.cancel()
        with contextlib.suppress(Refusal):
            await self.master.ask_one(SYSTEM, StopMaster(reason="told to stop"))
        self.master.close()
        await workers[0]
        well = not self.master.failed and not self.master.halted
        return await self.master.settled() if well else None
