"""A long read, of which a process of its own does the first half: with it, and whatever befalls it,
the events are those that are read without."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ledger.events import Recorded
from ledger.store import ahead
from ledger.store.location import db_upgrade
from ledger.store.log import Log, LogCorrupt
from ledger.store.sqlite import SQLiteLog
from ledger.store.stored import StoredLog
from live import until
from places import Place, draft, job_held

from .tampering import Original, Vandal

COMMITS, EVENTS = 120, 40
"""More than a pipe and a frame hold."""


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Few rows are many here, the process is waited for, and its pipe is small; all there were."""
    monkeypatch.setattr(ahead, "MANY", 20)
    monkeypatch.setattr(ahead, "PATIENCE_S", 30.0)
    monkeypatch.setattr(ahead, "PIPE_BYTES", 4096)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    found: list[Any] = []
    begin = ahead._Process.__init__

    def noted(self: Any, *args: Any) -> None:
        begin(self, *args)
        found.append(self)

    monkeypatch.setattr(ahead._Process, "__init__", noted)
    return found


@pytest.fixture
def events(log: Log, monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """What a log is filled with, as it is read without another process."""
    log.append([draft(*(job_held(n * EVENTS + i) for i in range(EVENTS))) for n in range(COMMITS)])
    with monkeypatch.context() as alone:
        alone.setattr(ahead, "MANY", 1 << 60)
        return list(log.read())


def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The commits that come from a process, as they come."""
    numbers: list[int] = []
    commits = ahead._Process.commits

    def noted(self: Any, *args: Any) -> Iterator[Any]:
        for commit in commits(self, *args):
            numbers.append(commit.head.commit)
            yield commit

    monkeypatch.setattr(ahead._Process, "commits", noted)
    return numbers


def test_it_gives_every_commit_and_ends(
    log: Log, events: list[Recorded], processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = given(monkeypatch)
    assert list(log.read()) == events
    assert numbers == list(range(1, COMMITS + 1))
    (process,) = processes
    assert process._process.returncode is not None


def test_a_part_of_a_log(
    log: Log, events: list[Recorded], processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = given(monkeypatch)
    after, upto = 10 * (EVENTS + 1), 30 * (EVENTS + 1) + 5
    assert list(log.read(after, upto)) == events[10 * EVENTS : 30 * EVENTS]
    assert numbers == list(range(11, 31))


def test_until_it_has_begun_whoever_reads_does_it_all(
    log: Log, events: list[Recorded], processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([False, False, True])
    monkeypatch.setattr(ahead._Process, "begun", lambda self: next(looks))
    numbers = given(monkeypatch)
    assert list(log.read()) == events
    assert 1 < numbers[0] < COMMITS
    assert numbers == list(range(numbers[0], COMMITS + 1))


def test_few_rows_or_a_single_processor_are_read_without(
    log: Log, events: list[Recorded], processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(log.read(upto=19)) == []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1})
    assert list(log.read()) == events
    assert processes == []


def test_it_ends_when_nobody_reads_on(
    log: Log, events: list[Recorded], processes: list[Any]
) -> None:
    reading = log.read()
    assert next(reading) == events[0]
    (process,) = processes
    assert process._process.poll() is None
    del reading
    assert process._process.returncode is not None


def killed(process: Any) -> None:
    """It dies."""
    process._process.kill()
    process._process.wait()


def frozen(process: Any) -> None:
    """It does nothing any more."""
    os.kill(process._process.pid, signal.SIGSTOP)


@pytest.mark.fault("A13")
@pytest.mark.parametrize("befalls", [killed, frozen])
def test_when_it_is_killed_or_frozen_whoever_reads_goes_on(
    log: Log,
    events: list[Recorded],
    processes: list[Any],
    befalls: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    numbers = given(monkeypatch)
    reading = log.read()
    found = list(islice(reading, 10 * EVENTS))
    monkeypatch.setattr(ahead, "STUCK_S", 0.1)
    befalls(processes[0])
    found += reading
    assert found == events
    assert 10 <= len(numbers) < COMMITS
    assert "is not gone on with" in caplog.text


GARBAGE = "import sys; sys.stdout.buffer.write(bytes(range(250)) * 100)"
TOO_MUCH = "import sys; sys.stdout.buffer.write(bytes([255] * 1000))"
LEFT_OUT = """
import itertools, ledger.store.ahead as a
commits = a.commits
a.commits = lambda head, pages: itertools.islice(commits(head, pages), 1, None)
a.main()
"""
SHORT = """
import itertools, ledger.store.ahead as a
commits = a.commits
a.commits = lambda head, pages: itertools.islice(commits(head, pages), 50)
a.main()
"""


@pytest.mark.fault("A13")
@pytest.mark.parametrize(
    ("child", "gave", "said"),
    [
        ("pass", 0, "it has ended"),
        ("raise SystemExit(3)", 0, "it has ended"),
        (GARBAGE, 0, "is not gone on with"),
        (TOO_MUCH, 0, "begins to say 4294967295 bytes"),
        (LEFT_OUT, 0, "behind commit 0 it gives 2"),
        (SHORT, 50, ""),
    ],
    ids=["ended", "failed", "garbage", "too much", "left out", "short"],
)
def test_what_is_not_whole_is_read_without(
    log: Log,
    events: list[Recorded],
    child: str,
    gave: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ahead, "CHILD", child)
    numbers = given(monkeypatch)
    assert list(log.read()) == events
    assert numbers == list(range(1, gave + 1))
    assert said in caplog.text


@pytest.mark.fault("A13")
def test_where_no_process_can_be_started_it_is_read_without(
    log: Log,
    events: list[Recorded],
    processes: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert list(log.read()) == events
    assert processes == []
    assert "no process can be started" in caplog.text


@pytest.mark.fault("A13")
def test_another_log_that_lies_there_by_now_is_not_read(
    log: Log,
    events: list[Recorded],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    db_upgrade(tmp_path / "other", None)
    with closing(SQLiteLog(tmp_path / "other" / "log.db", write=True)) as other:
        other.append([draft(job_held(n)) for n in range(3 * COMMITS)])
        place = other.place
    assert isinstance(log, StoredLog)
    monkeypatch.setattr(type(log), "place", property(lambda self: place))
    numbers = given(monkeypatch)
    assert list(log.read()) == events
    assert numbers == []
    assert "another log" in caplog.text


@pytest.mark.fault("B6", "B8", "B12")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET topic = 'job.released.v1'",
        "UPDATE stored_events SET originator_id = 'job-1'",
        "DELETE FROM stored_events",
    ],
    ids=["changed", "moved", "deleted"],
)
def test_what_it_finds_wrong_is_told_as_if_it_were_not_there(
    log: Log,
    place: Place,
    events: list[Recorded],
    statement: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, mark = ("notification_id", "%s") if place.url else ("rowid", "?")
    where = f" WHERE {name} = {mark}"
    position = 60 * (EVENTS + 1) + 7
    with closing(Vandal(place, Original((), (), (), {}))) as vandal:
        vandal.run([(statement + where, (position,))])
        told, read = [], []
        for many in (1 << 60, 20):
            monkeypatch.setattr(ahead, "MANY", many)
            with closing(place.open(write=False)) as again:
                found, damage = upto_the_damage(again)
            told.append((str(damage), damage.position))
            read.append(found)
    assert told[0] == told[1]
    assert read[0] == read[1] == events[: 60 * EVENTS]


@pytest.mark.fault("B8")
@pytest.mark.parametrize("many", [20, 1 << 60], ids=["ahead", "alone"])
def test_where_even_the_last_position_can_t_be_read_the_damage_is_located(
    tmp_path: Path, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, None)
    with closing(place.open(create=True)) as log:
        head = log.append([draft(job_held(n, user=f"user-{n:05}")) for n in range(COMMITS)])
    file = tmp_path / "log.db"
    data = bytearray(file.read_bytes())
    start = data.rindex(f"user-{COMMITS - 1:05}".encode()) // 4096 * 4096
    data[start : start + 8] = bytes(8)
    file.write_bytes(data)
    monkeypatch.setattr(ahead, "MANY", many)
    with closing(SQLiteLog(file, write=False)) as log:
        found, damage = upto_the_damage(log)
    assert head.position - 100 < damage.position <= head.position
    assert found[-1].position < damage.position <= found[-1].position + 3


def upto_the_damage(log: Log) -> tuple[list[Recorded], LogCorrupt]:
    """What comes of a log before it says that it is damaged, and what it says."""
    found: list[Recorded] = []
    try:
        found.extend(recorded for recorded in log.read())
    except LogCorrupt as damage:
        return found, damage
    raise AssertionError("nothing was found wrong")


def test_more_than_a_thousand_open_files(log: Log, events: list[Recorded]) -> None:
    """As in a master of so many agents: `select` knows no descriptor beyond 1023."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2048), max(limits[1], 2048)))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert list(log.read()) == events
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


READER = """
import os
import sys
from ledger.store import ahead
from ledger.store.location import open_log
from pathlib import Path
ahead.MANY, ahead.PATIENCE_S, ahead.PIPE_BYTES = 20, 30.0, 4096
os.sched_getaffinity = lambda pid: {0, 1}
data, url = sys.argv[1:]
reading = open_log(Path(data) if data else None, url or None, write=False).read()
next(reading)
print("reading", flush=True)
sys.stdin.read()
"""


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def test_it_outlives_no_reader_and_shows_nobody_where_the_log_is(
    log: Log, place: Place, events: list[Recorded]
) -> None:
    words = [sys.executable, "-c", READER, str(place.data or ""), place.url or ""]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        (child,) = children(reader.pid)
        shown = (
            Path(f"/proc/{child}/cmdline").read_text() + Path(f"/proc/{child}/environ").read_text()
        )
        assert place.url is None or place.url not in shown
        reader.kill()
        reader.wait()

        def gone() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return ") Z " in Path(f"/proc/{child}/stat").read_text()
            return True

        until(gone, "the process that read ahead ends")
