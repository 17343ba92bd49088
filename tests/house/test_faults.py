"""Faults: marks are found, unknown ids fail, and the table says no more than was seen."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.testing import faults

DONE = {"passed": 2, "failed": 0, "skipped": 0, "date": "2026-01-02", "commit": "abc"}
MODULE = """
pytestmark = pytest.mark.fault("A1")
TestMachine = pytest.mark.fault("F4")(Machine.TestCase)

@pytest.mark.fault("B3", "B4")
def test_one(): ...

@pytest.mark.parametrize("way", [pytest.param(1, marks=pytest.mark.fault("B5"))])
def test_two(way): ...
"""


def test_the_registry_holds_every_fault_of_ten_families() -> None:
    known = faults.registry()
    assert len(known) == 114
    assert {name[0] for name in known} == set("ABCDEFGHIJ")
    assert all(all(fault) for fault in known.values())


def test_marks_are_found_wherever_they_stand_on_a_test() -> None:
    assert dict(faults.marks(ast.parse(MODULE), "m.py")) == {
        "m.py::TestMachine": ["A1", "F4"],
        "m.py::test_one": ["A1", "B3", "B4"],
        "m.py::test_two": ["A1", "B5"],
    }


def test_a_mark_that_stands_on_no_test_is_not_lost() -> None:
    with pytest.raises(ValueError, match=r"m\.py:1: a fault mark must stand on a test"):
        list(faults.marks(ast.parse('WAYS = [pytest.mark.fault("A1")]'), "m.py"))


@pytest.mark.parametrize(
    ("tests", "outcomes", "word"),
    [
        ([], {}, "not tried"),
        (["t"], {}, "not yet at full size"),
        (["t"], {"t": DONE | {"skipped": 1}}, "not yet at full size"),
        (["t"], {"t": DONE}, "survived, 2026-01-02, abc"),
        (["t", "u"], {"t": DONE}, "survived, 2026-01-02, abc; 1 of the tests not yet"),
        (["t", "u"], {"t": DONE, "u": DONE | {"failed": 1}}, "**failed**, 2026-01-02, abc"),
    ],
)
def test_survived_is_said_of_what_was_seen_only(
    tests: list[str], outcomes: faults.Outcomes, word: str
) -> None:
    assert faults.said(tests, outcomes) == word


def run(test: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest on one file, with the plug-in."""
    small = {name: value for name, value in os.environ.items() if name != "JOBLEDGER_FULL"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "ledger.testing.faults", *options]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(test.parent), str(test)],
        capture_output=True,
        text=True,
        check=False,
        cwd=test.parent,
        env=small,
    )


@pytest.mark.parametrize("processes", [(), ("-n2",)])
def test_a_run_says_what_it_tried_and_an_unknown_id_fails(
    processes: tuple[str, ...], tmp_path: Path
) -> None:
    test = tmp_path / "test_it.py"
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault(*ids): x\n")
    body = "import pytest\n\n@pytest.mark.fault({})\ndef test_it(): assert {}\n"
    test.write_text(body.format('"A1"', "True"))
    good = run(test, "-m", "fault", *processes)
    assert good.returncode == 0
    assert "1 tests, tried 1 times, survived" in good.stdout
    test.write_text(body.format('"A1"', "False"))
    bad = run(test, "-m", "fault", *processes)
    assert bad.returncode == 1
    assert "tried 1 times, FAILED" in bad.stdout
    test.write_text(body.format('"A99"', "True"))
    unknown = run(test, *processes)
    assert unknown.returncode == 1
    assert "not in tests/faults.toml: A99" in unknown.stdout
