"""What real sites' accounting looks like: each odd row is imported, or left out by a reason."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.importing.past import Past
from ledger.importing.rows import Layout, layout
from ledger.importing.sacct import read
from ledger.importing.tally import Tally
from ledger.nodenames import expand

MINUTE_US = 60_000_000
HEADER = "JobID|JobIDRaw|Cluster|State|Submit|Start|End|User|UID|NNodes|NodeList|JobName"


def past(
    lines: Sequence[str], form: Layout | None = None, cluster: str = ""
) -> tuple[list[Past], Tally]:
    """The jobs of some lines."""
    tally = Tally()
    return read(lines, form or layout(lines[0]), UTC, tally, cluster), tally


def row(shown: str, raw: str = "40", cluster: str = "one", user: str = "ann") -> str:
    """A job that ran for an hour."""
    times = "2026-01-01T10:00:00|2026-01-01T11:00:00|2026-01-01T12:00:00"
    return f"{shown}|{raw}|{cluster}|COMPLETED|{times}|{user}|7|1|n1|run"


def test_a_row_of_many_tasks_is_each_of_them() -> None:
    jobs, tally = past([HEADER, row("40_7", "43"), row("40_[1-3,5-9:2%2]"), row("41_[0-9,...]")])
    assert [(job.job, job.array, job.task) for job in jobs] == [
        (43, 40, 7),  # a row of its own says its number
        *((44 + i, 40, task) for i, task in enumerate((1, 2, 3, 5, 9))),
    ]
    assert tally.skipped == {
        "the same row again": 1,  # of task 7
        "tasks of an array that are not all listed, or too many": 1,
    }
    assert (tally.jobs, tally.tries) == (6, 6)


def test_open_xdmods_arrays(shared: Path) -> None:
    folder = shared / "slurm" / "xdmod_shredder_unit"
    lines = (folder / "slurm__input__accounting-logs-with-job-arrays.log").read_text().splitlines()
    wanted = json.loads(
        (folder / "slurm__output__accounting-logs-with-job-arrays.json").read_text()
    )
    for line, tasks in zip(lines, wanted, strict=True):
        jobs, tally = past([line])
        assert [job.task for job in jobs] == tasks
        assert not tally.skipped
    jobs, tally = past(lines)
    tasks = [task for some in wanted for task in some]
    assert sorted(job.task for job in jobs) == sorted(set(tasks))
    assert tally.skipped == {"the same row again": len(tasks) - len(jobs)}


def test_what_has_not_ended_is_imported_as_it_was(shared: Path) -> None:
    folder = shared / "slurm" / "xdmod_shredder_unit"
    lines = (folder / "slurm__input__non-ended-job-state.log").read_text().splitlines()
    (runs, waits), tally = past(lines)
    assert [a_try.end for a_try in runs.tries] == [None]
    assert (waits.tries, waits.ended_at) == ((), None)
    assert not tally.skipped


def test_a_node_may_be_lost_before_its_job_starts() -> None:
    line = row("40").replace("COMPLETED", "NODE_FAIL").replace("T11", "T1x")
    unrun = line.replace("2026-01-01T1x:00:00", "None").replace("|n1|", "|None assigned|")
    (job,), _ = past([HEADER, unrun])
    assert (job.tries, job.state, job.ended_at is None) == ((), "node_fail", False)


def test_names_in_other_scripts(shared: Path) -> None:
    folder = shared / "slurm" / "xdmod_shredder_unit"
    lines = (folder / "slurm__input__utf8-multibyte-chars.log").read_text().splitlines()
    wanted = json.loads((folder / "slurm__output__utf8-multibyte-chars.json").read_text())
    assert [job.name for job in past(lines)[0]] == [job["job_name"] for job in wanted]


def test_jobs_of_several_clusters_are_not_mixed_up() -> None:
    lines = [HEADER, row("40"), row("40", cluster="two"), row("41", "41", cluster="two")]
    jobs, tally = past(lines)
    assert [(job.job, len(job.tries)) for job in jobs] == [(40, 1), (41, 1)]
    ((reason, count),) = tally.skipped.items()
    assert (reason.startswith("a number that a job of another cluster"), count) == (True, 1)
    jobs, tally = past(lines, cluster="two")
    assert [job.job for job in jobs] == [40, 41]
    assert tally.skipped == {"of another cluster": 1}


def test_a_job_of_nobody_is_of_its_uid() -> None:
    lines = [HEADER, row("40", user=""), row("41", "41", user="").replace("||7|", "|||")]
    assert [job.user for job in past(lines)[0]] == ["uid7", "unknown"]


COLUMNS = re.compile(r"sacct --format=(\S+) ")


def columns(readme: str) -> list[str]:
    """The columns of a dump without a header, as the command that made it names them."""
    found = COLUMNS.search(readme)
    assert found is not None
    return found[1].split(",")


def reports(folder: Path) -> dict[str, dict[str, str]]:
    """What another program says of each job."""
    found = {}
    for file in folder.iterdir():
        lines = (line.partition(":") for line in file.read_text().splitlines())
        found[file.name] = {name.strip(): value.strip() for name, _, value in lines}
    return found


def test_a_dump_with_a_snowman_between_columns(shared: Path) -> None:
    """All that another program reports of each of its jobs, and the ledger keeps."""
    folder = shared / "slurm" / "habrok"
    lines = (folder / "sacct.txt").read_text().splitlines()
    form = layout(lines[0], columns((folder / "README.md").read_text()))
    assert (form.delimiter, form.header, form.closed) == ("\u2603", False, True)
    jobs, tally = past(lines, form)
    expected = reports(folder / "expected_output")
    assert set(tally.skipped) == {"a step of a job"}
    assert tally.skipped.total() + len(jobs) == len(lines)
    by_name = {f"{j.array}_{j.task}" if j.array else str(j.job): j for j in jobs}
    assert by_name.keys() == expected.keys()
    for name, report in expected.items():
        check_report(by_name[name], report)


def check_report(job: Past, report: dict[str, str]) -> None:
    """A job is as a report says."""
    assert (job.user, job.pool, job.name) == (report["User"], report["Partition"], report["Name"])
    assert job.submitted_at == micros(report["Submit"])
    assert job.nodes == int(report["Number of Nodes"])
    state = report["State"].split(" ")[0].split(",")[0].lower()
    if not job.tries:
        assert (job.state, report["Nodes"]) == (state, "None assigned")
        return
    (ran,) = job.tries
    assert (ran.outcome, ran.cpus) == (state, int(report["Cores"]))
    assert sorted(ran.nodes) == sorted(expand(report["Nodes"]))
    assert ran.start == micros(report["Start"])
    assert 0 <= micros(report["End"]) - (ran.end or 0) < MINUTE_US  # a step may end behind its job


def micros(text: str) -> int:
    """µs since 1970 of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize("closed", [False, True])
def test_named_columns_may_be_closed_too(closed: bool) -> None:
    lines = [row("40") + "|" * closed, row("41", "41") + "|" * closed]
    form = layout(lines[0], HEADER.split("|"))
    assert form.closed == closed
    assert [job.name for job in past(lines, form)[0]] == ["run", "run"]
