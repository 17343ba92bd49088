"""The process that looks into the past: asked at once by many, stuck, killed, let go of."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger.master import past
from ledger.master.past import Apart, TooMany
from ledger.projection.past import TooFar
from ledger.projection.reader import Answer, Unavailable
from ledger.testing.projections import wandered
from live import until
from places import Place

PARENT = """
import asyncio, signal, sys
from pathlib import Path
from ledger.master.past import Apart

async def main():
    apart = Apart(Path(sys.argv[1]), None)
    await apart.ask("jobs", "last", 40, (), {})
    print(apart._child._process.pid, flush=True)
    await asyncio.to_thread(signal.pause)

asyncio.run(main())
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The directory of a short log."""
    log = Place(tmp_path / "data", None).open(create=True)
    wandered(1, 60).append_to(log)
    log.close()
    return tmp_path / "data"


def gone(pid: int) -> bool:
    """Has a process ended, whether anybody has taken note of it or not?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def last(apart: Apart, position: int = 40) -> Answer[Any]:
    return await apart.ask("jobs", "last", position, (), {})


async def end(apart: Apart) -> None:
    """Let go of it, and wait until its child is gone."""
    assert apart._child is not None
    apart.close()
    await asyncio.to_thread(apart._child._process.wait, 30)


def test_one_child_answers_many_at_once(data: Path) -> None:
    async def ask() -> None:
        apart = Apart(data, None)
        log = Place(data, None).open()
        positions = [log.commit_before(position) for position in (20, 30, 30, 40)]
        log.close()
        told = await asyncio.gather(*(last(apart, position) for position in positions))
        assert [answer.position for answer in told] == positions
        assert told[1] == told[2]
        await end(apart)

    asyncio.run(ask())


def test_so_many_may_wait_and_no_more(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST_WAITING", 2)

    async def ask() -> None:
        apart = Apart(data, None)
        told = await asyncio.gather(*(last(apart) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in told] == [Answer, Answer, TooMany]
        assert await last(apart) == told[0]
        await end(apart)

    asyncio.run(ask())


def test_a_child_that_is_stuck_is_replaced(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        apart = Apart(data, None)
        wanted = await last(apart)
        child = apart._child
        assert child is not None
        os.kill(child._process.pid, signal.SIGSTOP)
        monkeypatch.setattr(past, "LIMIT_S", 0.1)
        monkeypatch.setattr(past, "GRACE_S", 0.1)
        with pytest.raises(TooFar):
            await last(apart)
        monkeypatch.undo()
        assert await last(apart) == wanted
        assert apart._child is not child
        await end(apart)

    asyncio.run(ask())


def test_what_goes_wrong_in_the_child_is_told(data: Path) -> None:
    async def ask() -> None:
        apart = Apart(data, None)
        with pytest.raises(Unavailable, match="no question"):
            await apart.ask("jobs", "nonsense", 40, (), {})
        with pytest.raises(ValueError, match="invalid literal"):
            await apart.ask("jobs", "list_jobs", 40, (), {"cursor": "x"})
        with pytest.raises(RuntimeError, match="unexpected keyword"):
            await apart.ask("jobs", "last", 40, (), {"x": 1})
        await end(apart)
        nowhere = Apart(data / "nowhere", None)
        with pytest.raises(Unavailable, match="log can't be read"):
            await last(nowhere)
        await end(nowhere)

    asyncio.run(ask())


def test_the_child_ends_with_its_master_however_that_ends(data: Path) -> None:
    program = [sys.executable, "-c", PARENT, str(data)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
    until(lambda: gone(child), "the child is gone")
