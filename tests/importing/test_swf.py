"""A trace in the Standard Workload Format becomes the past that it tells of."""

from contextlib import closing
from pathlib import Path

import pytest

from ledger.importing import swf
from ledger.importing.past import write
from ledger.importing.swf import Machine
from ledger.importing.tally import Tally
from ledger.importing.trace import TraceJob, read, remarks
from ledger.store.verify import verify
from places import Place

JOB = TraceJob(7, 100, 60, 8, 120, "u3", wait=40, status=1, group=2, queue=1, partition=0)
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"MaxNodes": "100", "MaxProcs": "100", "UnixStartTime": "9"}, Machine(9, 1)),
        ({"MaxNodes": "24", "MaxProcs": "1728"}, Machine(0, 72)),
        ({"MaxNodes": "12 (of two kinds)", "MaxProcs": "?"}, Machine(0, 1)),
        ({}, Machine(0, 1)),
    ],
)
def test_what_a_trace_says_of_its_machine(said: dict[str, str], expected: Machine) -> None:
    assert swf.machine(said) == expected


def test_a_job_waits_runs_and_ends() -> None:
    (past,) = swf.read([JOB], Machine(1000, 4), Tally())
    (ran,) = past.tries
    assert (past.job, past.user, past.account, past.pool, past.qos) == (7, "u3", "g2", "p0", "q1")
    assert past.submitted_at == 1100 * SECOND
    assert (ran.start, ran.end) == (1140 * SECOND, 1200 * SECOND)
    assert (ran.node_count, ran.cpus, ran.nodes) == (2, 8, ())


@pytest.mark.parametrize(
    ("status", "outcome"), [(0, "failed"), (1, "completed"), (5, "cancelled"), (-1, "completed")]
)
def test_a_status_says_how_it_ended(status: int, outcome: str) -> None:
    (past,) = swf.read([JOB._replace(status=status)], Machine(0, 1), Tally())
    assert [a_try.outcome for a_try in past.tries] == [outcome]


def test_one_that_was_cancelled_before_it_ran_has_no_attempt() -> None:
    (past,) = swf.read([JOB._replace(status=5, run=0)], Machine(0, 1), Tally())
    assert (past.tries, past.ended_at) == ((), 140 * SECOND)


def test_parts_of_jobs_and_numbers_used_twice_are_left_out() -> None:
    tally = Tally()
    found = swf.read(
        [JOB, JOB._replace(status=3), JOB, JOB._replace(number=8)], Machine(0, 1), tally
    )
    assert [past.job for past in found] == [7, 8]
    assert sum(tally.skipped.values()) == 2


def test_nodes_are_kept_where_they_are_listed(tmp_path: Path) -> None:
    line = "0 10 5 60 3 -1 -1 3 99 -1 1 4 5 -1 -1 1 1 1 {12,12,7} q_1d 1:ppn=3\n"
    file = tmp_path / "t.swf"
    file.write_text(f"; MaxNodes: 9\n;UnixStartTime: 5\n; Note: a: b\n{line}; MaxProcs: 1\n")
    assert remarks(file) == {"MaxNodes": "9", "UnixStartTime": "5", "Note": "a: b"}
    (past,) = swf.read(read(file), Machine(0, 1), Tally())
    assert [(a_try.nodes, a_try.node_count, a_try.cpus) for a_try in past.tries] == [
        (("n12", "n7"), 2, 3)
    ]


@pytest.mark.parametrize(
    ("name", "jobs", "nodes"),
    [("DOST-ASTI*", 19_760, 0), ("MetaCentrum-wagap*.swf.gz", 17_900, 44)],
)
def test_real_traces_become_whole_ledgers(
    shared: Path, tmp_path: Path, name: str, jobs: int, nodes: int, full: bool
) -> None:
    (file,) = (shared / "swf").glob(name)
    tally = Tally()
    found = swf.read(read(file), swf.machine(remarks(file)), tally)
    assert (tally.jobs, len(tally.nodes), tally.skipped.total()) == (jobs, nodes, 0)
    with closing(Place(tmp_path, None).open(create=True)) as log:
        head = write(log, found if full else found[:2_000])
        assert verify(log).head == head
