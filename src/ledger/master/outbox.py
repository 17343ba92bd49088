"""Telling people, second half: the notices that wait are sent.

The outbox is the fold: a notice that is due waits in the state until it is recorded that it was
sent, or given up, whoever reigns. So it is sent at least once: by a master that ends between
sending and recording, and by the next one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import tzinfo
from typing import NamedTuple

import msgspec
import structlog

from ledger.commands import SYSTEM, Command, RecordFailed, RecordSent
from ledger.domain.errors import Limited, Refusal
from ledger.domain.notices import GIVEN_UP_US, again_at, due
from ledger.domain.state import SERVICE, Cluster, Notice, Outage
from ledger.effects.channels import BadChannel, Channel, parse, url
from ledger.effects.digest import About, HitJob, Letter, compose
from ledger.effects.sender import WORKERS, Sender
from ledger.events import Why
from ledger.master.loop import Master
from ledger.master.telling import History, NotKnownYet
from ledger.master.texts import Texts

logger = structlog.get_logger("notices")

LOOK_S = 0.5
BETWEEN_S = 0.05
"""Notices that are recorded within it make one look: each goes through all that wait."""

UNDER_WAY = 2 * WORKERS
"""So many notices are being made or sent at a time."""

PATIENCE_US = 10 * 60 * 1_000_000
"""So long a notice waits for the projections before it goes out without a list of jobs."""

PATIENCE_S = 2.0
SLOW_S = 3.0
"""A channel that fails after so long holds up none but those that are as slow."""

TRIAL_EVERY_US = 60 * 1_000_000
MAX_ERROR = 200
_addresses = msgspec.json.Decoder(tuple[str, ...]).decode


class Post(NamedTuple):
    """How notices go out. `mail`: the site's own mail server, as a URL of apprise; `mail_domain`:
    who has no contact gets mail at his name there; `schemes`: what users may give for themselves;
    `zone`: whose times are told, None: this machine's."""

    mail: str = ""
    mail_domain: str = ""
    schemes: tuple[str, ...] = ("mailto", "mailtos")
    zone: tzinfo | None = None


NO_POST = Post()
"""No mail server: only those are told who have channels of their own."""


class Counts:
    """What this master has sent since it began, and what went wrong last (on the log's clock)."""

    def __init__(self) -> None:
        self.sent = self.failed = 0
        self.error, self.error_at = "", 0


