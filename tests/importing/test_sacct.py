"""Slurm's accounting becomes the past that it tells of."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.events import AttemptEnded, AttemptPlaced, JobsSubmitted, Recorded
from ledger.importing.past import Past, write
from ledger.importing.rows import layout
from ledger.importing.sacct import read
from ledger.importing.tally import Tally
from ledger.store.log import Log
from ledger.store.verify import verify
from oracles.scan import use
from places import Place

COLUMNS = "JobID|JobIDRaw|User|Account|Partition|Submit|Start|End|State|ExitCode|NNodes|NCPUS"
HEADER = f"{COLUMNS}|Timelimit|NodeList|JobName"
SECOND = 1_000_000
HOUR_US = 3600 * SECOND


def row(job: str = "17", state: str = "COMPLETED", **given: str) -> str:
    """A line of accounting, of a job that ran for an hour on two nodes."""
    values = {
        "jobid": job,
        "jobidraw": job,
        "user": "ann",
        "account": "bio",
        "partition": "main",
        "submit": "2026-01-01T09:00:00",
        "start": "2026-01-01T10:00:00",
        "end": "2026-01-01T11:00:00",
        "state": state,
        "exitcode": "0:0",
        "nnodes": "2",
        "ncpus": "16",
        "timelimit": "1-02:03:04",
        "nodelist": "n[1-2]",
        "jobname": "run",
        **given,
    }
    return "|".join(values[name.lower()] for name in HEADER.split("|"))


def past(*rows: str) -> tuple[list[Past], Tally]:
    """The jobs of some lines."""
    tally = Tally()
    return read([HEADER, *rows], layout(HEADER), UTC, tally), tally


def file(path: Path) -> tuple[list[Past], Tally]:
    """The jobs of a file of the shared data."""
    packed = path.suffix == ".gz"
    text = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).decode()
    tally = Tally()
    lines = text.split("\n")
    return read(lines, layout(lines[0]), UTC, tally), tally


@pytest.fixture
def empty_log(tmp_path: Path) -> Iterator[Log]:
    """A log without anything."""
    with closing(Place(tmp_path, None).open(create=True)) as log:
        yield log


def told(log: Log, jobs: list[Past]) -> list[Recorded]:
    """The events of a past, written and read again; the log is whole."""
    head = write(log, jobs)
    assert verify(log).head == head
    return list(log.read())


def test_a_job_keeps_all_that_is_known_of_it() -> None:
    (job,), tally = past(row())
    (ran,) = job.tries
    assert (job.job, job.user, job.account, job.pool, job.name) == (17, "ann", "bio", "main", "run")
    assert (job.time_limit_s, ran.nodes, ran.node_count, ran.cpus) == (93_784, ("n1", "n2"), 2, 16)
    assert (ran.end or 0) - ran.start == HOUR_US
    assert datetime.fromtimestamp(ran.start / 1e6, UTC).hour == 10
    assert (ran.outcome, ran.exit_code, ran.again) == ("completed", 0, False)
    assert (tally.jobs, tally.ran, tally.users, tally.nodes) == (1, 1, {"ann"}, {"n1", "n2"})


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("FAILED", "failed"), ("TIMEOUT", "timeout"), ("NODE_FAIL", "node_fail"),
     ("OUT_OF_MEMORY", "out_of_memory"), ("DEADLINE", "deadline"), ("PREEMPTED", "preempted"),
     ("CANCELLED by 1000", "cancelled"), ("CANCELLED+", "cancelled")],
)  # fmt: skip
def test_states_mean_what_slurm_means(state: str, outcome: str) -> None:
    (job,), _ = past(row(state=state))
    assert [a_try.outcome for a_try in job.tries] == [outcome]


def test_a_job_that_never_ran_has_no_attempt(empty_log: Log) -> None:
    (job,), tally = past(row(state="CANCELLED by 7", nodelist="None assigned", nnodes="2"))
    assert (job.tries, tally.ran) == ((), 0)
    events = told(empty_log, [job])
    assert [r.event.name for r in events][-1] == "job.ended.v1"


def test_rows_of_one_job_are_its_attempts(empty_log: Log) -> None:
    again = {"submit": "2026-01-01T11:00:00", "start": "2026-01-01T12:00:00"}
    (job,), _ = past(
        row(state="COMPLETED", end="2026-01-01T13:00:00", nodelist="n3", nnodes="1", **again),
        row(state="NODE_FAIL", nodelist="n1", nnodes="1"),
    )
    assert [(t.outcome, t.again, t.nodes) for t in job.tries] == [
        ("node_fail", True, ("n1",)),
        ("completed", False, ("n3",)),
    ]
    ends = [r.event for r in told(empty_log, [job]) if isinstance(r.event, AttemptEnded)]
    assert [(e.attempt, e.next, e.state, e.lost) for e in ends] == [
        (1, "requeued", "pending", ("n1",)),
        (2, "final", "completed", ()),
    ]


def test_what_runs_and_what_waits_has_no_end(empty_log: Log) -> None:
    jobs, _ = past(
        row("1", "RUNNING", end="Unknown"),
        row("2", "PENDING", start="Unknown", end="Unknown", nodelist="None assigned"),
        row("3", "REQUEUED"),
    )
    assert [[t.end is None for t in job.tries] for job in jobs] == [[True], [], [False]]
    assert jobs[2].tries[0].again
    told(empty_log, jobs)


def test_array_tasks_keep_their_place(empty_log: Log) -> None:
    jobs, _ = past(row("4103_7", jobidraw="4110"), row("4103_8", jobidraw="4103"))
    assert [(j.job, j.array, j.task) for j in jobs] == [(4103, 4103, 8), (4110, 4103, 7)]
    sent = [r.event for r in told(empty_log, jobs) if isinstance(r.event, JobsSubmitted)]
    assert {(e.first_job, e.array, e.array_job) for e in sent} == {
        (4103, "8", 0),
        (4110, "7", 4103),
    }


def test_tasks_without_a_number_of_their_own_get_one_behind_all_others() -> None:
    header = HEADER.replace("JobIDRaw|", "")
    rows = [row(name).split("|", 2) for name in ("50_1", "50_2", "61")]
    lines = [header, *(f"{first}|{rest}" for first, _, rest in rows)]
    jobs = read(lines, layout(header), UTC, Tally())
    assert [(j.job, j.array, j.task) for j in jobs] == [(61, 0, -1), (62, 50, 1), (63, 50, 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [(row("17.batch", jobidraw="17.batch"), "a step of a job"),
     (row(state="FOO"), "the state 'FOO'"), (row(submit="Unknown"), "no submit time"),
     (row(end="Unknown"), "ended, and no end time"),
     (row(nodelist="n[1-"), "a node list"), (row("99999999999"), "a job number")],
)  # fmt: skip
def test_what_can_not_be_used_is_counted_by_its_reason(line: str, reason: str) -> None:
    jobs, tally = past(row("1"), line, row("2"))
    assert [job.job for job in jobs] == [1, 2]
    ((said, count),) = tally.skipped.items()
    assert said.startswith(reason)
    assert (count, tally.first[said]) == (1, 3)


def test_the_same_row_twice_counts_once() -> None:
    jobs, tally = past(row(), row(state="FAILED", jobidraw="18", job="18"), row())
    assert [len(job.tries) for job in jobs] == [1, 1]
    assert tally.skipped == {"the same row again": 1}


def test_texts_are_made_fit_to_be_kept_and_shown() -> None:
    (job,), _ = past(row(jobname="a\x1b[31m\u202eb", user="\x07ann"))
    assert (job.name, job.user) == ("a [31m b", "ann")


def test_a_job_of_no_time_ends_behind_its_start(empty_log: Log) -> None:
    jobs, _ = past(row("1", end="2026-01-01T10:00:00"), row("2", nodelist="n1", nnodes="1"))
    names = [r.event.name for r in told(empty_log, jobs) if getattr(r.event, "job", 0) == 1]
    assert names == ["attempt.placed.v1", "attempt.started.v1", "attempt.ended.v1"]


# ── real accounting ──────────────────────────────────────────────────────────────────────────────


def expected(shared: Path, name: str) -> dict[str, float]:
    """A series of Open XDMoD's, by day."""
    found = shared / "slurm" / "xdmod_expected" / f"resource__{name}__timeseries-Day.csv"
    rows = list(csv.reader(found.read_text().splitlines()))
    return {day: float(value) for day, value in rows[1:]}


