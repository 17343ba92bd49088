"""Services for the tests of the API: one for a whole module, or one for each test and database."""

from collections.abc import Iterator

import pytest

from live import Live, live
from places import fresh_database


@pytest.fixture(scope="module")
def service() -> Iterator[Live]:
    """A service on SQLite with its projections, shared by the tests of a module."""
    with live(follow=True) as made:
        yield made


@pytest.fixture
def fresh() -> Iterator[Live]:
    """A service on SQLite for one test."""
    with live() as made:
        yield made


@pytest.fixture
def either(database: str, request: pytest.FixtureRequest) -> Iterator[Live]:
    """A service for one test, with its projections, on each database in turn."""
    if database == "sqlite":
        with live(follow=True) as made:
            yield made
        return
    template = request.getfixturevalue("pg_template")
    server = request.getfixturevalue("pg_server")
    with fresh_database(server, template) as url, live(url, follow=True) as made:
        yield made
