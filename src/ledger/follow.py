"""The process that keeps all projections: `jobledger follow`.

One loop for all of them: each batch of events is read and decoded once, then folded by every
projection in turn. One that stops, or is being rebuilt, keeps no other waiting for longer than a
batch takes.
"""

import signal
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import structlog

from ledger.projection.checkpoint import Checkpoint
from ledger.projection.discover import discover
from ledger.projection.follower import Follower, folded
from ledger.projection.model import Projection
from ledger.projection.reader import Reader, Unavailable
from ledger.projection.rebuild import Progress
from ledger.projection.rebuild import rebuild as rebuild_beside
from ledger.projection.source import BATCH, Batch, batch
from ledger.projection.store import Store
from ledger.settings import keep_private
from ledger.store.location import open_log
from ledger.store.log import Log, LogUnavailable

logger = structlog.get_logger("follow")

IDLE_S = 1.0
"""How long it waits for news at a time, before it looks whether it is to go."""
PAUSE_S = 0.1
PAUSE_MOST_S = 5.0


class Stop:
    """Says that the process is to go; `on_stop` is called when it is said."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.on_stop: Callable[[], None] = lambda: None

    def __call__(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Say it: a signal handler, too."""
        self._asked.set()
        self.on_stop()

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def wait(self, seconds: float) -> None:
        """Do nothing for so long, or until it is said."""
        self._asked.wait(seconds)


@dataclass
class Doing:
    """What the one who follows tells of itself: how often it began anew after a failure, and what
    keeps it from following now, if anything does."""

    restarts: int = 0
    trouble: str = ""


def run_follow(data: Path, database_url: str | None, doing: Doing | None = None) -> None:
    """Keep every projection up to date until SIGTERM or SIGINT.

    The log is in `data`, or in PostgreSQL if a URL is given; the projections beside it. A database
    that goes away is waited for; `doing` tells of it.
    """
    keep_private(data)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    found = discover()
    for name, error in found.broken.items():
        logger.error("projection is broken and left out", projection=name, error=error)
    follow(list(found.projections.values()), data, database_url, stop, doing=doing)


def follow(
    projections: list[Projection],
    data: Path,
    database_url: str | None,
    stop: Stop,
    size: int = BATCH,
    doing: Doing | None = None,
) -> None:
    """Keep these projections up to date until `stop`, `size` events at a time.

    Whatever goes wrong, it begins anew, after a pause that grows up to five seconds.
    """
    pause, doing = PAUSE_S, doing or Doing()
    while not stop:
        try:
            with Keeper(projections, data, database_url, size) as keeper:
                stop.on_stop = keeper.log.interrupt
                while not stop:
                    keeper.turn()
                    pause, doing.trouble = PAUSE_S, ""
                    keeper.log.wait(keeper.position, IDLE_S)  # not at all where it has grown
        except Exception as error:
            stop.on_stop = lambda: None
            doing.restarts, doing.trouble = doing.restarts + 1, str(error) or repr(error)
            logger.error("can't follow; trying again", error=repr(error), pause_s=pause)
            stop.wait(pause)
            pause = min(2 * pause, PAUSE_MOST_S)
    logger.info("follow ends")


class Verdict(NamedTuple):
    """SHA-256 of what a projection holds at a position, and of the log's fold up to there.

    `differs` names the table and the first key that differs, empty if none does.
    """

    position: int
    live: str
    folded: str
    differs: str


def verify(name: str, data: Path, database_url: str | None) -> Verdict:
    """Compare a projection, as it is now, with the log folded anew in memory.

    Raises `Unavailable`, also where it is of another log, and `LogUnavailable`.
    """
    projections = discover().projections
    with closing(open_log(data, database_url, write=False)) as log:
        with closing(Reader(projections, data, database_url, log.incarnation)) as reader:
            checkpoint, live = reader.dump(name)
        anew = folded(projections[name], log, checkpoint)
    differs = difference(projections[name], live, anew) if live != anew else ""
    return Verdict(checkpoint.position, sha256(live).hexdigest(), sha256(anew).hexdigest(), differs)


def difference(projection: Projection, live: bytes, folded: bytes) -> str:
    """The first table and key in which two dumps of a projection differ, in words."""
    mine, log = _by_table(live), _by_table(folded)
    for table in projection.tables:
        rows = [
            {tuple(row[: table.key]): row for row in found[table.name]} for found in (mine, log)
        ]
        wrong = [
            key for key in rows[0].keys() | rows[1].keys() if rows[0].get(key) != rows[1].get(key)
        ]
        if wrong:
            key = min(wrong)
            what = "is not in the log" if key not in rows[1] else "is missing"
            what = "is another" if key in rows[0] and key in rows[1] else what
            return f"{table.name} {msgspec.json.encode(key).decode()} {what}"
    return "the order of the rows"


def _by_table(dump: bytes) -> dict[str, list[list[Any]]]:
    found: dict[str, list[list[Any]]] = {}
    for text in dump.splitlines():
        row = msgspec.json.decode(text)
        if isinstance(row, dict):
            rows = found.setdefault(row["table"], [])
        else:
            rows.append(row)
    return found


def rebuild(
    name: str, data: Path, database_url: str | None, progress: Progress = lambda *_: None
) -> Checkpoint:
    """Make a projection anew from the log, beside the old one; see `projection.rebuild`.

    A `follow` that runs meanwhile goes on from there. Raises `Unavailable` and `LogUnavailable`.
    """
    projection = discover().projections.get(name)
    if projection is None:
        raise Unavailable(f"there is no projection {name}")
    with closing(open_log(data, database_url, write=False)) as log:
        return rebuild_beside(projection, data, database_url, log, progress)


class Keeper:
    """A log and the followers of it, for as long as the databases can be reached."""

    def __init__(
        self, projections: list[Projection], data: Path, url: str | None, size: int = BATCH
    ) -> None:
        self._size = size
        self.log: Log = open_log(data, url, write=False)
        self._stores: list[Store] = []
        self._followers: list[Follower] = []
        self._known: tuple[int, Batch | None] | None = None
        try:
            for projection in projections:
                store = Store(projection, data, url)
                self._stores.append(store)
                self._followers.append(Follower(projection, store, self.log))
        except BaseException:
            self.close()
            raise
        logger.info(
            "following", positions={f.projection.id: f.checkpoint.position for f in self._followers}
        )

    @property
    def position(self) -> int:
        """How far the log has been taken in by those that get on."""
        going = [f.checkpoint.position for f in self._followers if not f.stopped]
        return min(going) if going else self.log.head().position

    def turn(self) -> None:
        """One batch for each projection. Raises `LogUnavailable` where another log lies by now."""
        if self.log.replaced():
            raise LogUnavailable("another log lies there now, or none")
        self._known = None
        for follower in self._followers:
            follower.step(self._batch)

    def _batch(self, after: int) -> Batch | None:
        """The next batch, read once for all projections that are at the same place."""
        if self._known is None or self._known[0] != after:
            self._known = (after, batch(self.log, after, self._size))
        return self._known[1]

    def close(self) -> None:
        """Let go of the databases."""
        for store in self._stores:
            store.close()
        self.log.close()

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
