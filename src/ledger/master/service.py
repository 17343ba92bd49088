"""The parts of a running master, as the API sees them, and the state before there are any."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger.commands import Subject
from ledger.domain.errors import NotNow
from ledger.events import AttemptEnded, JobEnded, Recorded
from ledger.master.contacts import Contacts
from ledger.master.identity import by_token, expiry
from ledger.master.loop import Master
from ledger.master.outbox import Outbox
from ledger.master.outputs import Outputs
from ledger.master.past import Past
from ledger.master.reader import LogReader
from ledger.master.recovery import Checkpoints
from ledger.master.telling import Teller
from ledger.master.texts import Texts
from ledger.master.timers import Planner, RefusedDemand
from ledger.projection.reader import Reader
from ledger.store.location import size_of
from ledger.store.shelf import Freshness, freshness


class Bells:
    """Wakes the requests that wait for something about a job: its end, or more output."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Event]] = {}
        self.ends: dict[int, Recorded] = {}

    def heard(self, recorded: Sequence[Recorded]) -> None:
        """Take note of the ends in a commit, and wake who waits for them; all if it is empty."""
        if not recorded:
            for job in self._waiting:
                self.ring(job)
        for r in recorded:
            if isinstance(r.event, AttemptEnded | JobEnded) and r.event.job in self._waiting:
                if r.event.state != "pending":
                    self.ends[r.event.job] = r
                self.ring(r.event.job)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    def ring(self, job: int) -> None:
        """Wake who waits for this job."""
        for event in self._waiting.get(job, ()):
            event.set()

    def subscribe(self, job: int) -> asyncio.Event:
        """An event that is set whenever something about the job has changed."""
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        return event

    def unsubscribe(self, job: int, event: asyncio.Event) -> None:
        """Wait for the job no more."""
        waiting = self._waiting.get(job, set())
        waiting.discard(event)
        if not waiting:
            self._waiting.pop(job, None)
            self.ends.pop(job, None)


@dataclass
class Running:
    """A master that reigns."""

    master: Master
    contacts: Contacts
    texts: Texts
    planner: Planner
    refused: RefusedDemand
    reader: LogReader
    history: Reader
    past: Past
    outputs: Outputs
    bells: Bells
    recovery: dict[str, int]
    checkpoints: Checkpoints
    teller: Teller
    outbox: Outbox


@dataclass
class Service:
    """What the API serves: nothing but its progress until `running` is set.

    `archive`: what is served is a past, in which nothing can be changed.
    """

    data: Path
    database_url: str | None
    operator_uids: frozenset[int]
    running: Running | None = None
    replayed: int = 0
    head: int = 0
    warnings: list[str] = field(default_factory=list)
    listening: list[str] = field(default_factory=list)
    backups: Path | None = None
    backup_every_s: int = 0
    archive: bool = False

    async def known(self, secret: str) -> tuple[Subject, int]:
        """Whom a token stands for, and until when (µs, 0 for ever).

        Raises `Unauthenticated`, and `NotNow` while the log is replayed.
        """
        if self.running is None:
            raise NotNow("The master is replaying its log; tokens are not known yet.")
        master = self.running.master
        cluster = await master.settled()
        return by_token(cluster, secret, master.now()), expiry(cluster, secret)

    def all_warnings(self) -> list[str]:
        """What is wrong, from the start on and since, but for backups."""
        behind = self.running.contacts.behind if self.running is not None else 0
        seen = [f"an agent has seen position {behind}, which this log does not have"]
        return [*self.warnings, *self.troubles(), *(seen if behind else ())]

    def as_of(self) -> tuple[int, int] | None:
        """The position and the epoch of the settled state; None until the master reigns."""
        if self.running is None:
            return None
        return self.running.master.head.position, self.running.master.epoch

    def log_bytes(self) -> int | None:
        """The size of the log's files; None where it lies in a database server. Reads no file."""
        return None if self.database_url else size_of(self.data)

    def troubles(self) -> list[str]:
        """What this master can't do for now, in words."""
        if (running := self.running) is None:
            return []
        found = []
        if (trouble := running.master.trouble) is not None:
            found.append(f"{trouble.sentence.rstrip('.')}: what would be recorded is refused")
        if why := running.checkpoints.error:
            found.append(f"no checkpoint can be written ({why}): a restart takes longer")
        if why := running.outputs.trouble:
            found.append(f"the output store takes nothing ({why}): agents keep what jobs print")
        return found

    def freshness(self) -> Freshness | None:
        """How old the newest backup is; None until the master reigns. Reads files."""
        if self.running is None or self.backups is None:
            return None
        incarnation = self.running.master.log.incarnation
        return freshness(self.backups, incarnation, self.backup_every_s)
