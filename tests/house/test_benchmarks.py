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


def test_what_was_measured_takes_the_place_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    table = importlib.import_module("benchmarks.table")
    bench = importlib.import_module("benchmarks.__main__")

    def figure(row: str, what: str, database: str, value: float) -> object:
        return table.Figure(row, what, database, [value], "/s", table.Bound(50))

    old = [
        figure("3", "append", "sqlite", 10),
        figure("5", "rebuild of `a`", "sqlite", 20),
        figure("5", "rebuild of `b`", "sqlite", 30),
        figure("5", "rebuild", "postgres", 40),
    ]
    new = [figure("6", "lag", "sqlite", 60), figure("5", "rebuild", "sqlite", 70)]
    page = f"so far:\n\n{table.table(old)}\n\nand the other table:\n\n| row | what |\n"
    found = table.merged(page, table.HEADINGS, new, bench.ORDER)
    assert [line.split("|")[4].strip() for line in found] == [
        "10.0/s",
        "40.0/s",
        "70.0/s",
        "60.0/s",
    ]
    assert table.merged("", table.HEADINGS, new, bench.ORDER) == table.lines([new[1], new[0]])


def test_the_page_can_be_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line that is there has a row whose place is known."""
    monkeypatch.syspath_prepend(str(ROOT))
    bench = importlib.import_module("benchmarks.__main__")
    table = importlib.import_module("benchmarks.table")
    former = bench._between(bench.PAGE)
    for headings in (table.HEADINGS, table.GROWTH_HEADINGS):
        kept = table.merged(former, headings, [], bench.ORDER)
        assert kept
        assert all(line in former for line in kept)
