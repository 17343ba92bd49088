"""Keeping one projection: taking in what the log says, batch by batch, and starting again from the
log's beginning whenever the checkpoint is not a place in this log."""

from collections.abc import Callable, Sequence

import structlog

from ledger.events import ProjectionSkipped, Recorded
from ledger.projection.checkpoint import Checkpoint
from ledger.projection.fold import Change, Rows, Undigestable, dump, fold, in_order
from ledger.projection.model import Projection
from ledger.projection.source import Batch, Source, batch, skips
from ledger.projection.store import Overtaken, Refused, Store

logger = structlog.get_logger("projection")
NextBatch = Callable[[int], Batch | None]


class Follower:
    """One projection, its store and the log it follows. Used by one thread at a time."""

    def __init__(self, projection: Projection, store: Store, source: Source) -> None:
        self.projection = projection
        self._store, self._source = store, source
        self._log = logger.bind(projection=projection.id)
        self.checkpoint = Checkpoint()
        self._load()

    @property
    def stopped(self) -> bool:
        """Does it stand still before an event that it can't digest?"""
        return bool(self.checkpoint.stopped_at)

    def step(self, next_batch: NextBatch | None = None) -> bool:
        """Take in the next batch; whether there was one and it got on.

        `next_batch(after)` gives it. An event that can't be digested stops the projection at the
        commit before, which `checkpoint` then tells; it goes on once the log says that the event
        is to be skipped.
        """
        try:
            if self._store.gone():
                self._load()
            if self.stopped and not self._released():
                return False
            self._confirm()
            found = next_batch or (lambda after: batch(self._source, after))
            taken = found(self.checkpoint.position)
            return taken is not None and self._take(taken)
        except Overtaken:
            if not self._store.gone():  # which may have happened since it was looked for
                self._log.warning("projection changed by another process: read again")
            self._load()
            return True

    def catch_up(self, next_batch: NextBatch | None = None) -> Checkpoint:
        """Take in all there is, or all up to the event that can't be digested."""
        while self.step(next_batch):
            pass
        return self.checkpoint

    def rebuild(self) -> None:
        """Forget every row: the next steps begin at the log's beginning."""
        self.checkpoint = self._store.reset()
        self._begin(empty=True)

    def verify(self) -> bool:
        """Are the rows what the log says, folded anew in memory up to the checkpoint?"""
        checkpoint, live = self._store.dump()
        return live == folded(self.projection, self._source, checkpoint)

    def _load(self) -> None:
        if self._store.gone():
            self._log.warning("the file is gone: projection is made again")
        self.checkpoint = self._store.open()
        self._begin(empty=self.checkpoint.position == 0)
        if self.stopped:
            self.checkpoint = self._store.stop(self.checkpoint, 0, "")

    def _begin(self, *, empty: bool) -> None:
        self._rows = Rows(self.projection, self._store, empty=empty)
        self._skips = skips(self._source, self.projection.name)

    def _confirm(self) -> None:
        """Is the checkpoint a place in this log? Otherwise begin again, aloud."""
        mine = self.checkpoint
        if mine.position == 0:
            return
        place = self._source.commit_at(mine.position)
        found = None if place is None else place.hash
        if found != mine.hash or self._source.incarnation != mine.incarnation:
            self._log.warning(
                "the log does not confirm the checkpoint: projection is rebuilt",
                position=mine.position,
                hash=mine.hash,
                found=found,
                incarnation=mine.incarnation,
                log_incarnation=self._source.incarnation,
            )
            self.rebuild()

    def _released(self) -> bool:
        """Has the log come to say that the event it stands before is to be skipped?"""
        self._skips = skips(self._source, self.projection.name)
        if self.checkpoint.stopped_at not in self._skips:
            return False
        self._log.warning("event is skipped, as recorded", position=self.checkpoint.stopped_at)
        self.checkpoint = self._store.stop(self.checkpoint, 0, "")
        self._begin(empty=self.checkpoint.position == 0)
        return True

    def _take(self, taken: Batch) -> bool:
        """Fold and write a batch. Where it can't be digested: what lies before, then stop."""
        if self._missed(taken.events):
            self._log.warning("an event is to be skipped that was taken in: projection is rebuilt")
            self.rebuild()
            return True
        try:
            self._write(taken)
        except Undigestable as error:
            return self._stop(taken, error.position, error.commit, str(error))
        except Refused as error:
            at = self._culprit(taken.events)
            return self._stop(taken, at.position, at.commit, str(error))
        if taken.unreadable:
            self._halt(*taken.unreadable)
        return not self.stopped

    def _write(self, taken: Batch) -> None:
        before, end = self.checkpoint, taken.end
        try:
            changes = self._rows.fold(taken.events, self._skips)
            passed = {p for p in self._skips if before.position < p <= end.position}
            after = Checkpoint(
                shape=self.projection.shape,
                position=end.position,
                hash=end.hash,
                incarnation=self._source.incarnation,
                at=end.at,
                skipped=(*before.skipped, *sorted(passed)),
            )
            if after != before:
                self._store.write(before, after, changes)
        except BaseException:
            self._begin(empty=before.position == 0)
            raise
        self.checkpoint = after
        self._rows.forget()

    def _missed(self, events: Sequence[Recorded]) -> bool:
        """Learn of skips in these events; is one about an event that was taken in before?"""
        missed = False
        for e in [r.event for r in events if type(r.event) is ProjectionSkipped]:
            if e.projection == self.projection.name:
                self._skips |= {e.position}
                taken_in = e.position <= self.checkpoint.position
                missed |= taken_in and e.position not in self.checkpoint.skipped
        return missed

    def _stop(self, taken: Batch, position: int, commit: int, error: str) -> bool:
        """Take in the commits before the one at fault, then stand still."""
        before = [r for r in taken.events if r.commit < commit]
        if before:
            end = self._source.commit_at(before[-1].position)
            assert end is not None
            if not self._take(Batch(before, end)):
                return False
        self._halt(position, error)
        return False

    def _halt(self, position: int, error: str) -> None:
        self._log.error(
            "projection stops: it can't digest an event", position=position, error=error
        )
        self.checkpoint = self._store.stop(self.checkpoint, position, error)

    def _culprit(self, events: Sequence[Recorded]) -> Recorded:
        """The event that makes a row no database can hold; else the first that makes any row."""
        rows = Rows(self.projection, self._store, empty=self.checkpoint.position == 0)
        first = None
        for r in events:
            for change in rows.fold((r,), self._skips):
                if not _holds(change):
                    return r
                if first is None and (change.new or change.rows or change.gone):
                    first = r
        return first or events[0]


def folded(projection: Projection, source: Source, checkpoint: Checkpoint) -> bytes:
    """The canonical bytes of the log's fold up to a checkpoint, made without a database."""
    events = source.read(0, checkpoint.position) if checkpoint.position else iter(())
    return dump(projection, in_order(fold(projection, events, frozenset(checkpoint.skipped))))


def _holds(change: Change) -> bool:
    try:
        for row in (*change.new, *change.rows):
            change.table.check(row)
    except (ValueError, TypeError):
        return False
    return True
