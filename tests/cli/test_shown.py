"""Tables: wide and narrow, of whatever letters, and many rows of them."""

import io
import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ledger.cli import shown

LETTERS = st.text(st.sampled_from("ab日é🙂"), max_size=12)


class Terminal(io.StringIO):
    """A terminal of a size of its own."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def drawn(
    monkeypatch: pytest.MonkeyPatch, width: int, rows: Sequence[Sequence[str]], **more: bool
) -> list[str]:
    """A table on a terminal."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(shown, "_width", lambda: width)
    monkeypatch.setenv("NO_COLOR", "1")
    shown.table(["NAME", "STATE", "N"], rows, right=[False, False, True], **more)
    return terminal.getvalue().splitlines()


def test_the_widest_column_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["x" * 60, "running", "7"], ["日本語" * 10, "down", "1,200"]]
    assert drawn(monkeypatch, 40, rows) == [
        "NAME                      STATE        N",
        "xxxxxxxxxxxxxxxxxxxxxxx…  running      7",
        "日本語日本語日本語日本 …  down     1,200",
    ]
    assert drawn(monkeypatch, 40, rows, fit=False)[1] == "x" * 60 + "  running      7"


def test_times_and_numbers_are_cut_last(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["2026-11-27 21:51:13", "x" * 40, "1,200"], ["planned: 2026-11-28 08:00:00", "", "3"]]
    assert drawn(monkeypatch, 48, rows)[1:] == [
        f"11-27 21:51           {'x' * 18}…  1,200",
        "planned: 11-28 08:00                           3",
    ]
    assert drawn(monkeypatch, 80, rows)[1].startswith("2026-11-27 21:51:13  ")
    assert drawn(monkeypatch, 40, [["2026-11-27 21:51:13", "y" * 99, "7"]] * 2)[1] == (
        f"11-27 21:51  {'y' * 23}…  7"
    )


def test_a_terminal_that_does_not_know_its_size_has_eighty_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((0, 0)))
    assert shown._width() == 80
    monkeypatch.setenv("COLUMNS", "132")
    assert shown._width() == 132


def test_states_have_their_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "coloured", lambda stream: True)
    lines = drawn(monkeypatch, 80, [["n1", "down", "1"]])
    assert lines[0].startswith("\x1b[1mNAME\x1b[0m")
    assert "\x1b[31mdown \x1b[0m" in lines[1]


@given(LETTERS, st.integers(1, 12), st.booleans())
def test_a_cell_takes_the_room_it_has(text: str, width: int, right: bool) -> None:
    cell = shown._aligned(text, width, right)
    assert cell_len(cell) == width
    assert cell.strip() == text.strip() or cell.endswith("…")


@given(st.lists(st.tuples(st.integers(0, 90), st.booleans()), max_size=9), st.integers(-5, 200))
def test_no_column_vanishes(columns: list[tuple[int, bool]], room: int) -> None:
    widths, firm = [width for width, _ in columns], [one for _, one in columns]
    fitted = shown._fitted(widths, room, firm)
    assert sum(fitted) <= max(room, len(widths)) or sum(widths) <= room
    assert all(new >= min(old, 1) for old, new in zip(widths, fitted, strict=True))
    words = [new for new, is_firm in zip(fitted, firm, strict=True) if not is_firm]
    cut = any(new < old for old, new, one in zip(widths, fitted, firm, strict=True) if one)
    assert not cut or all(new <= shown.LEAST for new in words)
