"""Answers out of a ledger that no master reigns over: an imported past.

The questions, their routes and their tables are those of a running service; only nobody can be
asked to change anything. It is served on a private socket for as long as a command takes.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ledger.api.server import serve
from ledger.domain.cluster import fold
from ledger.domain.state import Cluster
from ledger.master.core import Core
from ledger.master.outputs import Outputs
from ledger.master.past import Here, pasts_of
from ledger.master.reader import LogReader
from ledger.master.recovery import Checkpoints, Recovered, is_archive
from ledger.master.service import Service
from ledger.projection.discover import discover
from ledger.projection.follower import Follower
from ledger.projection.model import Projection
from ledger.projection.reader import Reader
from ledger.projection.store import Store
from ledger.settings import SOCKET
from ledger.store.location import db_version, open_log

START_S = 30.0

Progress = Callable[[str, int, int], None]
"""Told now and then which projection is being made, how far it is, and how far it has to go."""


def found(data: Path) -> bool:
    """Is there an archive in a directory?"""
    if db_version(data, None) is None:
        return False
    with closing(open_log(data, None, write=False)) as log:
        return is_archive(log)


@contextmanager
def served(data: Path, progress: Progress | None = None, now: int | None = None) -> Iterator[str]:
    """The URL at which the archive in `data` answers until the block ends.

    Its projections are made first, where they are not yet: the first question waits for that.
    With `now` (µs) it is no archive: it answers as a service whose log this is would at that time.
    Raises `LogFailure`, or a database's own error where they can't be made.
    """
    projections = discover().projections
    for projection in projections.values():
        _make(projection, data, progress)
    with TemporaryDirectory(prefix="jobledger-") as private:
        stop, ready = asyncio.Event(), threading.Event()
        loop = asyncio.new_event_loop()

        async def run() -> None:
            service = _service(Path(private), data, projections, now)
            server = asyncio.ensure_future(serve(service, stop, listen=(), insecure=False))
            await asyncio.sleep(0)  # its first step binds the socket
            ready.set()
            await server
            assert service.running is not None
            service.running.reader.close()
            service.running.history.close()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
        thread.start()
        try:
            ready.wait(START_S)
            yield f"unix:{Path(private) / SOCKET}"
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(START_S)


def _make(projection: Projection, data: Path, progress: Progress | None) -> None:
    """Bring a projection up to the log's head."""
    with (
        closing(open_log(data, None, write=False)) as log,
        closing(Store(projection, data, None)) as store,
    ):
        follower = Follower(projection, store, log)
        head = log.head().position
        while follower.step():
            if progress is not None:
                progress(projection.name, follower.checkpoint.position, head)


def _service(
    private: Path, data: Path, projections: dict[str, Projection], now: int | None
) -> Service:
    """A service over what is past. Of an archive, no job lives: all questions are of history."""
    log = open_log(data, None, write=False)
    head = log.head()
    reader = LogReader(partial(open_log, data, None, write=False))
    history = Reader(projections, data, None, log.incarnation)
    if now is None:
        last: int = history.ask("jobs", history.query("jobs", "last")).value
        cluster = Cluster(position=head.position, at=head.at, epoch=head.epoch, next_job=last + 1)
        cluster.ended = bytearray(b"\1" * (last + 1))  # every job there was is over
    else:
        cluster = Cluster()
        fold(log.read(), cluster)
    recovered = Recovered(cluster, 0, 0, 0, clean_stop=True, lost=0, set_aside=())
    present = head.at + 1 if now is None else now  # what happened last is over
    core = Core(
        log, recovered, lambda: present, lambda: cluster, lambda reason: None, reader, lambda: True
    )
    past = Here(pasts_of(data, None))
    running = core.running(history, past, Outputs(private / "output"), Checkpoints(private))
    return Service(private, None, frozenset({os.getuid()}), running, archive=now is None)
