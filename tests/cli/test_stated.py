"""The loss of nodes that somebody states, asked of histories in which nobody watched the nodes."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.testing.evidence import Evidence

from .conftest import Call

HEADER = "JobID|User|Account|Partition|Submit|Start|End|State|NNodes|NCPUS|NodeList|JobName"
ROWS = """
1|ann|bio|main|2026-01-01T08:00:00|2026-01-01T09:00:00|2026-01-01T12:00:00|COMPLETED|2|8|n[1-2]|a
2|ann|bio|main|2026-01-01T08:00:00|2026-01-01T09:30:00|2026-01-01T10:01:00|FAILED|1|4|n1|b
3|bob|hep|main|2026-01-01T08:00:00|2026-01-01T09:00:00|2026-01-01T10:00:00|NODE_FAIL|1|4|n1|c
4|bob|hep|main|2026-01-01T08:00:00|2026-01-01T09:00:00|2026-01-01T10:00:00|COMPLETED|1|4|n1|d
5|cyd|hep|main|2026-01-01T08:00:00|2026-01-01T10:30:00|2026-01-01T11:00:00|FAILED|1|4|n1|e
6|dan|hep|main|2026-01-01T08:00:00|2026-01-01T09:30:00|2026-01-01T11:00:00|FAILED|1|4|n3|f
3|bob|hep|main|2026-01-01T10:00:00|2026-01-01T10:40:00|2026-01-01T11:00:00|COMPLETED|1|4|n3|c
"""
WINDOW = ("--since", "2026-01-01T10:00:00Z", "--until", "2026-01-01T10:20:00Z")


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBLEDGER_URL", raising=False)
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def past(tmp_path: Path, call: Call) -> list[str]:
    """The place of an imported history, as options."""
    file, data = tmp_path / "sacct.txt", tmp_path / "past"
    file.write_text(HEADER + ROWS)
    assert call("import", "sacct", str(file), "--data", str(data), "--timezone", "UTC").status == 0
    return ["--data", str(data)]


def hit(call: Call, *words: str) -> dict[str, dict[int, Any]]:
    """The jobs that are listed, by user."""
    users = json.loads(call("impact", "-o", "json", *words).out)["users"]
    return {user["user"]: {job["job"]: job for job in user["jobs"]} for user in users}


def test_whoever_was_there_is_listed_with_what_came_of_it(past: list[str], call: Call) -> None:
    found = hit(call, "--nodes", "n1", *WINDOW, *past)
    assert {user: sorted(jobs) for user, jobs in found.items()} == {"ann": [1, 2], "bob": [3]}
    assert [job["effect"] for jobs in found.values() for job in jobs.values()] == [
        "ran_there",  # it completed two hours later
        "ended_there",
        "requeued",  # on record: the node failed
    ]
    assert found["ann"][2]["lost_node_s"] == 31 * 60
    assert found["bob"][3]["state"] == "completed"
    recorded = hit(call, "--nodes", "n1", *WINDOW, "--no-stated", *past)
    assert {user: sorted(jobs) for user, jobs in recorded.items()} == {"bob": [3]}
    every = hit(call, "--stated", *WINDOW, *past)
    assert sorted(every) == ["ann", "bob", "dan"]
    assert hit(call, *WINDOW, *past).keys() == {"bob"}  # no nodes, nothing stated
    assert hit(call, "--nodes", "n1", *past).keys() == {"bob"}


def test_as_people_read_it(past: list[str], call: Call) -> None:
    done = call("impact", "--nodes", "n[1-2]", *WINDOW, *past)
    verdict, titles, first, second, third, last = done.out.splitlines()
    assert verdict == (
        "2 users and 3 jobs were on n[1-2] between 2026-01-01 10:00:00 and 2026-01-01 10:20:00, "
        "when they are said to have been lost: 2 of them ended then, 1 queued again, 1:31:00 of "
        "node time lost."
    )
    assert titles.split() == [
        "USER",
        "ACCOUNT",
        "JOB",
        "ATTEMPT",
        "NODES",
        "STRUCK",
        "EFFECT",
        "LOST",
        "STATE",
    ]
    assert first.split()[:5] == ["ann", "bio", "1", "1", "n[1-2]"]
    assert "ended there" in second
    assert "requeued" in third
    assert last.startswith("As of position ")
    nobody = call("impact", "--nodes", "n9", *WINDOW, *past)
    assert (nobody.out, nobody.err.startswith("Nobody was on n9 between ")) == ("", True)
    assert nobody.err.endswith("No job ever ran on n9: is that its name?\n")
    later = ("--since", "2026-01-02", "--nodes", "n[1,9]", *past)
    assert "No job ever ran on n9" in call("impact", *later).err
    assert call("impact", "--stated", "--nodes", "n1", *past).status == 65
    rows = list(
        csv.DictReader(
            call("impact", "--nodes", "n1", *WINDOW, "-o", "csv", *past).out.splitlines()
        )
    )
    assert [(row["user"], row["job"], row["effect"]) for row in rows] == [
        ("ann", "1", "ran_there"),
        ("ann", "2", "ended_there"),
        ("bob", "3", "requeued"),
    ]
    assert call("impact", "--nodes", "n1", *WINDOW, "-o", "name", *past).out.split() == [
        "ann",
        "bob",
    ]


def test_slurms_recorded_outage_hits_two_jobs(
    shared: Path, tmp_path: Path, call: Call, evidence: Evidence
) -> None:
    """What ran when two nodes went down, as squeue said it; and the accounting of the day."""
    folder = shared / "slurm_live_22.05"
    down, up = (
        int(line.rsplit(" ", 1)[1])
        for line in (folder / "outage1.txt").read_text().splitlines()
        if " at epoch " in line
    )
    ran = [
        line.split("|") for line in (folder / "running_before_outage.txt").read_text().splitlines()
    ]
    lines = [
        f"{job}|{user}|main|{down - 60}|{down - seconds(elapsed)}|Unknown|RUNNING|{nodes}|{name}"
        for job, nodes, user, name, elapsed in ran
    ]
    accounting = (folder / "sacct_X_dup.jobs1-58.psv").read_text()
    beside = [  # it was submitted later than the recorded accounting goes
        f"{job}|{job}|{name}|{user}|bio|normal|main|{moment(down - 60)}|None|"
        f"{moment(down - seconds(elapsed))}|Unknown|{elapsed}|11|RUNNING|0:0|0:0|00:03:00|1|{nodes}"
        "|1|None||"
        for job, nodes, user, name, elapsed in ran
        if int(job) > 58
    ]
    files = {
        "running": "JobID|User|Partition|Submit|Start|End|State|NodeList|JobName\n"
        + "\n".join(lines),
        "accounting": accounting + "\n".join(beside),
    }
    window = ("--since", moment(down) + "Z", "--until", moment(up) + "Z")
    for name, text in files.items():
        file, data = tmp_path / f"{name}.txt", tmp_path / name
        file.write_text(text)
        done = call("import", "sacct", str(file), "--data", str(data), "--timezone", "UTC")
        assert done.status == 0, done.err
        found = hit(call, "--nodes", "n001,n012", *window, "--data", str(data))
        assert {user: sorted(jobs) for user, jobs in found.items()} == {"man": [28, 67]}
        drained = hit(call, "--nodes", "n014", *window, "--data", str(data), "--no-stated")
        assert drained == {}
    evidence(
        "affected users, Slurm's recorded outage",
        f"n001 and n012, out of what ran and out of the accounting ({len(ran)} jobs ran): user "
        "man, jobs 28 and 67, nobody else",
    )


def seconds(elapsed: str) -> int:
    """`0:40`."""
    minutes, rest = elapsed.split(":")
    return int(minutes) * 60 + int(rest)


def moment(epoch: int) -> str:
    """As sacct writes it."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
