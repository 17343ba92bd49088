"""Fixtures of the tests with real processes."""

from collections.abc import Iterator

import pytest

from .harness import Site, site
from .processes import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """What starts `jobledger` commands quickly."""
    made = Zygote()
    yield made
    made.close()


@pytest.fixture
def sqlite_site(zygote: Zygote) -> Iterator[Site]:
    """A service on SQLite."""
    with site(zygote) as made:
        yield made


@pytest.fixture
def postgres_site(zygote: Zygote, pg_url: str) -> Iterator[Site]:
    """A service on PostgreSQL."""
    with site(zygote, pg_url) as made:
        yield made


@pytest.fixture
def any_site(database: str, request: pytest.FixtureRequest) -> Site:
    """A service on each database in turn."""
    made: Site = request.getfixturevalue(f"{database}_site")
    return made
