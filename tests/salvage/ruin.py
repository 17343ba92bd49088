"""A simulated service with real agents and their spools, and the ways in which it is destroyed."""

import gzip
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

from ledger.commands import Cancel, Subject, Submit
from ledger.events import JobSpec, JobsSubmitted, Recorded
from ledger.store import backup
from ledger.store.chain import COMMIT_STREAM, Row, decode_header
from ledger.store.location import open_log
from ledger.store.transfer import export
from ledger.testing.simulation import Simulation
from ledger.testing.simulation.client import Asked

USERS = tuple(f"user{i}" for i in range(1, 10))
PAGE = 4096
LEADING = (b"\x02", b"\x05", b"\x0a")
"""How pages of indexes begin, and those of tables that lead to others."""


class World(NamedTuple):
    """A service as it was at the end: its log in a directory, as events and rows; agents' spools
    by node; and the book of those who asked: whose each job is, and which were acknowledged."""

    data: Path
    events: list[Recorded]
    rows: list[Row]
    spools: dict[str, Path]
    owners: dict[int, str]
    acknowledged: set[int]
    began: set[tuple[int, int]]

    @property
    def commits(self) -> list[range]:
        """The positions of every commit."""
        headers = [decode_header(row.data) for row in self.rows if row.stream == COMMIT_STREAM]
        return [range(h.first, h.first + h.count + 1) for h in headers]


def lived(seed: int, folder: Path, steps: int = 110) -> World:
    """Let a service live for a while: many users, jobs that run, wait, and end, nodes that fall
    silent; and look at what lies on its disks then."""
    rng = Random(f"{seed} world")  # noqa: S311 - to be drawn again
    with Simulation(seed, nodes=4) as sim:
        sim.begin()
        asked = [_step(sim, rng, n) for n in range(steps)]
        log = sim.log()
        events, rows = list(log.read()), list(log.rows())
        data = folder / "data"
        _write(data, rows, log.incarnation)
        spools = {}
        for node in sim.nodes:
            spools[node.name] = data / "agents" / node.name / "spool.ndjson"
            spools[node.name].parent.mkdir(parents=True)
            spools[node.name].write_bytes(node.disk.read())
        began = {(line.job, line.attempt) for line in sim.witness.lines}
    owners = {
        job: e.user
        for r in events
        if isinstance(e := r.event, JobsSubmitted)
        for job in range(e.first_job, e.first_job + e.count)
    }
    acknowledged = {
        job
        for one in asked
        if one is not None and one.answer is not None
        for job in range(
            one.answer.reply.first_job, one.answer.reply.first_job + one.answer.reply.count
        )
    }
    for one in asked:
        if one is not None and one.answer is not None:
            assert owners[one.answer.reply.first_job] == one.subject.name
    return World(data, events, rows, spools, owners, acknowledged, began)


def _step(sim: Simulation, rng: Random, n: int) -> Asked | None:
    """Something happens: mostly, somebody submits jobs; some of these run for long."""
    asked = None
    node = rng.choice(sim.nodes)
    chance = rng.random()
    if chance < 0.4:
        spec = JobSpec(
            name=rng.choice(("0.3 0", "0.5 1", "", "")),
            account=rng.choice(("physics", "bio")),
            nodes=rng.choice((1, 1, 2)),
            restartable=rng.random() < 0.5,
            env_names=tuple(f"NAME_{n}_{i}" for i in range(rng.choice((0, 0, 0, 3, 400)))),
        )
        count = 1 if len(spec.env_names) > 3 else rng.choice((1, 1, 3))
        command = Submit(specs=(spec,) * count, key=f"k{n}", body_sha256=str(n))
        asked = sim.ask(Subject(rng.choice(USERS), "user"), command)
    elif chance < 0.7 and (runs := node.running()) is not None:
        runs.exit(rng.choice((0, 0, 3)))
    elif chance < 0.75 and node.on:
        node.switch_off(in_order=rng.random() < 0.5)
        sim.loop.later(rng.choice((1.0, 9.0)), lambda: None if node.on else node.switch_on())
    elif chance < 0.8:
        sim.masters[0].kill(0.2)
    elif chance < 0.85 and (waiting := sorted(_jobs(sim) if sim.log().head().position else [])):
        job, user = rng.choice(waiting)
        sim.ask(Subject(user, "user"), Cancel(job=job), tries=2)
    sim.advance(rng.choice((0, 0.05, 0.2, 0.6)))
    return asked


