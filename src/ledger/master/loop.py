"""The heart: decide, append, evolve, answer; one commit in flight.

While a commit is on its way to disk, requests are queued and not decided. So a thousand submitters
share one fsync, and whoever looks at the state between commits (`settled`) sees the fold of the
durable log and nothing else: answers, refusals, repeats and reads need no further care.

A batch is: decide, evolve a draft, decide the next. If the append fails, draft and process end
together; whoever asked is told `outcome_unknown` and repeats under his key. One failure is proved
harmless, a full disk before COMMIT: then the draft is dropped, by folding the log again, and what
would be recorded is refused for a while before it is tried again. Reads, repeats and polls go on.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from ledger.codec import CODEC, BrokenEvent
from ledger.commands import Command, Subject
from ledger.domain.cluster import decide, evolve
from ledger.domain.errors import (
    LogBehind,
    LogIsLocked,
    Malformed,
    NotNow,
    OutcomeUnknown,
    Refusal,
    TooBusy,
)
from ledger.domain.state import Ask, Cluster, Outcome
from ledger.events import Envelope, Event, Fact, Recorded, Via
from ledger.master.trouble import Trouble, met
from ledger.store.chain import Head
from ledger.store.log import AppendFailed, Draft, Fenced, Log, NothingWritten

MAX_QUEUED = 20_000
"""Requests waiting to be decided; more are refused as `too_busy`."""

MAX_BATCH_EVENTS = 4_000
"""Events of one commit, as near as whole requests allow."""

logger = structlog.get_logger("master")


class Request(NamedTuple):
    """Commands of one subject, decided one after the other, whose answers come back together.
    `since`: when it was queued, on the event loop's clock."""

    subject: Subject
    commands: Sequence[Command]
    via: Via
    request: str
    blobs: Mapping[str, bytes]
    done: asyncio.Future[list[Outcome | Refusal]]
    since: float


@dataclass
class Batch:
    """What is decided and not yet durable."""

    facts: list[Fact] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    answers: list[tuple[Request, list[Outcome | Refusal]]] = field(default_factory=list)


@dataclass
class Counters:
    """What the master has done since it began, for metrics."""

    commits: int = 0
    events: int = 0
    requests: int = 0
    refused: int = 0
    storage_full: int = 0
    log_locked: int = 0
    append_micros: int = 0
    largest_batch: int = 0


class Written(NamedTuple):
    """A commit of this master: requests and events in it, their bytes, how long it took to disk."""

    requests: int = 0
    events: int = 0
    size: int = 0
    micros: int = 0


Listener = Callable[[Sequence[Recorded]], None]


