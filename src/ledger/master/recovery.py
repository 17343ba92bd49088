"""Coming back: the fold from the last checkpoint to the head, with a report of what was found."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from ledger.domain import snapshot
from ledger.domain.cluster import evolve
from ledger.domain.state import Cluster
from ledger.events import MasterStarted
from ledger.store import checkpoint
from ledger.store.chain import Head
from ledger.store.log import Log

logger = structlog.get_logger("recovery")

Progress = Callable[[int, int], None]
"""Told (position reached, position of the head) now and then."""

PROGRESS_EVERY = 20_000
CHECKPOINT_EVERY = 200_000
"""Events between two checkpoints that are written while a master reigns."""


@dataclass(frozen=True)
class Recovered:
    """What a start found. `from_checkpoint` is the position it began behind, 0 for the start.

    `lost`: how many positions a checkpoint witnesses beyond the log's end. `set_aside`: what was
    not believed, in words.
    """

    cluster: Cluster
    from_checkpoint: int
    events: int
    micros: int
    clean_stop: bool
    lost: int
    set_aside: tuple[str, ...]

    def report(self) -> dict[str, int]:
        """The recovery report as it is recorded in `MasterStarted` and printed."""
        c = self.cluster
        running = [c.jobs[job] for job in c.running]
        return {
            "from_checkpoint": self.from_checkpoint,
            "events_replayed": self.events,
            "micros": self.micros,
            "jobs_pending": len(c.jobs) - len(running),
            "jobs_running": len(running),
            "agents_awaited": sum(1 for n in c.nodes.values() if n.health != "down"),
            "clean_stop": int(self.clean_stop),
            "lost_positions": self.lost,
            "set_aside": len(self.set_aside),
        }


def recover(
    log: Log,
    checkpoints: Path | None,
    progress: Progress | None = None,
    steady_ns: Callable[[], int] = time.monotonic_ns,
) -> Recovered:
    """Fold the log to its head. The garbage collector rests meanwhile.

    Raises `LogCorrupt`, `UnknownEvent` or `BrokenEvent` where the log can't be believed: a master
    does not start on such a log, and nothing is skipped.
    """
    began = steady_ns()
    set_aside: list[str] = []
    start, cluster = _from_checkpoint(log, checkpoints, set_aside)
    target = log.head().position
    lost = max(0, checkpoint.furthest(checkpoints) - target) if checkpoints else 0
    events = 0
    gc.disable()
    try:
        found = log.read(after=start.position if start else 0)
        for events, recorded in enumerate(found, 1):
            evolve(cluster, recorded)
            if progress is not None and events % PROGRESS_EVERY == 0:
                progress(recorded.position, target)
    finally:
        gc.enable()
    micros = (steady_ns() - began) // 1000
    clean = cluster.clean_stop
    began_behind = start.position if start else 0
    return Recovered(cluster, began_behind, events, micros, clean, lost, tuple(set_aside))


def _from_checkpoint(
    log: Log, folder: Path | None, set_aside: list[str]
) -> tuple[Head | None, Cluster]:
    if folder is None:
        return None, Cluster()
    found = checkpoint.load(folder, log, snapshot.STATE_VERSION, set_aside)
    if found is None:
        return None, Cluster()
    head, payload = found
    try:
        return head, snapshot.from_bytes(payload)
    except msgspec.MsgspecError as error:
        logger.warning("a checkpoint can't be read: the whole log is replayed", error=str(error))
        set_aside.append(f"checkpoint at {head.position}: {error}")
        return None, Cluster()


def is_archive(log: Log) -> bool:
    """Is it an imported past, or a scratch ledger, which no master goes on from?"""
    first = next(log.read_stream("master"), None)
    return (
        first is not None
        and isinstance(first.event, MasterStarted)
        and first.event.durability == "off"
    )


class Checkpoints:
    """Saves checkpoints of a settled state, and tells how that went.

    `saved`: how many since this process began; `micros`: how long the last took; `position` and
    `size` (bytes) are its own. `failures` counts those that failed, the last one for `error`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved = self.micros = self.position = self.size = 0
        self.failures, self.error = 0, ""

    def files(self) -> list[checkpoint.Kept]:
        """Those on disk, the newest first."""
        return checkpoint.kept(self.folder)

    def save(self, head: Head, cluster: Cluster) -> None:
        """Write a checkpoint of the settled state at `head`.

        One that fails is said and counted: the log has everything, coming back only takes longer.
        """
        began = time.monotonic_ns()
        try:
            payload = snapshot.to_bytes(cluster)
            checkpoint.save(self.folder, head.position, head.hash, snapshot.STATE_VERSION, payload)
        except OSError as error:
            self.failures, self.error = self.failures + 1, str(error)
            logger.error("a checkpoint could not be written", error=self.error)
            return
        self.saved, self.error = self.saved + 1, ""
        self.micros = (time.monotonic_ns() - began) // 1000
        self.position, self.size = head.position, len(payload)