def _jobs(sim: Simulation) -> list[tuple[int, str]]:
    sent = [r.event for r in sim.log().read() if isinstance(r.event, JobsSubmitted)]
    return [(e.first_job, e.user) for e in sent[-3:]]


def _write(data: Path, rows: list[Row], incarnation: str) -> None:
    """Put the log's rows into a file as a master leaves it that was killed: part of them in the
    WAL, which nobody copied back."""
    made = data.with_name("made")
    starts = [i for i, row in enumerate(rows) if row.stream == COMMIT_STREAM] + [len(rows)]
    with closing(open_log(made, None, write=True, create=True)) as log:
        for first, last in pairwise(starts):
            log.append_rows(rows[first:last], {})
            if first <= len(rows) // 2 < last:  # what came so far is in the file itself
                with closing(open_log(made, None, write=True)):
                    pass
        data.mkdir()
        for name in ("log.db", "log.db-wal"):
            shutil.copy(made / name, data / name)
    shutil.rmtree(made)


# ── ruin ─────────────────────────────────────────────────────────────────────────────────────────


class Ruin(NamedTuple):
    """What is left: files or directories to be named, and the positions that nothing has destroyed.

    `damaged`: bytes were changed, not only taken away: then what can be read may be wrong.
    """

    how: str
    left: list[Path]
    readable: set[int]
    damaged: bool = False


