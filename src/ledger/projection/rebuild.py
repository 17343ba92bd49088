"""Rebuilding a projection beside its old tables, which answer until the new ones are whole.

It is the fold that always keeps a projection, into a twin: tables of other names in the same
database, which get their indexes at the end. When the twin has come to the head of the log, one
transaction drops the old tables and gives the new ones their names and the checkpoint. A `follow`
that keeps the old ones meanwhile finds its checkpoint changed, and goes on from the new one. What a
rebuild that was killed has left is removed by the next.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
import stamina

from ledger.projection.checkpoint import Checkpoint
from ledger.projection.follower import Follower
from ledger.projection.model import Projection
from ledger.projection.source import Batches, Source
from ledger.projection.store import Overtaken, Store

AT_ONCE = 20_000
"""Events of one batch. While its rows are written, who keeps the old tables on SQLite waits."""

PATIENCE_S = 60.0
"""How long readers of the old tables are waited for."""

Progress = Callable[[int, int], None]
"""Told now and then how far it has come, and the head of the log."""


def rebuild(
    projection: Projection,
    data: Path | None,
    url: str | None,
    source: Source,
    progress: Progress = lambda position, head: None,
) -> Checkpoint:
    """Make a projection anew from the log's beginning; its checkpoint once it has been switched.

    One that comes to an event which it can't digest stays as it was: the checkpoint that is
    returned then says where, and why, in `stopped_at` and `error`.
    """
    twin = projection.twin()
    with (
        closing(Store(projection, data, url)) as store,
        closing(Store(twin, data, url)) as beside,
        _resting(),
    ):
        store.open()
        beside.discard()
        follower, batches = Follower(twin, beside, source), Batches(source, AT_ONCE)
        while True:
            head = source.head().position
            while follower.step(batches.next):
                progress(follower.checkpoint.position, head)
            if follower.stopped:
                beside.discard()
                return follower.checkpoint
            try:
                if (done := _switch(store, twin, follower.checkpoint, source)) is not None:
                    return done
            except Overtaken:  # by another rebuild of the same: what it has made is gone on with
                continue


@contextmanager
def _resting() -> Iterator[None]:
    """No garbage collection: it would go through all remembered rows again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@stamina.retry(on=sa.exc.OperationalError, attempts=None, timeout=PATIENCE_S, wait_max=1.0)
def _switch(
    store: Store, twin: Projection, reached: Checkpoint, source: Source
) -> Checkpoint | None:
    def beyond(known: Checkpoint) -> bool:
        """Have the old tables taken in more of this very log?"""
        if known.position <= reached.position or known.incarnation != source.incarnation:
            return False
        place = source.commit_at(known.position)
        return place is not None and place.hash == known.hash

    store.index(twin)
    return store.take_over(twin, reached, beyond)