def test_open_xdmods_figures_come_out(shared: Path, empty_log: Log, evidence: Any) -> None:
    """Jobs ended, node hours and CPU hours of every day, to four decimals."""
    jobs, tally = file(shared / "slurm" / "xdmod_phillips.sacct.log.gz")
    assert (tally.jobs, tally.ran, tally.skipped) == (4285, 4046, Counter())
    series = [expected(shared, n) for n in ("job_count", "total_node_hours", "total_cpu_hours")]
    days = list(series[0])
    midnights = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in days]
    edges = [int(m.timestamp()) * SECOND for m in (*midnights, midnights[-1] + timedelta(days=1))]
    events = told(empty_log, jobs)
    placed = [e for r in events if isinstance(e := r.event, AttemptPlaced)]
    assert all(e.cpus and e.nodes and e.node_count is None for e in placed)
    for day, found in zip(days, use(events, edges), strict=True):
        hours = [found.jobs, found.node_us / HOUR_US, found.cpu_us / HOUR_US]
        assert [round(figure, 4) for figure in hours] == [each[day] for each in series]
    evidence("phillips, imported", f"{tally.ran} jobs on {len(days)} days as Open XDMoD says")


def test_slurms_own_quirks(shared: Path, empty_log: Log) -> None:
    """Rows of every column, with newlines in submit lines; jobs listed twice; an outage."""
    jobs, tally = file(shared / "slurm_live_22.05" / "sacct_ALL_dup.jobs1-58.psv.gz")
    assert (tally.jobs, set(tally.skipped)) == (58, {"a step of a job"})
    lost = [e for r in told(empty_log, jobs) if isinstance(e := r.event, AttemptEnded) and e.lost]
    assert [(e.job, e.user, e.lost) for e in lost] == [(28, "man", ("n001",))]
    again = [job for job in jobs if len(job.tries) > 1]
    assert [job.job for job in again] == [28, 56]


def test_names_with_delimiters_and_dumps_with_newlines(shared: Path) -> None:
    simple, tally = file(shared / "slurm" / "ubccr_sacct" / "sacct_simple.log")
    names = [job.name for job in simple]
    assert "job_0||0002" in names
    assert not tally.skipped
    dumped, tally = file(shared / "slurm" / "ubccr_sacct" / "sacct_dump2101.log")
    assert set(tally.skipped) <= {"a step of a job"}
    assert len(dumped) == tally.jobs > 0


def test_open_xdmods_own_cases(shared: Path) -> None:
    folder = shared / "slurm" / "xdmod_shredder_unit"
    for name in ("accounting-logs", "utf8-multibyte-chars"):
        wanted = json.loads((folder / f"slurm__output__{name}.json").read_text())
        assert wanted
        jobs, _ = file(folder / f"slurm__input__{name}.log")
        assert len(jobs) == len(wanted)
    jobs, tally = file(folder / "slurm__input__unknown-job-state.log")
    assert (jobs, tally.skipped.total()) == ([], 2)
