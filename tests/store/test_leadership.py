"""One master at a time, and the next one as soon as it is safe."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from time import monotonic

import psycopg
import pytest

from ledger.store.leadership import LOCK, FileLeadership, RowLeadership, leadership
from ledger.store.log import LogBusy, LogUnavailable
from proxy import Proxy

LEASE_S = 1.0

HOLDING = """
import signal, sys
from pathlib import Path
from ledger.store.leadership import leadership
place = sys.argv[1]
url = place if "://" in place else None
lead = leadership(None if url else Path(place), url, lambda why: print(why, flush=True), lease_s=1)
lead.acquire(wait=False)
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def spawn() -> Iterator["Spawn"]:
    """Starts processes that hold the leadership of a place; ends them all."""
    spawned = Spawn()
    yield spawned
    for process in spawned.processes:
        process.kill()
        process.wait()


class Spawn:
    """Processes that hold a leadership."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, place: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, place], stdout=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        assert said(process) == "held"
        return process


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stop(process: subprocess.Popen[str]) -> None:
    """Stop a process, and wait until it is."""
    os.kill(process.pid, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def nobody(reason: str) -> None:
    raise AssertionError(reason)


@pytest.mark.fault("A11")
class TestFile:
    def test_a_second_one_is_told_who_holds_it(self, tmp_path: Path, spawn: Spawn) -> None:
        holder = spawn(str(tmp_path))
        with pytest.raises(LogBusy) as caught:
            leadership(tmp_path, None, nobody).acquire(wait=False)
        since = json.loads((tmp_path / LOCK).read_text())["since"]
        assert f"process {holder.pid} since {since}" in str(caught.value)
        assert "stopped" not in str(caught.value)
        assert caught.value.holder == f"process {holder.pid}"

    def test_a_stopped_holder_is_called_stopped(self, tmp_path: Path, spawn: Spawn) -> None:
        holder = spawn(str(tmp_path))
        stop(holder)
        with pytest.raises(LogBusy, match=f"is stopped: .*kill -CONT {holder.pid}"):
            FileLeadership(tmp_path).acquire(wait=False)

    def test_it_is_free_when_the_holder_is_killed(self, tmp_path: Path, spawn: Spawn) -> None:
        holder = spawn(str(tmp_path))
        lead = FileLeadership(tmp_path)
        waiter = threading.Thread(target=lead.acquire, kwargs={"wait": True})
        waiter.start()
        holder.kill()
        waiter.join(10)
        assert not waiter.is_alive()
        lead.reign(7)
        assert json.loads((tmp_path / LOCK).read_text())["epoch"] == 7
        lead.release()

    def test_it_is_free_when_released(self, tmp_path: Path) -> None:
        first, second = FileLeadership(tmp_path / "new"), FileLeadership(tmp_path / "new")
        first.acquire(wait=False)
        with pytest.raises(LogBusy):
            second.acquire(wait=False)
        first.release()
        second.acquire(wait=False)
        second.release()

    def test_it_tells_how_long_no_master_was_there_whatever_held_it_since(
        self, tmp_path: Path
    ) -> None:
        def held(epoch: int = 0) -> int | None:
            lead = FileLeadership(tmp_path)
            lead.acquire(wait=False)
            lead.reign(epoch)
            lead.release()
            return lead.away_us()

        def changed(**mark: int | str) -> None:
            known = json.loads((tmp_path / LOCK).read_text())
            known["mark"] |= mark
            (tmp_path / LOCK).write_text(json.dumps(known))

        assert held() is None
        assert held(1) is None
        first, second = held(), held()
        assert first is not None
        assert second is not None
        assert 0 < first < second < 10_000_000
        changed(steady=10**15)
        assert held() is None, "a mark of the future is none"
        changed(boot="another start of the machine")
        by_the_wall = held(2)
        assert by_the_wall is not None
        assert second < by_the_wall < 20_000_000
        (tmp_path / LOCK).write_text("torn")
        assert held() is None

    def test_a_holder_that_reigns_leaves_marks(self, tmp_path: Path) -> None:
        def marked() -> int:
            mark = json.loads((tmp_path / LOCK).read_text())["mark"]
            return mark["steady"] if mark else 0

        lead = FileLeadership(tmp_path)
        lead.acquire(wait=False)
        lead.mark()
        assert not marked(), "it does not reign yet"
        lead.reign(1)
        before = marked()
        lead.mark()
        assert marked() > before > 0
        lead.release()
        lead.mark()


@pytest.mark.fault("A4", "A11", "D1")
class TestRow:
    def test_a_second_one_is_told_who_holds_it(self, pg_url: str, spawn: Spawn) -> None:
        holder = spawn(pg_url)
        with pytest.raises(LogBusy, match=f"process {holder.pid} on .* renewed 0") as caught:
            leadership(None, pg_url, nobody, lease_s=LEASE_S).acquire(wait=False)
        assert str(holder.pid) in caught.value.holder

    def test_it_is_renewed_for_longer_than_a_lease(self, pg_url: str) -> None:
        lead = RowLeadership(pg_url, nobody, lease_s=LEASE_S)
        lead.acquire(wait=False)
        started = monotonic()
        with psycopg.connect(pg_url, autocommit=True) as admin:
            while monotonic() - started < 1.5 * LEASE_S:
                admin.execute("SELECT pg_sleep(0.1)")
                with pytest.raises(LogBusy):
                    RowLeadership(pg_url, nobody, lease_s=LEASE_S).acquire(wait=False)
        lead.release()

    def test_it_is_free_when_released(self, pg_url: str) -> None:
        first = RowLeadership(pg_url, nobody, lease_s=60)
        first.acquire(wait=False)
        first.reign(3)
        with psycopg.connect(pg_url) as admin:
            assert admin.execute("SELECT epoch FROM leader").fetchone() == (3,)
        first.release()
        second = RowLeadership(pg_url, nobody, lease_s=60)
        second.acquire(wait=False)
        second.release()

    def test_a_frozen_holder_is_replaced_after_a_lease_and_ends(
        self, pg_url: str, spawn: Spawn
    ) -> None:
        holder = spawn(pg_url)
        stop(holder)
        started = monotonic()
        lead = RowLeadership(pg_url, nobody, lease_s=LEASE_S)
        lead.acquire(wait=True)
        assert monotonic() - started < 2 * LEASE_S
        os.kill(holder.pid, signal.SIGCONT)
        assert said(holder) in (
            "another master has taken over",
            "the leadership was not renewed for 0.5 s",
        )
        lead.release()

    def test_a_killed_holder_is_replaced_after_a_lease(self, pg_url: str, spawn: Spawn) -> None:
        spawn(pg_url).kill()
        lead = RowLeadership(pg_url, nobody, lease_s=LEASE_S)
        with pytest.raises(LogBusy):
            lead.acquire(wait=False)
        lead.acquire(wait=True)
        lead.release()

    def test_it_is_lost_when_the_database_is_out_of_reach_for_half_a_lease(
        self, pg_url: str
    ) -> None:
        proxy = Proxy(pg_url)
        lost: SimpleQueue[str] = SimpleQueue()
        lead = RowLeadership(proxy.url, lost.put, lease_s=LEASE_S)
        lead.acquire(wait=False)
        started = monotonic()
        proxy.refuse()
        assert "not renewed for 0.5 s" in lost.get(timeout=10)
        assert monotonic() - started < LEASE_S
        lead.release()
        assert lost.empty()
        proxy.close()

    def test_it_is_lost_when_somebody_else_took_it(self, pg_url: str) -> None:
        lost: SimpleQueue[str] = SimpleQueue()
        lead = RowLeadership(pg_url, lost.put, lease_s=LEASE_S)
        lead.acquire(wait=False)
        with psycopg.connect(pg_url) as admin:
            admin.execute("UPDATE leader SET holder = 'other:1:ff'")
        assert lost.get(timeout=10) == "another master has taken over"
        lead.release()
        with psycopg.connect(pg_url) as admin:
            assert admin.execute("SELECT holder FROM leader").fetchone() == ("other:1:ff",)

    def test_it_tells_how_long_no_master_was_there(self, pg_url: str) -> None:
        def held(epoch: int = 0) -> int | None:
            lead = RowLeadership(pg_url, nobody, lease_s=60)
            lead.acquire(wait=False)
            if epoch:
                lead.reign(epoch)
            lead.release()
            return lead.away_us()

        assert held() is None
        assert held(3) is None
        with psycopg.connect(pg_url) as admin:
            admin.execute("UPDATE leader SET alive = clock_timestamp() - interval '1 hour'")
        for away in (held(), held(4)):
            assert away is not None
            assert 3600 <= away / 1_000_000 < 3610
        away = held()
        assert away is not None
        assert away < 10_000_000

    def test_a_row_of_an_older_release_is_understood(self, pg_url: str) -> None:
        first = RowLeadership(pg_url, nobody, lease_s=60)
        first.acquire(wait=False)
        first.release()
        with psycopg.connect(pg_url) as admin:
            admin.execute("ALTER TABLE leader DROP COLUMN alive")
        second = RowLeadership(pg_url, nobody, lease_s=60)
        second.acquire(wait=False)
        assert second.away_us() is None
        second.release()

    def test_a_database_out_of_reach_is_said(self) -> None:
        with pytest.raises(LogUnavailable, match="can't reach"):
            RowLeadership("postgresql://127.0.0.1:1/x", nobody).acquire(wait=False)