class Master:
    """The writer. Everything is called from its event loop, and nothing else changes `cluster`.

    `refold` gives the fold of the durable log again; `on_fatal` is told once, with a sentence, when
    the process has to end.
    """

    def __init__(
        self,
        log: Log,
        cluster: Cluster,
        now: Callable[[], int],
        refold: Callable[[], Cluster],
        on_fatal: Callable[[str], None],
    ) -> None:
        self.log = log
        self.cluster = cluster
        self.now = now
        self.head: Head = log.head()
        self.epoch = self.head.epoch + 1
        self.counters = Counters()
        self.last = Written()
        self.failed = ""
        self.halted = ""
        self.accepting = True
        self.trouble: Trouble | None = None
        self._shut = False
        self._refold = refold
        self._on_fatal = on_fatal
        self._queue: deque[Request] = deque()
        self._something = asyncio.Event()
        self._in_flight: asyncio.Future[None] | None = None
        self._listeners: list[Listener] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="append")

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the events of every commit, once it is durable, and with none when
        the master closes, until the function that this returns is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def queued(self) -> Sequence[Request]:
        """The requests that wait to be decided, the oldest first."""
        return self._queue

    async def settled(self) -> Cluster:
        """The fold of the durable log: waits while a commit is on its way to disk."""
        while self._in_flight is not None:
            await asyncio.shield(self._in_flight)
        if self.failed:
            raise NotNow(f"The master has ended: {self.failed}")
        return self.cluster

    async def ask(
        self,
        subject: Subject,
        commands: Sequence[Command],
        *,
        via: Via = Via(),  # noqa: B008 - frozen and empty
        request: str = "",
        blobs: Mapping[str, bytes] | None = None,
    ) -> list[Outcome | Refusal]:
        """Have commands decided, and the outcome made durable. Refusals are among the answers.

        Raises `TooBusy`, `NotNow`, `NotRecorded` or `OutcomeUnknown` where nothing could be
        decided, or where it is not known whether it became durable.
        """
        if self.failed or not self.accepting:
            raise NotNow("The master is stopping.")
        if self.halted:
            raise LogBehind(self.halted)
        if len(self._queue) >= MAX_QUEUED:
            raise TooBusy(f"{MAX_QUEUED} requests are waiting.", retry_after_s=1)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Outcome | Refusal]] = loop.create_future()
        self._queue.append(Request(subject, commands, via, request, blobs or {}, done, loop.time()))
        self._something.set()
        return await done

    async def ask_one(
        self,
        subject: Subject,
        command: Command,
        *,
        via: Via = Via(),  # noqa: B008 - frozen and empty
        request: str = "",
        blobs: Mapping[str, bytes] | None = None,
    ) -> Outcome:
        """`ask` for one command; its refusal is raised."""
        (answer,) = await self.ask(subject, (command,), via=via, request=request, blobs=blobs)
        if isinstance(answer, Refusal):
            raise answer
        return answer

    async def run(self) -> None:
        """Decide and append until `close` and nothing is left, or until an append fails."""
        while self.accepting and not self.failed:
            await self._something.wait()
            self._something.clear()
            while self._queue and not self.failed and not self.halted:
                batch = Batch()
                try:
                    self._decide(batch)
                    await self._commit(batch)
                except Exception as error:  # a draft half evolved, or a listener: see `_fatal`
                    self._fatal(batch, error)
        self._writer.shutdown(wait=not self.failed)

    def close(self) -> None:
        """Take nothing more; `run` returns once what was taken is done, and nobody need wait."""
        self.accepting = False
        self._something.set()
        for listener in tuple(self._listeners):
            listener(())

    def halt(self, why: str) -> None:
        """Decide nothing more, whoever asks: the log is not all that there was. Once is enough.

        What is on its way to disk gets there; the state can be read on; who waits is woken.
        """
        if self.halted:
            return
        self.halted = why
        logger.critical("nothing is decided any more: see docs/runbooks/log-behind.md", why=why)
        for request in self._queue:
            if not request.done.done():
                request.done.set_exception(LogBehind(why))
        self._queue.clear()
        for listener in tuple(self._listeners):
            listener(())

    def _decide(self, batch: Batch) -> None:
        at = max(self.now(), self.head.at)
        most = MAX_BATCH_EVENTS
        if (trouble := self.trouble) is not None:
            self._shut = asyncio.get_running_loop().time() < trouble.again_at
            most = 1  # one request tries whether the log takes events again
        while self._queue and len(batch.facts) < most:
            request = self._queue.popleft()
            if request.done.cancelled():
                continue
            self.counters.requests += 1
            answers: list[Outcome | Refusal] = []
            batch.answers.append((request, answers))
            answers.extend(self._decide_one(batch, request, cmd, at) for cmd in request.commands)

    def _decide_one(
        self, batch: Batch, request: Request, command: Command, at: int
    ) -> Outcome | Refusal:
        try:
            ask = Ask(request.subject, at, request.request)
            outcome = decide(self.cluster, ask, command)
            facts = self._facts(request, outcome.events)
            if facts and self._shut and self.trouble is not None:
                raise self.trouble.refuse()
        except Refusal as refusal:
            self.counters.refused += 1
            return refusal
        except BrokenEvent as broken:
            self.counters.refused += 1
            return Malformed(f"This can't be recorded: {broken}")
        except Exception:
            logger.exception(
                "a decision failed", command=type(command).__name__, request=request.request
            )
            return NotNow(
                "The master could not decide this; that is a fault of ours.",
                hint="Report it to the operators with the request id.",
            )
        for fact in facts:
            position = self.head.position + 2 + len(batch.facts)
            recorded = Recorded(
                position,
                fact.event.stream,
                position,
                self.head.commit + 1,
                at,
                self.epoch,
                self.log.incarnation,
                fact.event,
                fact.envelope,
            )
            evolve(self.cluster, recorded)
            batch.facts.append(fact)
            batch.recorded.append(recorded)
        if facts:
            batch.blobs.update(request.blobs)
        return outcome

    @staticmethod
    def _facts(request: Request, events: Sequence[Event]) -> list[Fact]:
        """The events as they will be stored: what can't be is refused before the draft changes."""
        if not events:
            return []
        envelope = Envelope(by=request.subject.name, via=request.via, request=request.request)
        return [Fact(event, envelope, CODEC.encode(event, envelope)) for event in events]

    async def _commit(self, batch: Batch) -> None:
        if batch.facts:
            loop = asyncio.get_running_loop()
            self._in_flight = loop.create_future()
            at = batch.recorded[0].at
            draft = Draft(at, self.epoch, batch.facts, batch.blobs)
            began = loop.time()
            try:
                self.head = await loop.run_in_executor(self._writer, self.log.append, [draft])
                self._count(batch, round((loop.time() - began) * 1e6))
            except NothingWritten as failure:
                await self._drop(batch, failure, began)
                return
            except Exception as error:
                self._fatal(batch, error)
                return
            finally:
                self._land()
            for listener in tuple(self._listeners):
                listener(batch.recorded)
        for request, answers in batch.answers:
            if not request.done.done():
                request.done.set_result(answers)

    def _count(self, batch: Batch, micros: int) -> None:
        """Take note of a commit that is durable."""
        requests, events = len(batch.answers), len(batch.facts)
        size = sum(len(fact.data) for fact in batch.facts)
        self.last = Written(requests, events, size, micros)
        if self.trouble is not None:
            self.trouble.over(batch.recorded[0].at)
            self.trouble = None
        self.counters.commits += 1
        self.counters.events += events
        self.counters.append_micros += micros
        self.counters.largest_batch = max(self.counters.largest_batch, requests)

    def _land(self) -> None:
        if self._in_flight is not None and not self._in_flight.done():
            self._in_flight.set_result(None)
        self._in_flight = None

    async def _drop(self, batch: Batch, failure: NothingWritten, began: float) -> None:
        """Nothing was written: forget the draft by folding the log again, and go on."""
        loop = asyncio.get_running_loop()
        try:
            self.cluster = await loop.run_in_executor(self._writer, self._refold)
        except Exception as error:
            self._fatal(batch, error)
            return
        self.trouble = met(failure, self.trouble, batch.recorded[0].at)
        self.trouble.rest(loop.time(), loop.time() - began)
        locked = self.trouble.refusal is LogIsLocked
        self.counters.log_locked += locked
        self.counters.storage_full += not locked
        for request, _ in batch.answers:
            if not request.done.done():
                request.done.set_exception(self.trouble.refuse())

    def _fatal(self, batch: Batch, error: Exception) -> None:
        """The log can't be trusted to have, or not to have, this batch: the process must end."""
        self.failed = f"{type(error).__name__}: {error}"
        known = isinstance(error, Fenced)
        logger.critical("the master ends", error=self.failed, fenced=known)
        if not isinstance(error, (Fenced, AppendFailed)):
            logger.critical("an unexpected failure", exc_info=error)
        refusal: type[Refusal] = NotNow if known else OutcomeUnknown
        waiting = [request for request, _ in batch.answers]
        waiting.extend(self._queue)
        self._queue.clear()
        for request in waiting:
            if not request.done.done():
                request.done.set_exception(
                    refusal("The master ends because its log failed: " + self.failed)
                )
        self._on_fatal(self.failed)


class Once:
    """Ends the process once, from whichever thread notices first."""

    def __init__(self, end: Callable[[str], None]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._done = False

    def __call__(self, reason: str) -> None:
        """Call `end(reason)` unless it was called before."""
        with self._lock:
            if self._done:
                return
            self._done = True
        self._end(reason)
