"""A service for one test."""

from collections.abc import Iterator

import pytest

from live import Live, live


@pytest.fixture
def fresh() -> Iterator[Live]:
    """A service on SQLite for one test."""
    with live() as made:
        yield made
