"""The spool: what is written stays, a torn end is dropped, corruption is refused, nothing grows."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ledger.agent.spool import KEPT_US, Memory, Spool, SpoolCorrupt
from ledger.agent.spool_file import SpoolFailed
from ledger.wire import Report, Seen

from .agent_support import order


def report(job: int, kind: Any = "ended") -> Report:
    return Report(seq=0, kind=kind, job=job, attempt=1, end="completed", cause="exit", exit_code=0)


def fill(spool: Memory) -> None:
    """A little of everything."""
    spool.see(Seen(incarnation="i1", epoch=1, position=5, hash="aa"))
    spool.begin(order("x", job=1), "boot-1")
    spool.report(report(1, "started"))
    spool.ack([1])
    spool.report(report(1))
    spool.see(Seen(incarnation="i2", epoch=3, position=9, hash="bb"))
    spool.ack([2])
    spool.begin(order("ü", job=2), "boot-1")
    spool.forget((2, 1))
    spool.begin(order("x", job=3), "boot-1")
    spool.report(report(4))
    spool.reopen((1, 1))


def facts(spool: Memory) -> tuple[object, ...]:
    """All that a spool answers."""
    return (
        spool.seen,
        spool.unacked(),
        spool.unfinished(),
        [(key, spool.knows(key), spool.forgot(key)) for key in [(n, 1) for n in range(6)]],
        spool.outdated(Seen(incarnation="i1", epoch=0)),
        spool.outdated(Seen(incarnation="i2", epoch=2)),
    )


def test_it_remembers(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    fill(spool)
    said, name = facts(spool), spool.id
    assert [r.seq for r in spool.unacked()] == [2, 3]
    assert [b.job for b in spool.unfinished()] == [3]
    assert spool.outdated(Seen(incarnation="i2", epoch=2))
    assert not spool.outdated(Seen(incarnation="i2", epoch=3))
    assert not spool.outdated(Seen(incarnation="i9", epoch=0))
    spool.close()
    for _ in range(2):  # read back, then read back what the reading wrote anew
        again = Spool(tmp_path / "spool")
        assert (facts(again), again.id) == (said, name)
        again.close()
    last = Spool(tmp_path / "spool")
    assert last.report(report(5)).seq == 4


@pytest.mark.fault("E8")
def test_torn_at_every_byte_it_says_what_its_whole_lines_say(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    steps: dict[int, tuple[object, ...]] = {(tmp_path / "spool").stat().st_size: facts(spool)}
    write = spool._write

    def noting(record: Any, sync: bool) -> None:
        write(record, sync)
        steps[(tmp_path / "spool").stat().st_size] = facts(spool)

    spool._write = noting  # type: ignore[method-assign]
    fill(spool)
    data = (tmp_path / "spool").read_bytes()
    assert len(steps) == 13
    for size in range(len(data) + 1):
        torn = tmp_path / "torn"
        torn.write_bytes(data[:size])
        found = Spool(torn)
        whole = max((n for n in steps if n <= size), default=None)
        if whole is None:
            assert found.id != spool.id  # a lost memory has a new name
            assert found.unacked() == ()
        else:
            assert found.id == spool.id
            assert facts(found) == steps[whole]
        found.close()


@pytest.mark.fault("E8")
def test_corruption_is_refused_aloud(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    fill(spool)
    data = (tmp_path / "spool").read_bytes()
    for at in range(0, len(data) - 1, 3):
        bad = bytearray(data)
        bad[at] ^= 1
        (tmp_path / "bad").write_bytes(bytes(bad))
        with pytest.raises(SpoolCorrupt, match=r"line \d+ of \d+ does not read"):
            Spool(tmp_path / "bad")


def test_begun_and_reports_are_on_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    on_disk: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        on_disk.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    for act in (
        lambda: spool.begin(order("x"), "boot"),
        lambda: spool.report(report(17)),
        lambda: spool.see(Seen(incarnation="i", epoch=1, position=1)),
        lambda: spool.forget((3, 1)),
    ):
        act()
        assert on_disk[-1] == (tmp_path / "spool").stat().st_size
    done = len(on_disk)
    spool.see(Seen(incarnation="i", epoch=1, position=2))  # a later head of the same reign can wait
    assert len(on_disk) == done


@pytest.mark.fault("B3")
def test_a_full_disk_leaves_the_spool_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    fill(spool)
    said = facts(spool)
    real = os.write

    def half(fd: int, data: bytes) -> int:
        return real(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        spool.begin(order("x", job=5), "boot")
    monkeypatch.setattr(os, "write", real)
    assert facts(spool) == said
    spool.begin(order("x", job=5), "boot")
    assert facts(Spool(tmp_path / "spool")) == facts(spool)


@pytest.mark.fault("B3")
def test_a_full_disk_keeps_what_is_told_again_in_memory_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    fill(spool)
    real = os.write
    monkeypatch.setattr(os, "write", no_room)
    with pytest.raises(OSError, match="No space"):
        spool.see(Seen(incarnation="i", epoch=7, position=9))
    assert spool.outdated(Seen(incarnation="i", epoch=6, position=10))
    assert spool.ack([spool.unacked()[0].seq])
    spool.probe()
    assert spool.trouble == "No space left on device"
    monkeypatch.setattr(os, "write", real)
    spool.probe()
    assert spool.trouble == ""
    found = Spool(tmp_path / "spool")
    assert found.seen.epoch == 7  # an acknowledgement may be told again, a reign may not be
    assert found.unfinished() == spool.unfinished()


@pytest.mark.fault("B3")
def test_a_spool_without_room_for_a_new_file_goes_on_with_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool"
    spool = Spool(path)
    fill(spool)
    said = facts(spool)
    spool.close()
    with path.open("ab") as file:
        file.write(b'{"c":12,"r')  # the power went
    real = os.open

    def no_new_file(name: str | Path, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(name, flags, *rest)

    monkeypatch.setattr(os, "open", no_new_file)
    full = Spool(path)
    monkeypatch.setattr(os, "open", real)
    assert full.trouble == "No space left on device"
    full.probe()
    assert full.trouble == ""
    assert facts(full) == said
    full.begin(order("x", job=5), "boot")
    assert facts(Spool(path)) == facts(full)


def no_room(fd: int, data: bytes) -> int:
    """What a full disk says."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.fault("B5")
