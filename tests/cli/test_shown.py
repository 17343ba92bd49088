"""Tables: wide and narrow, of whatever letters, and many rows of them."""

import io
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


@given(st.lists(st.integers(0, 90), max_size=9), st.integers(-5, 200))
def test_no_column_vanishes(widths: list[int], room: int) -> None:
    fitted = shown._fitted(widths, room)
    assert sum(fitted) <= max(room, len(widths)) or sum(widths) <= room
    assert all(new >= min(old, 1) for old, new in zip(widths, fitted, strict=True))
