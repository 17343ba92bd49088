"""The benchmarks' command line: what `make bench` alone says."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_no_row_means_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    bench = importlib.import_module("benchmarks.__main__")
    assert bench.arguments([]).rows == list(bench.ROWS)
    assert bench.arguments(["3", "--small"]).rows == ["3"]
    with pytest.raises(SystemExit):
        bench.arguments(["99"])
