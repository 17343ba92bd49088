"""A follower that is killed, anywhere, has the same bytes in the end as one that never was."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger.follow import verify
from ledger.projection import checkpoint as checkpoints
from ledger.projection.database import Bulk
from ledger.projection.model import Projection, Table
from ledger.projection.reader import Reader
from ledger.projection.source import batch
from ledger.store.log import Log
from ledger.testing.evidence import Evidence
from ledger.testing.projections import folded, log_of
from ledger_projections import jobs
from places import Place
from projection.followed import check, following, positions, until
from projection.keeping import PROJECTIONS, close, dump, folder, kept, wandered

REBUILD = """
import sys
from pathlib import Path
from ledger import follow
from ledger.projection import rebuild
rebuild.AT_ONCE = 20
data, url = Path(sys.argv[1]), sys.argv[2] or None
for name in sys.argv[3:]:
    print(name, flush=True)
    assert not follow.rebuild(name, data, url).stopped_at
print("whole", flush=True)
"""


class Killed(BaseException):
    """Stands for SIGKILL: the database hears no more from this process."""


class Deaths:
    """Lets a process die behind each statement that changes something, once behind each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._died: set[tuple[Any, ...]] = set()
        self._now: list[Any] = []
        move = checkpoints.move

        def moved(connection: Any, projection: str, before: Any, after: Any) -> bool:
            done = move(connection, projection, before, after)
            self._behind("checkpoint", projection, after.position)
            return done

        monkeypatch.setattr(checkpoints, "move", moved)
        for name in ("_upsert", "_delete"):
            monkeypatch.setattr(Bulk, name, self._dying(name, getattr(Bulk, name)))

    def kinds(self) -> set[Any]:
        """The kinds of statements behind which it died."""
        return {what for what, *_ in self._died}

    def _dying(self, name: str, statement: Callable[..., None]) -> Callable[..., None]:
        def dying(bulk: Bulk, table: Table[Any], some: Sequence[Any]) -> None:
            statement(bulk, table, some)
            self._behind(name, table.name, repr(some))

        return dying

    def __len__(self) -> int:
        return len(self._died)

    def _behind(self, *what: Any) -> None:
        if what not in self._died:
            self._died.add(what)
            raise Killed


@pytest.mark.fault("H4")
@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
def test_killed_behind_every_statement_of_every_commit(
    projection: Projection,
    place: Place,
    full: bool,
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = log_of(wandered(11, 60 if full else 10))
    ends, deaths = log.disk.heads[1:], Deaths(monkeypatch)
    follower = kept(projection, place, log)
    while follower.checkpoint.position < ends[-1].position:
        try:
            assert follower.step(lambda after: batch(log, after, 1))
        except Killed:
            before = follower.checkpoint
            close(follower)
            follower = kept(projection, place, log)
            assert follower.checkpoint == before, "neither rows nor checkpoint of what was torn"
    assert dump(follower) == folded(projection, log)
    assert len(deaths) >= len(ends)
    wrote = len(dump(follower).splitlines()) > len(projection.tables)
    assert "checkpoint" in deaths.kinds()
    assert "_upsert" in deaths.kinds() or not wrote
    close(follower)
    database = "PostgreSQL" if place.url else "SQLite"
    evidence(
        f"follower killed behind every statement, {projection.name}, {database}",
        f"{len(ends)} commits, one a batch: {len(deaths)} deaths, 0 bytes differ from the fold",
    )


@pytest.mark.fault("H4")
def test_killed_at_any_time_and_resumed(
    place: Place, log: Log, tmp_path: Path, full: bool, evidence: Evidence
) -> None:
    """SIGKILL, wherever the process is just then."""
    wandered(7, 4_000 if full else 500).append_to(log)
    data, head, kills = folder(place, tmp_path), log.head().position, 0
    reader = Reader({p.name: p for p in PROJECTIONS}, place.data, place.url)
    rng = Random(5)  # noqa: S311
    while kills < (30 if full else 3):
        before = min(positions(reader))
        with following(place, data, size=3) as process:
            until(reader, process, min(before + 10, head))
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.random() / 20)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert before < min(positions(reader)) < head, "killed on the way"
        kills += 1
        for projection in PROJECTIONS:
            verdict = verify(projection.name, data, place.url)
            assert verdict.live == verdict.folded, "a kill leaves the fold up to its checkpoint"
    with following(place, data) as process:
        until(reader, process, head)
    check(place, log)
    reader.close()
    evidence(
        f"follow killed at any time, {'PostgreSQL' if place.url else 'SQLite'}",
        f"{kills} SIGKILLs of the process on the way through {head} positions: the fold after each "
        "and in the end",
    )


@contextmanager
def rebuilding(data: Path, url: str | None) -> Iterator["subprocess.Popen[str]"]:
    """A process that makes every projection again, in small portions."""
    names = [projection.name for projection in PROJECTIONS]
    command = [sys.executable, "-c", REBUILD, str(data), url or "", *names]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.fault("H9")
def test_a_rebuild_beside_is_killed_at_any_time(
    place: Place, log: Log, tmp_path: Path, full: bool, evidence: Evidence
) -> None:
    """The one that follows goes on, the old tables answer, and the next rebuild is whole."""
    story = wandered(8, 400)
    story.append_to(log)
    data, rng, kills = folder(place, tmp_path), Random(6), 0  # noqa: S311
    reader = Reader({p.name: p for p in PROJECTIONS}, place.data, place.url)
    with following(place, data) as process:
        until(reader, process, log.head().position)
        while kills < (30 if full else 3):
            with rebuilding(data, place.url) as rebuild:
                assert rebuild.stdout is not None
                for _ in range(rng.randint(1, len(PROJECTIONS))):
                    assert rebuild.stdout.readline().strip() in {p.name for p in PROJECTIONS}
                with suppress(subprocess.TimeoutExpired):
                    rebuild.wait(rng.random() / 10)
            kills += 1
            story.submit("ann")
            story.append_to(log)
            until(reader, process, log.head().position)
            last = reader.ask("jobs", jobs.last)
            assert (last.value, last.position) == (story.cluster.next_job - 1, log.head().position)
        with rebuilding(data, place.url) as rebuild:
            said, _ = rebuild.communicate()
            assert said.splitlines()[-1] == "whole"
        story.submit("bob")
        story.append_to(log)
        until(reader, process, log.head().position)
    check(place, log)
    reader.close()
    evidence(
        f"rebuild killed beside a follower, {'PostgreSQL' if place.url else 'SQLite'}",
        f"{kills} SIGKILLs of the rebuilding process: the old tables answered and followed each "
        "time, and the last rebuild is the fold",
    )