class Outbox:
    """Sends what is due. `fresh` says whether this process may still speak for the log."""

    def __init__(
        self,
        master: Master,
        texts: Texts,
        history: History,
        post: Post,
        sender: Sender,
        fresh: Callable[[], bool],
    ) -> None:
        self._master, self._texts, self._history, self._fresh = master, texts, history, fresh
        self.post, self.sender, self.counts = post, sender, Counts()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._unrecorded: dict[int, Command] = {}
        self._done = asyncio.Event()
        self._places: dict[int, frozenset[str]] = {}
        self._slow: set[str] = set()
        self._trials: dict[tuple[str, bool], int] = {}

    # ── when ─────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Send until cancelled: the next as soon as one is on record."""
        try:
            while True:
                try:
                    await self.look()
                except Refusal as refusal:
                    logger.warning("notices can't be sent yet", error=str(refusal))
                except Exception as error:  # whatever it is, the master goes on
                    logger.error("notices can't be sent: a fault of ours", error=repr(error))
                await asyncio.sleep(BETWEEN_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._done.wait()
                self._done.clear()
        finally:
            for task in self._under_way.values():
                task.cancel()
            self.sender.close()

    async def look(self) -> None:
        """Begin to send what is due, as much as may be under way at a time."""
        cluster = await self._master.settled()
        if self._master.halted or not self._fresh() or not cluster.policy.notify:
            return
        now = self._master.now()
        waiting = due(cluster, now)
        self._unrecorded = {n: c for n, c in self._unrecorded.items() if n in cluster.notices}
        if not self._under_way:
            self._places = {n.n: self._places[n.n] for n in waiting if n.n in self._places}
        for notice in waiting:
            if len(self._under_way) >= UNDER_WAY:
                return
            if notice.n in self._under_way or self._held_up(notice.n):
                continue
            if notice.n in self._unrecorded:
                self._begin(notice.n, self._record(notice.n, self._unrecorded[notice.n]))
            elif self.reachable(cluster, notice.to, notice.desk):
                self._begin(notice.n, self._deliver(notice))
            elif now - notice.due_at > GIVEN_UP_US:
                nobody = RecordFailed(
                    notice=notice.n, error="no contact is known", tries=notice.tries, next_at=0
                )
                self._begin(notice.n, self._record(notice.n, nobody))

    def _held_up(self, n: int) -> bool:
        """Must it wait for another one that is slow as well?"""
        if not self._slow & self._places.get(n, frozenset()):
            return False
        others = [self._places.get(m, frozenset()) for m in self._under_way if m != n]
        return any(self._slow & places for places in others)

    def _begin(self, n: int, what: Coroutine[None, None, None]) -> None:
        task = self._under_way[n] = asyncio.ensure_future(what)
        task.add_done_callback(lambda done: self._ended(n, done))

    def _ended(self, n: int, done: "asyncio.Task[None]") -> None:
        del self._under_way[n]
        if not done.cancelled() and (error := done.exception()) is not None:
            logger.error("a notice could not be sent", notice=n, error=type(error).__name__)

    @property
    def under_way(self) -> int:
        """How many are being made or sent."""
        return len(self._under_way)

    # ── to whom ──────────────────────────────────────────────────────────────────────────────────

    def reachable(self, cluster: Cluster, to: str, desk: bool) -> bool:
        """Is there any way to tell him?"""
        known = (to, desk) in cluster.recipients
        return known or (bool(self.post.mail_domain and self.post.mail) and not desk)

    async def channels(self, cluster: Cluster, to: str, desk: bool) -> list[Channel]:
        """How somebody is told: as he, or an operator, has said, else by mail at the site's domain.
        What can't be understood, or was erased, is left out."""
        known = cluster.recipients.get((to, desk))
        addresses: tuple[str, ...] = ()
        if known is None and self.post.mail_domain and not desk:
            addresses = (f"{to}@{self.post.mail_domain}",)
        elif known is not None and known.addresses:
            addresses = _addresses(await self._texts.text(known.addresses) or b"[]")
        found = []
        for address in addresses:
            try:
                found.append(parse(address))
            except BadChannel:
                logger.warning("an address can't be understood", to=to, desk=desk)
        return found

    async def reach(
        self, found: Sequence[Channel], letter: Letter, mark: str
    ) -> list[tuple[Channel, str]]:
        """Send a letter over these channels: why each did not take it, empty where it did."""
        urls, faults = [], {}
        for channel in found:
            try:
                urls.append((channel, url(channel, self.post.mail)))
            except BadChannel as bad:
                faults[channel] = str(bad)
        if urls:
            said = await self.sender.send([u for _, u in urls], letter.title, letter.body, mark)
            faults |= dict(zip([channel for channel, _ in urls], said, strict=True))
        return [(channel, faults[channel]) for channel in found]

    async def check(self, found: Sequence[Channel]) -> Sequence[str]:
        """What apprise says is wrong with each of these; empty: nothing."""
        return await self.sender.check([channel.address for channel in found]) if found else []

    def allow_trial(self, to: str, desk: bool) -> None:
        """Raise `Limited` where he was sent a test message less than a minute ago."""
        now = self._master.now()
        self._trials = {k: at for k, at in self._trials.items() if now - at < TRIAL_EVERY_US}
        if (to, desk) in self._trials:
            raise Limited("He was sent a test message less than a minute ago.", retry_after_s=60)
        self._trials[to, desk] = now

    # ── what ─────────────────────────────────────────────────────────────────────────────────────

    async def letter(
        self, o: Outage, why: Why, to: str, *, desk: bool, notice: int = 0, due_at: int = 0
    ) -> Letter | None:
        """What somebody is told of an outage: exactly this is sent; None: it hit no job of his.

        Raises `NotKnownYet` where the projections can't tell his jobs; but once a notice has waited
        long enough for these, it says so itself.
        """
        cluster = await self._master.settled()
        seen = replace(o, nodes=set(o.nodes), told=dict(o.told), failed=set(o.failed))
        named, at_least = cluster.policy.notice_jobs, o.touched
        if why == "over":  # what came of it is in the log's last events
            at_least = cluster.position
        asks = why in ("hit", "cause", "over")  # a desk that hears of a failing pool is not kept
        waited = due_at and self._master.now() - due_at > PATIENCE_US
        jobs: list[HitJob] | None = []
        result = ""
        try:
            if asks and not desk:
                jobs = await asyncio.to_thread(
                    self._history.hit, seen, to, named, at_least, PATIENCE_S
                )
            if asks and seen.closed_at:
                result = await asyncio.to_thread(self._history.result, seen, at_least, PATIENCE_S)
        except NotKnownYet:
            if not waited:
                raise
            jobs = None
        if why == "hit" and jobs == []:
            return None
        pool = min(seen.failed - {"", SERVICE}, default="")
        about = About(notice, why, desk, seen, jobs, named, result, pool, self.post.zone)
        return compose(about)

    # ── sending ──────────────────────────────────────────────────────────────────────────────────

    async def _deliver(self, notice: Notice) -> None:
        cluster = await self._master.settled()
        found = await self.channels(cluster, notice.to, notice.desk)
        self._places[notice.n] = frozenset(channel.shown for channel in found)
        if self._held_up(notice.n):
            return
        o = cluster.outage(notice.outage)
        if o is None:
            await self._failed(notice, "the outage is long over", for_good=True)
            return
        try:
            letter = await self.letter(
                o, notice.why, notice.to, desk=notice.desk, notice=notice.n, due_at=notice.due_at
            )
        except NotKnownYet:
            return  # it is looked at again soon, and that is no failure of his channels
        if letter is None:
            await self._failed(notice, "it hit no job of his", for_good=True)
            return
        began = asyncio.get_running_loop().time()
        if not self._fresh():
            return
        said = await self.reach(found, letter, f"{self._master.log.incarnation}-{notice.n}")
        if asyncio.get_running_loop().time() - began > SLOW_S:
            self._slow |= {channel.shown for channel, fault in said if fault}
        self._slow -= {channel.shown for channel, fault in said if not fault}
        taken = tuple(dict.fromkeys(channel.scheme for channel, fault in said if not fault))
        if not taken:
            faults = [f"{channel.scheme}: {fault}" for channel, fault in said]
            await self._failed(notice, "; ".join(faults) or "the addresses can't be read")
            return
        self.counts.sent += 1
        sent = RecordSent(notice=notice.n, channels=taken, tries=notice.tries + 1)
        await self._record(notice.n, sent)

    async def _failed(self, notice: Notice, error: str, *, for_good: bool = False) -> None:
        now, tries = self._master.now(), notice.tries + 1
        self.counts.failed += 1
        self.counts.error, self.counts.error_at = error[:MAX_ERROR], now
        again = 0 if for_good else again_at(tries, now, notice.due_at)
        logger.warning("a notice was not taken", notice=notice.n, error=error, given_up=not again)
        failed = RecordFailed(notice=notice.n, error=error[:MAX_ERROR], tries=tries, next_at=again)
        await self._record(notice.n, failed)

    async def _record(self, n: int, command: Command) -> None:
        """Have it recorded; until it is, it is not sent again by this master."""
        self._unrecorded[n] = command
        await self._master.ask_one(SYSTEM, command)
        del self._unrecorded[n]
        self._done.set()