def test_a_failed_fsync_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once is enough: the kernel drops what it could not write, and the next fsync succeeds."""
    spool = Spool(tmp_path / "spool")
    tried: list[int] = []

    def fail_once(fd: int) -> None:
        tried.append(fd)
        if len(tried) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(SpoolFailed, match="Input/output error"):
        spool.begin(order("x"), "boot")
    assert len(tried) == 1


def test_old_records_go_and_unacknowledged_ones_stay(tmp_path: Path) -> None:
    now = [KEPT_US]
    spool = Spool(tmp_path / "spool", lambda: now[0])
    fill(spool)
    spool.close()
    now[0] += KEPT_US + 1
    later = Spool(tmp_path / "spool", lambda: now[0])
    assert later.knows((1, 1))  # its end was reopened
    assert later.knows((3, 1))  # it has no end yet
    assert later.knows((4, 1))  # its end is not acknowledged
    assert not later.knows((2, 1))
    later.ack([2, 3])
    later.close()
    last = Spool(tmp_path / "spool", lambda: now[0])
    assert not last.knows((1, 1))
    assert not last.knows((4, 1))
    assert last.report(report(9)).seq == 4  # numbers are never given twice


def test_it_is_rewritten_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.agent.spool.COMPACT_BYTES", 20_000)
    spool = Spool(tmp_path / "spool")
    for position in range(1, 1000):
        spool.see(Seen(incarnation="i", epoch=1, position=position, hash="a" * 64))
        assert (tmp_path / "spool").stat().st_size < 21_000
    shutil.copy(tmp_path / "spool", tmp_path / "copy")
    assert Spool(tmp_path / "copy").seen.position == 999
