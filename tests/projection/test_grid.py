"""The arithmetic of grids: whatever changes, and wherever it is cut, no time is lost or doubled."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.projection import grid
from ledger.projection.grid import SLOT_US, Row

HOUR = 4 * SLOT_US
changes = st.lists(st.tuples(st.integers(0, 12 * SLOT_US - 1), st.integers(-3, 5)), max_size=12)
slots = st.lists(st.integers(0, 14), min_size=2, max_size=6, unique=True).map(sorted)


def rows_of(happened: list[tuple[int, int]]) -> list[Row]:
    """Changes of one level as rows, each counted."""
    rows: dict[int, Row] = {}
    for at, n in happened:
        slot = grid.slot_of(at)
        row = [slot, n, n * grid.left_of(slot, at), 1]
        rows[slot] = grid.added(rows[slot], row) if slot in rows else row
    return [rows[slot] for slot in sorted(rows)]


def integral(happened: list[tuple[int, int]], low: int, high: int) -> int:
    """The level over a stretch of time, change by change."""
    return sum(n * max(0, high - max(at, low)) for at, n in happened)


@given(changes, slots, st.integers(0, SLOT_US))
def test_between_whole_slots(happened: list[tuple[int, int]], cuts: list[int], more: int) -> None:
    """The last edge may be the present, which lies behind all that happened."""
    edges = [slot * SLOT_US for slot in cuts]
    if all(at < edges[-1] + more for at, _ in happened):
        edges[-1] += more
    found = grid.between(rows_of(happened), edges, 1, 1)
    assert found == [
        [integral(happened, low, high), sum(low <= at < high for at, _ in happened)]
        for low, high in pairwise(edges)
    ]
    levels = grid.levels_at(rows_of(happened), edges, 1)
    assert levels == [[sum(n for at, n in happened if at < edge)] for edge in edges]


@given(changes, st.lists(st.integers(0, 14 * SLOT_US), min_size=3, max_size=6, unique=True))
def test_an_edge_within_a_slot_loses_nothing(
    happened: list[tuple[int, int]], cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), 15 * SLOT_US]
    parts = grid.between(rows_of(happened), sorted({*edges}), 1, 1)
    (whole,) = grid.between(rows_of(happened), [0, 15 * SLOT_US], 1, 1)
    assert [sum(column) for column in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize(
    ("edges", "slots"),
    [
        ([0, HOUR, 2 * HOUR], 4),
        ([HOUR, 3 * HOUR, 3 * HOUR + 5], 8),
        ([0, HOUR, HOUR + SLOT_US, 3 * HOUR], 1),
        ([0, 24 * HOUR, 47 * HOUR, 71 * HOUR], 4),  # a day that is an hour shorter
        ([5, HOUR, 2 * HOUR], 1),
        ([0, HOUR + 5, 2 * HOUR], 1),
    ],
)
def test_what_can_be_taken_together(edges: list[int], slots: int) -> None:
    assert grid.width(edges) == slots


def test_a_single_period_is_taken_together_whole() -> None:
    assert grid.width([HOUR, 9 * HOUR]) > 9 * 4
