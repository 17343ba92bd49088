"""Another system's history, imported and asked, as one types it."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ledger.testing.evidence import Evidence

from .conftest import Call

DATA, USAGE, CONFLICT, NO_INPUT, UNAVAILABLE = 65, 64, 1, 66, 69
HEADER = "JobID|User|Account|Partition|Submit|Start|End|State|NNodes|NCPUS|NodeList|JobName"
ROWS = """
1|ann|bio|main|2026-01-01T20:00:00|2026-01-01T22:00:00|2026-01-02T01:00:00|COMPLETED|2|8|n[1-2]|a
2|bob|hep|main|2026-01-02T08:00:00|2026-01-02T10:00:00|2026-01-02T10:30:00|NODE_FAIL|1|4|n3|b|c
3|bob|hep|main|2026-01-02T08:00:00|Unknown|2026-01-02T09:00:00|CANCELLED by 7|1|0|None assigned|d
1.batch|||||2026-01-01T22:00:00|2026-01-02T01:00:00|COMPLETED|1|4|n1|batch
"""


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Let what a command makes of this process's log lines end with the test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def archive(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of an imported history of three jobs."""
    monkeypatch.delenv("JOBLEDGER_URL", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    file, data = tmp_path / "sacct.txt", tmp_path / "past"
    file.write_text(HEADER + ROWS)
    done = call("import", "sacct", str(file), "--data", str(data), "--timezone", "UTC")
    assert done.status == 0, done.err
    assert "3 jobs of 2 users: 2 of them ran, in 2 attempts on 3 named nodes." in done.out
    assert "It is the time from 2026-01-01 20:00:00 to 2026-01-02 10:30:00." in done.out
    assert "1 row left out: a step of a job (the first is line 5)" in done.out
    return data


def test_every_question_can_be_asked_of_it(archive: Path, call: Call) -> None:
    here = ("--data", str(archive))
    days = list(csv.reader(call("usage", "--by", "day", "-o", "csv", *here).out.splitlines()))
    assert days == [
        ["day", "jobs_ended", "node_seconds", "cpu_seconds"],
        ["2026-01-01", "0", "14400", "57600"],
        ["2026-01-02", "2", "9000", "36000"],
    ]
    berlin = call("usage", "--by", "day", "--zone", "Europe/Berlin", "-o", "csv", *here).out
    assert "2026-01-01,0,7200,28800" in berlin
    table = call("usage", "--by", "user", "--waste", *here).out
    assert "OF THEM OUTAGES" in table
    assert "0.50" in next(row for row in table.splitlines() if row.startswith("bob"))
    (hit,) = json.loads(call("impact", "--nodes", "n3", "-o", "json", *here).out)["users"]
    assert (hit["user"], [job["job"] for job in hit["jobs"]]) == ("bob", [2])
    listed = call("jobs", "--all", "-o", "name", *here).out.split()
    assert listed == ["1", "2", "3"]
    assert call("jobs", *here).err.strip() == "No jobs."
    shown = json.loads(call("show", "2", "-o", "json", *here).out)
    assert (shown["name"], shown["state"], shown["attempts"][0]["lost"]) == (
        "b|c",
        "node_fail",
        ["n3"],
    )
    assert call("log", "verify", *here).status == 0


def test_it_can_be_asked_as_of_any_time(archive: Path, call: Call) -> None:
    here = ("--data", str(archive))
    then = call("jobs", "--at", "2026-01-01T23:00:00Z", "-o", "json", *here)
    (job,) = json.loads(then.out)["jobs"]
    assert (job["job"], job["state"], job["nodes"]) == (1, "running", ["n1", "n2"])
    position = json.loads(then.out)["position"]
    table = call("jobs", "--at", "2026-01-01T23:00:00Z", *here)
    assert ("running  1:00:00" in table.out, f"position {position}." in table.err) == (True, True)
    within = call("jobs", "--at-position", str(position + 1), "-o", "json", *here)
    assert json.loads(within.out)["position"] == position
    used = call("usage", "--at", "2026-01-01T23:00:00Z", "-o", "csv", *here).out
    assert used.splitlines()[1] == "0,7200,28800"
    show = call("show", "2", "--at", "2026-01-02T10:10:00Z", "-o", "json", *here)
    assert json.loads(show.out)["state"] == "running"
    assert call("impact", "--at", "2026-01-02T10:10:00Z", *here).err.startswith("Nobody was hit")
    assert call("show", "2", "--at", "2026-01-01", *here).status == NO_INPUT
    assert call("jobs", "--at-position", "99999", *here).status == DATA
    events = call("events", "2", "--at", "2026-01-02T09:00:00Z", "-o", "json", *here).out
    assert [event["name"] for event in json.loads(events)] == ["job.submitted.v1"]
    end = call("jobs", "--all", "--at", "now", "-o", "name", *here)
    assert end.out.split() == ["1", "2", "3"], "an archive's past goes on for ever"


def test_nothing_in_it_can_be_changed(archive: Path, call: Call) -> None:
    refused = call("cancel", "2", "--data", str(archive))
    assert refused.status == CONFLICT
    assert "archive" in refused.err
    assert call("submit", "--data", str(archive), "--", "true").status == CONFLICT
    words = [sys.executable, "-m", "ledger", "master", "--data", str(archive)]
    master = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert master.returncode == UNAVAILABLE
    assert "an archive, which no master goes on from" in master.stderr


def test_a_ledger_is_never_written_over(archive: Path, call: Call, tmp_path: Path) -> None:
    again = call("import", "sacct", str(tmp_path / "sacct.txt"), "--data", str(archive))
    assert again.status == USAGE
    assert "There is a ledger" in again.err


@pytest.mark.parametrize(
    ("text", "options", "status", "said"),
    [
        ("a|b\n1|2\n", [], DATA, "does not name sacct's columns"),
        ("JobID|State|User\n1|COMPLETED|ann\n", [], DATA, "lacks the columns submit, start, end"),
        (HEADER + "\nnonsense\n", [], DATA, "no job in it"),
        ("", [], DATA, "does not name"),
        (HEADER + ROWS, ["--timezone", "Nowhere/Land"], USAGE, "not a time zone"),
    ],
)
def test_what_is_no_accounting_is_refused_and_leaves_nothing(
    tmp_path: Path, call: Call, text: str, options: list[str], status: int, said: str
) -> None:
    file, data = tmp_path / "sacct.txt", tmp_path / "past"
    file.write_text(text)
    done = call("import", "sacct", str(file), "--data", str(data), *options)
    assert (done.status, data.exists()) == (status, False)
    assert said in done.err


HOURS = ("job_count", "total_node_hours", "total_cpu_hours")


def test_open_xdmods_figures_are_printed(
    shared: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, evidence: Evidence
) -> None:
    """Jobs ended, node hours and processor hours, of every day and over all, to four decimals."""
    monkeypatch.delenv("JOBLEDGER_URL", raising=False)
    slurm, here = shared / "slurm", ("--data", str(tmp_path / "past"))
    file = str(slurm / "xdmod_phillips.sacct.log.gz")
    assert call("import", "sacct", file, "--timezone", "UTC", *here).status == 0

    def expected(what: str) -> list[list[str]]:
        folder = slurm / "xdmod_expected"
        tables = [
            csv.reader((folder / f"resource__{name}__{what}.csv").read_text().splitlines())
            for name in HOURS
        ]
        columns = [[row[-1] for row in list(table)[1:]] for table in tables]
        return [list(row) for row in zip(*columns, strict=True)]

    def printed(*words: str) -> list[list[str]]:
        rows = list(csv.reader(call("usage", "-o", "csv", *words, *here).out.splitlines()))[1:]
        return [
            [jobs, *(f"{float(figure) / 3600:.4f}" for figure in seconds)]
            for jobs, *seconds in (row[-3:] for row in rows)
        ]

    days = printed("--by", "day", "--since", "2016-12-22T00:00Z", "--until", "2017-01-02T00:00Z")
    assert days == expected("timeseries-Day")
    (over_all,) = printed("--since", "2016-12-22T00:00Z", "--until", "2017-01-02T00:00Z")
    assert [over_all] == expected("aggregate-Day")
    evidence(
        "phillips, imported and asked by the command",
        f"{over_all[0]} jobs, {over_all[2]} CPU hours and {over_all[1]} node hours, on each of "
        f"{len(days)} days and over all as Open XDMoD says",
    )


def test_a_trace_that_is_none_is_refused(tmp_path: Path, call: Call) -> None:
    file = tmp_path / "t.swf"
    file.write_text("1 2 3\n")
    done = call("import", "swf", str(file), "--data", str(tmp_path / "past"))
    assert (done.status, "line 1: 3 columns" in done.err) == (DATA, True)
    assert call("import", "swf", "/nowhere.swf", "--data", str(tmp_path / "p")).status == NO_INPUT