class Ruiner:
    """Destroys copies of a world, each in a directory of its own."""

    def __init__(self, world: World, rng: Random, folder: Path) -> None:
        self.world, self.rng, self._folder = world, rng, folder
        self.log = (world.data / "log.db").read_bytes()
        self.wal = (world.data / "log.db-wal").read_bytes()
        self._made = 0
        self.ways: tuple[Callable[[], Ruin], ...] = (
            self.file_truncated,
            self.file_truncated,
            self.wal_truncated,
            self.wal_lost,
            self.only_the_wal,
            self.sectors_lost,
            self.export_truncated,
            self.export_with_a_hole,
            self.backup_and_spools,
            self.backup_truncated,
            self.backup_and_truncated_file,
            self.only_spools,
        )

    def draw(self) -> Ruin:
        """One way."""
        return self.rng.choice(self.ways)()

    def _place(self) -> Path:
        self._made += 1
        place = self._folder / f"left-{self._made}"
        shutil.copytree(self.world.data, place)
        return place

    def _found_in(self, log: bytes = b"", wal: bytes = b"") -> set[int]:
        """The positions whose bytes are still there, as a search for each of them says. What is
        left over in pages that lead to others belongs to no row any more."""
        frame = 24 + PAGE
        pages = [log[at : at + PAGE] for at in range(0, len(log), PAGE)]
        pages += [wal[at + 24 : at + frame] for at in range(32, len(wal), frame)]
        left = b"".join(page for page in pages if page[:1] not in LEADING)
        return {row.position for row in self.world.rows if _has(row.data, left)}

    def _cut(self, data: bytes) -> bytes:
        return data[: self.rng.randrange(len(data))]

    def file_truncated(self) -> Ruin:
        """The log's file ends early; its WAL is there, or not."""
        place = self._place()
        cut = self._cut(self.log)
        (place / "log.db").write_bytes(cut)
        wal = self.wal if self.rng.random() < 0.5 else b""
        if not wal:
            (place / "log.db-wal").unlink()
        return Ruin("file truncated", [place], self._found_in(cut, wal))

    def wal_truncated(self) -> Ruin:
        """The WAL ends early."""
        place = self._place()
        cut = self._cut(self.wal)
        (place / "log.db-wal").write_bytes(cut)
        return Ruin("WAL truncated", [place], self._found_in(self.log, cut))

    def wal_lost(self) -> Ruin:
        """Somebody copied the file alone."""
        place = self._place()
        (place / "log.db-wal").unlink()
        return Ruin("WAL lost", [place / "log.db"], self._found_in(self.log))

    def only_the_wal(self) -> Ruin:
        """The file is gone."""
        place = self._place()
        (place / "log.db").unlink()
        return Ruin("only the WAL", [place], self._found_in(wal=self.wal))

    def sectors_lost(self) -> Ruin:
        """Some pages of the file read as zeros, its first one perhaps, and the WAL is lost."""
        place = self._place()
        data = bytearray(self.log)
        for _ in range(self.rng.choice((1, 3, 8))):
            page = self.rng.randrange(len(data) // PAGE) * PAGE
            data[page : page + PAGE] = bytes(PAGE)
        (place / "log.db").write_bytes(bytes(data))
        (place / "log.db-wal").unlink()
        return Ruin("sectors lost", [place], self._found_in(bytes(data)))

    def _exported(self) -> bytes:
        made = self._folder / "export"
        if not made.exists():
            with (
                closing(open_log(self._whole(), None, write=False)) as log,
                open(made, "wb") as file,
            ):
                export(log, file)
        return made.read_bytes()

    def _whole(self) -> Path:
        place = self._folder / "whole"
        if not place.exists():
            shutil.copytree(self.world.data, place)
        return place

    def export_truncated(self) -> Ruin:
        """An export ends early; beside it, the spools of some nodes."""
        file = self._folder / f"cut-{self._made}.jsonl"
        cut = self._cut(self._exported())
        file.write_bytes(cut)
        self._made += 1
        rows = max(0, cut.count(b"\n") - 1)
        return Ruin("export truncated", [file, *self._some_spools()], set(range(1, rows + 1)))

    def export_with_a_hole(self) -> Ruin:
        """Lines are missing from the middle of an export."""
        file = self._folder / f"hole-{self._made}.jsonl"
        self._made += 1
        lines = self._exported().splitlines(keepends=True)
        first = self.rng.randrange(1, len(lines) - 2)
        last = min(len(lines) - 1, first + self.rng.choice((1, 5, 50)))
        file.write_bytes(b"".join(lines[:first] + lines[last:]))
        left = set(range(1, len(self.world.rows) + 1)) - set(range(first, last))
        return Ruin("export with a hole", [file, *self._some_spools()], left)

    def _some_spools(self) -> list[Path]:
        return [path for path in self.world.spools.values() if self.rng.random() < 0.6]

    def _backup(self) -> tuple[Path, int]:
        """A backup of an earlier moment, and where it ends."""
        ends = [extent.stop - 1 for extent in self.world.commits]
        upto = self.rng.choice(ends[: len(ends) // 2])
        self._made += 1
        place = self._folder / f"earlier-{self._made}"
        with closing(open_log(place, None, write=True, create=True)) as log:
            log.append_rows(self.world.rows[:upto], {})
            made = backup.create(log, self._folder / f"backups-{self._made}")
        return made, upto

    def backup_and_spools(self) -> Ruin:
        """All is gone but a backup and what the agents have."""
        made, upto = self._backup()
        left = [made, *self.world.spools.values()]
        return Ruin("backup and spools", left, set(range(1, upto + 1)))

    def backup_truncated(self) -> Ruin:
        """A backup that was not copied to its end."""
        made, _ = self._backup()
        cut = self._cut(made.read_bytes())
        made.write_bytes(cut)
        rows = [line for line in _unpacked(made) if line.startswith(b"[")]
        return Ruin("backup truncated", [made], set(range(1, len(rows) + 1)))

    def backup_and_truncated_file(self) -> Ruin:
        """An old backup, and a file whose beginning is lost."""
        made, upto = self._backup()
        place = self._place()
        data = bytearray(self.log)
        data[: len(data) // 3 // PAGE * PAGE] = bytes(len(data) // 3 // PAGE * PAGE)
        (place / "log.db").write_bytes(bytes(data))
        readable = self._found_in(bytes(data), self.wal) | set(range(1, upto + 1))
        return Ruin("backup and damaged file", [made, place], readable)

    def only_spools(self) -> Ruin:
        """No copy of the log at all."""
        return Ruin("only spools", list(self.world.spools.values()), set())


def _has(data: bytes, left: bytes) -> bool:
    """Is a row there? A long one goes on in other pages, so where one ends a piece of it is not
    found; but never two pieces in a row, nor the last."""
    if len(data) < 3000:
        return data in left
    pieces = [data[at : at + 20] in left for at in range(0, len(data), 20)]
    gaps = sum(not piece for piece in pieces)
    alone = all(one or other for one, other in pairwise(pieces))
    return data[-20:] in left and alone and gaps <= 2 + len(data) // 4000


def _unpacked(path: Path) -> Iterator[bytes]:
    """The whole lines of what can be unpacked."""
    with gzip.open(path) as lines:
        try:
            for line in lines:
                if line.endswith(b"\n"):
                    yield line
        except EOFError:
            return
