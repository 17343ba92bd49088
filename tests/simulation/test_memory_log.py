"""The log in memory keeps the contract of a log, by the tests that the real ones pass."""

import inspect
from collections.abc import Callable
from contextlib import closing

import pytest

from ledger.store.log import AppendFailed, Draft, Fenced, StorageFull
from ledger.testing.memory_log import Disk, MemoryLog
from places import draft, job_held
from store import test_contract

ON_ANY_LOG = [
    test
    for name, test in vars(test_contract).items()
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["log"]
]


@pytest.mark.parametrize("test", ON_ANY_LOG, ids=lambda test: test.__name__)
def test_the_contract(test: Callable[[MemoryLog], None]) -> None:
    with closing(MemoryLog(Disk())) as log:
        test(log)


def test_there_is_a_contract() -> None:
    assert len(ON_ANY_LOG) > 5


def test_the_first_of_two_writers_fences_the_other() -> None:
    disk = Disk()
    first, second = MemoryLog(disk), MemoryLog(disk)
    first.append([draft(job_held(1))])
    with pytest.raises(Fenced):
        second.append([draft(job_held(2))])
    assert [r.event for r in first.read()] == [job_held(1).event]


def one() -> list[Draft]:
    return [draft(job_held(1))]


def test_a_full_disk_writes_nothing_and_lets_the_writer_live() -> None:
    disk = Disk()
    log = MemoryLog(disk)
    disk.faults.append("full")
    with pytest.raises(StorageFull):
        log.append(one())
    assert disk.rows == []
    assert log.append(one()).commit == 1


@pytest.mark.parametrize(("fault", "commits"), [("failed", 0), ("unknown", 1)])
def test_a_failed_append_ends_the_writer(fault: str, commits: int) -> None:
    disk = Disk()
    log = MemoryLog(disk)
    disk.faults.append(fault)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(AppendFailed):
            log.append(one())
    assert disk.heads[-1].commit == commits
