"""Array indices: what is written is what is meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.arrays import MAX_INDEX, MAX_TASKS, indices
from ledger.domain.errors import Malformed

PIECES = st.tuples(st.integers(0, 400), st.integers(0, 30), st.integers(1, 7))


def written(low: int, length: int, step: int) -> str:
    """A range as a user writes it."""
    if length == 0:
        return str(low)
    return f"{low}-{low + length}" + (f":{step}" if step > 1 else "")


@given(st.lists(PIECES, min_size=1, max_size=6))
def test_pieces_are_listed_one_after_the_other(pieces: list[tuple[int, int, int]]) -> None:
    text = ",".join(written(*piece) for piece in pieces)
    meant = [i for low, length, step in pieces for i in range(low, low + length + 1, step)]
    if len(set(meant)) < len(meant):
        with pytest.raises(Malformed, match="twice"):
            indices(text)
    else:
        assert indices(text) == meant


@given(st.text("0123456789-,:٣ x", max_size=12))
def test_anything_else_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        found = indices(text)
    except Malformed:
        return
    assert found
    assert len(found) == len(set(found)) <= MAX_TASKS
    assert all(0 <= i <= MAX_INDEX for i in found)


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "-1", "1-", "3-1", "1-5:0", "1:", "1-2-3", "1-9:2:3", "+1", "0x1", " 1"]
)
def test_half_written_lists_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        indices(text)


def test_the_bounds_are_reached_and_not_passed() -> None:
    assert len(indices(f"1-{MAX_TASKS}")) == MAX_TASKS
    assert indices(str(MAX_INDEX)) == [MAX_INDEX]
    for text in (f"0-{MAX_TASKS}", str(MAX_INDEX + 1), f"1-{'9' * 5000}", f"0-{MAX_INDEX}"):
        with pytest.raises(Malformed):
            indices(text)
