"""Rows out of a file's bytes are those that SQLite reads, however large they are, and wherever."""

import shutil
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from ledger.events import Envelope, Fact, JobSpec, JobsSubmitted
from ledger.store.carve import Carved
from ledger.store.chain import Row
from ledger.store.location import open_log
from ledger.store.log import Draft

SIZES = (0, 1, 100, 3_000, 3_900, 4_000, 4_100, 8_200, 100_000, 900_000)


def filled(data: Path, rng: Random, commits: int = 40) -> tuple[list[Row], str]:
    """Make a log of events of all sizes, as a writer leaves it that is killed; its rows."""
    made = data.with_name("made")
    with closing(open_log(made, None, write=True, create=True)) as log:
        for n in range(1, commits + 1):
            name = "x" * max(0, rng.choice(SIZES[:9]) + rng.randrange(-70, 70))
            sent = JobsSubmitted(first_job=n, count=1, user="ann", specs=(JobSpec(name=name),))
            facts = [Fact(sent, Envelope())] * rng.choice((1, 1, 30))
            log.append([Draft(n, 1, facts, {})])
            if n == commits // 2:
                with closing(open_log(made, None, write=True)):
                    pass  # which copies the WAL back
        rows, incarnation = list(log.rows()), log.incarnation
        data.mkdir()
        for file in made.glob("log.db*"):
            shutil.copy(file, data / file.name)
    return rows, incarnation


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_whole_log(tmp_path: Path, seed: int) -> None:
    data = tmp_path / "data"
    rows, incarnation = filled(data, Random(seed))  # noqa: S311 - to be drawn again
    with closing(Carved(data / "log.db", data / "log.db-wal")) as carved:
        assert list(carved.rows()) == rows
        assert list(carved.rows(after=7)) == rows[7:]
        assert carved.positions == [row.position for row in rows]
        assert carved.incarnation == incarnation
    shutil.copytree(data, tmp_path / "other")
    with closing(open_log(tmp_path / "other", None, write=True)):
        pass
    with closing(Carved(tmp_path / "other" / "log.db", None)) as carved:
        assert list(carved.rows()) == rows


def test_the_largest_event(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with closing(open_log(data, None, write=True, create=True)) as log:
        for n, size in enumerate(SIZES, 1):
            sent = JobsSubmitted(
                first_job=n, count=1, user="ann", specs=(JobSpec(name="y" * size),)
            )
            log.append([Draft(n, 1, [Fact(sent, Envelope())], {})])
        rows = list(log.rows())
    with closing(Carved(data / "log.db", None)) as carved:
        assert list(carved.rows()) == rows


def test_it_has_all_that_lies_before_a_cut_and_nothing_that_was_never_written(
    tmp_path: Path,
) -> None:
    """Also where SQLite itself would read nothing at all."""
    data, rng = tmp_path / "data", Random(5)  # noqa: S311 - to be drawn again
    rows, _ = filled(data, rng)
    (data / "log.db-wal").unlink()
    whole = (data / "log.db").read_bytes()
    for size in sorted(rng.randrange(len(whole)) for _ in range(25)):
        (data / "log.db").write_bytes(whole[:size])
        with closing(Carved(data / "log.db", None)) as carved:
            found = list(carved.rows())
        assert set(found) <= set(rows)
        ended = {
            row.position for row in rows if whole[:size].count(row.data) and len(row.data) < 300
        }
        assert {row.position for row in found} >= ended - leading(whole[:size], rows)


def leading(data: bytes, rows: list[Row]) -> set[int]:
    """Rows of which only what is left over in a page that leads to others is there."""
    pages = (data[at : at + 4096] for at in range(0, len(data), 4096))
    kept = b"".join(page for page in pages if page[:1] not in (b"\x02", b"\x05", b"\x0a"))
    return {row.position for row in rows if row.data not in kept}


def test_garbage_is_no_row(tmp_path: Path) -> None:
    rng = Random(6)  # noqa: S311 - to be drawn again
    file = tmp_path / "log.db"
    for size in (0, 1, 17, 4096, 100_000):
        noise = bytearray(rng.randbytes(size))
        for page in range(0, size, 4096):  # as if each were a page of a table
            noise[page : page + 1] = b"\x0d"
        file.write_bytes(bytes(noise))
        for one, other in ((file, None), (None, file), (file, file)):
            with closing(Carved(one, other)) as carved:
                assert all(isinstance(row, Row) for row in carved.rows())
