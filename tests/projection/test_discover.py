"""Projections are found where they are installed; a broken one concerns nobody else."""

from pathlib import Path

import pytest

from ledger.projection.discover import discover

GOOD = """'''What is asked
here?

The rest is for those who read on.
'''
from ledger.projection import Projection
PROJECTION = Projection("good", version=1, tables=())
"""
ENTRIES = """[jobledger.test]
good = good_one
absent = no_such_module
raises = bad_one
empty = no_projection
other = good_one
"""


def test_ours_are_found() -> None:
    found = discover()
    assert {"jobs", "outage_impact"} <= set(found.projections)
    assert found.broken == {}


def test_a_broken_one_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "somebodys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "good_one.py").write_text(GOOD)
    (tmp_path / "bad_one.py").write_text("1 / 0")
    (tmp_path / "no_projection.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = discover("jobledger.test")
    assert [one.question for one in found.projections.values()] == ["What is asked here?"]
    assert list(found.projections) == ["good"]
    assert sorted(found.broken) == ["absent", "empty", "other", "raises"]
    assert "ZeroDivisionError" in found.broken["raises"]
