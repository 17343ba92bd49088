"""Disks that fail once, databases that others lock, agents whose own disk is full: under load."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pysqlite3  # type: ignore[import-untyped]
import pytest

from ledger.events import AttemptEnded, NodeStateChanged
from places import fresh_database, running_server

from .harness import Site, site
from .injected import failing
from .processes import Zygote, until
from .test_full_disks import MIB, begin
from .troubled import Clients, held

Evidence = Callable[[str, object], None]
WRITER = (
    "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' "
    "AND application_name = 'jobledger' AND datname = current_database()"
)
WAL = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"


@pytest.mark.fault("B5", "B3")
@pytest.mark.parametrize(
    ("calls", "error"), [("fsync,fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "EROFS")]
)
def test_a_call_that_fails_once_ends_the_master_and_nothing_is_lost(
    sqlite_site: Site, calls: str, error: str, evidence: Evidence
) -> None:
    site = sqlite_site
    master = begin(site)
    clients = Clients(site, held)
    try:
        clients.some()
        wal = site.data / "log.db-wal"
        with failing(master.pid, calls, error, wal, site.folder / "strace"):
            assert master.ends() == 70
        began = time.monotonic()
        told = clients.told
        master = site.start()
        healed = clients.heals(began)
        assert clients.told > told
        clients.some()
    finally:
        clients.end()
    assert master.end() == 0
    assert site.verified()
    said = clients.check(site.events())
    evidence(
        f"{calls.partition(',')[0]} fails once with {error}", f"{said}; {healed:.1f} s to heal"
    )


@pytest.mark.fault("C9")
def test_a_postgres_whose_data_disk_is_full(postgres_site: Site, evidence: Evidence) -> None:
    """The server can't make the log's table any longer: it says so, and goes on."""
    site = postgres_site
    assert site.database_url is not None
    master = begin(site)
    clients = Clients(site, held)
    with psycopg.connect(site.database_url, autocommit=True) as other:
        where = "SELECT current_setting('data_directory'), pg_relation_filepath('stored_events')"
        folder, file = other.execute(where).fetchone() or ("", "")
        try:
            clients.some()
            (writer,) = until(lambda: other.execute(WRITER).fetchone(), saying="a commit")
            calls = "pwrite64,pwritev,pwritev2,fallocate"
            table, log = Path(folder, file), site.folder / "strace"
            with failing(writer, calls, "ENOSPC", table, log, which="1+"):
                clients.refusals("storage_full")
                assert site.web().json("GET", "/readyz")["warnings"]
            healed = clients.heals(time.monotonic())
            clients.some()
        finally:
            clients.end()
    assert master.end() == 0
    assert site.verified()
    said = clients.check(site.events())
    evidence("full data disk under PostgreSQL", f"{said}; {healed:.1f} s to heal")


@pytest.mark.fault("C9")
def test_a_postgres_whose_wal_disk_is_full(zygote: Zygote, evidence: Evidence) -> None:
    """The server can't do without its own log: it crashes, and comes back by itself."""
    with running_server() as server, fresh_database(server) as url, site(zygote, url) as where:
        master = begin(where)
        clients = Clients(where, held)
        try:
            clients.some()
            with psycopg.connect(url, autocommit=True) as other:
                (writer,) = until(lambda: other.execute(WRITER).fetchone(), saying="a commit")
                (file,) = other.execute(WAL).fetchone() or ("",)
                wal, log = server.pgdata / "pg_wal" / file, where.folder / "strace"
                with failing(writer, "pwrite64,pwritev", "ENOSPC", wal, log, which="1+"):
                    until(lambda: not answers(other), saying="the server's end")
            began = time.monotonic()
            until(lambda: master.status is not None or clients.last_good > began, 30, "its word")
            if ended := master.status is not None:
                master = where.start("--wait")  # as `up` does
            healed = clients.heals(began)
            clients.some()
        finally:
            clients.end()
        assert master.end() == 0
        assert where.verified()
        said = clients.check(where.events())
    how = "the master ended and was started again" if ended else "the master went on"
    evidence("full WAL disk under PostgreSQL", f"{said}; {how}; {healed:.1f} s to heal")


def answers(connection: psycopg.Connection[Any]) -> bool:
    """Does the server still hold this session?"""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.fault("B14")
def test_a_log_that_another_program_locks(
    sqlite_site: Site, full: bool, evidence: Evidence
) -> None:
    site = sqlite_site
    master = begin(site)
    web = site.web()
    clients = Clients(site, held)
    try:
        clients.some()
        with closing(pysqlite3.connect(site.data / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            clients.refusals("log_locked")
            answer = web.ask("POST", "/v1/jobs", held(0))
            assert answer.status == 503
            until(lambda: time.monotonic() > began + (20 if full else 6), 30, "the time")
            other.execute("ROLLBACK")
        healed = clients.heals(time.monotonic())
    finally:
        clients.end()
    assert clients.longest_s < 15
    assert master.end() == 0
    said = clients.check(site.events())
    evidence("log locked by another program", f"{said}; {healed:.1f} s to heal")


@pytest.mark.fault("B3")
def test_an_agent_whose_disk_is_full(sqlite_site: Site, evidence: Evidence) -> None:
    site = sqlite_site
    master = begin(site)
    disk = site.small_disk(site.folder / "agent-disk", MIB)
    agent = site.agent("n1", "--state", str(site.folder / "agent-disk" / "state"))
    site.disk = None  # for the agent alone
    site.nodes_ready(2)
    web = site.web()
    disk.fill()
    jobs: list[int] = []

    def refuses() -> bool:
        """The page that the spool ends on may have room for some jobs."""
        if all(e.next == "final" for e in ends(site)) and len(ends(site)) == len(jobs):
            jobs.append(web.submit(site.job()))
        return state_of(site, "n1")["cause"] == "cannot_record"

    until(refuses, 60, saying="the node's word")
    jobs.append(web.submit(site.job()))
    node = state_of(site, "n1")
    assert (node["state"], node["reason"]) == ("checking", "No space left on device")
    assert web.job(jobs[-1])["state"] == "pending"
    began = time.monotonic()
    disk.free()
    until(lambda: len(ends(site)) == len(jobs), saying="the end of all jobs")
    healed = time.monotonic() - began
    assert master.end() == 0
    causes = [r.event.cause for r in site.events() if isinstance(r.event, NodeStateChanged)]
    assert "cannot_record" in causes
    assert causes[-1] == "records_again"
    assert sorted(e.job for e in ends(site)) == jobs
    assert {e.outcome for e in ends(site)} == {"completed"}
    assert [int(line[0]) for line in site.witnessed()] == jobs
    agent.end()
    disk.close()
    evidence("full disk under an agent", f"{len(jobs)} jobs ran once each; {healed:.1f} s to heal")


def ends(site: Site) -> list[AttemptEnded]:
    """How attempts ended, so far."""
    return [r.event for r in site.events() if isinstance(r.event, AttemptEnded)]


def state_of(site: Site, name: str) -> dict[str, str]:
    """A node, as the master shows it."""
    nodes: list[dict[str, str]] = site.web().json("GET", "/v1/nodes")["nodes"]
    return next(node for node in nodes if node["node"] == name)
