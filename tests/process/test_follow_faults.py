"""The process that keeps projections loses a file, a table, its ears, its database or its log: it
comes back by itself, says what it did, and ends with the bytes of a fold from scratch.
"""

import time
from collections.abc import Callable
from contextlib import closing

import psycopg
import pysqlite3  # type: ignore[import-untyped]
import pytest

from ledger.projection.database import file_of
from ledger.projection.discover import discover
from ledger.store.shelf import listed
from ledger.testing.evidence import Evidence
from ledger_projections import jobs
from ledger_projections.jobs.rows import JOBS

from .harness import Site
from .load import Book, Patient
from .processes import Process, until
from .whole import projections_are_the_fold

Fault = Callable[[Site], object]
TABLE = JOBS.sql.name

EARS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND query LIKE '%max(notification_id)%'
"""


def held(number: int) -> list[dict[str, object]]:
    """A job that waits."""
    return [{"argv": ["true"], "pool": "sim", "held": True}]


def command(site: Site, *words: str, name: str) -> None:
    """A `jobledger` command that must end well."""
    process = site.run(*words, name=name)
    assert process.ends() == 0, process.words()


def in_postgres(site: Site, statement: str) -> list[tuple[object, ...]]:
    """Do something behind everybody's back."""
    assert site.database_url is not None
    with psycopg.connect(site.database_url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def its_file_is_deleted(site: Site) -> None:
    """With what belongs to it."""
    file = file_of(site.data, jobs.PROJECTION)
    for end in ("", "-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)


def its_table_is_dropped(site: Site) -> None:
    """One of three."""
    if site.database_url:
        in_postgres(site, f"DROP TABLE projections.{TABLE}")
        return
    file = file_of(site.data, jobs.PROJECTION)
    with closing(pysqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        connection.execute(f"DROP TABLE {TABLE}")


def its_schema_is_dropped(site: Site) -> None:
    """All projections at once."""
    in_postgres(site, "DROP SCHEMA projections CASCADE")


def its_ears_are_cut_off(site: Site, follow: Process) -> float:
    """The sessions that listen for news, while there is none; how long it took to hear again."""
    words = "listening for news was interrupted"
    until(lambda: in_postgres(site, EARS) and words in follow.words(), 60, words)
    began = time.monotonic()
    site.web().submit(*held(1))
    projections_are_the_fold(site)
    return time.monotonic() - began


FAULTS: dict[str, dict[Fault, str]] = {
    "sqlite": {
        its_file_is_deleted: "the file is gone: projection is made again",
        its_table_is_dropped: "projection lost tables: made again",
    },
    "postgres": {
        its_table_is_dropped: "projection lost tables: made again",
        its_schema_is_dropped: "can't follow; trying again",
    },
}


def healed(site: Site) -> bool:
    """Is every projection told to be up to date, by `projection list`?"""
    found = site.web().json("GET", "/v1/projections")["projections"]
    states = {one["projection"]: one["state"] for one in found}
    assert set(states) == set(discover().projections)
    return set(states.values()) == {"up to date"}


def older_log(site: Site) -> None:
    """Lose the log, and restore one that is older than its projections, while it is followed."""
    (made,) = listed(site.data / "backups")
    assert site.master is not None
    site.master.end()
    if site.database_url:
        in_postgres(site, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    else:
        for file in site.data.glob("log.db*"):
            file.unlink()
    command(site, "backup", "restore", str(made.path), "--data", str(site.data), name="restore")
    site.start()


@pytest.mark.timeout(400)
@pytest.mark.fault("C2", "H5", "J4")
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.full)])
def test_follow_heals_by_itself_and_says_so(
    any_site: Site, database: str, full: bool, evidence: Evidence
) -> None:
    site = any_site
    took: dict[str, float] = {}
    site.start()
    follow = site.run("follow", name="follow")
    site.simulated(2, "sim")
    site.nodes_ready(2)
    load = Patient(site, Book(), held)
    load.goes_on()
    command(site, "backup", "create", name="backup")
    for fault, words in [*FAULTS[database].items()] * (3 if full else 1):
        before, began = len(follow.words()), time.monotonic()
        fault(site)
        load.goes_on()
        until(lambda: words in follow.words()[before:], 60, f"the words {words}")  # noqa: B023
        until(lambda: healed(site), 60, "all up to date")
        took[fault.__name__] = max(took.get(fault.__name__, 0.0), time.monotonic() - began)
    load.end()
    projections_are_the_fold(site)
    if site.database_url:
        took["its_ears_are_cut_off"] = its_ears_are_cut_off(site, follow)
    newer = site.events()[-1].position
    before = len(follow.words())
    older_log(site)
    words = "the log does not confirm the checkpoint: projection is rebuilt"
    until(lambda: words in follow.words()[before:], 60, "the words about another log")
    assert site.web().submit(*held(1)) > 0
    older = projections_are_the_fold(site)
    assert older < newer
    assert follow.status is None
    told = "; ".join(f"{name.replace('_', ' ')}: {s:.1f} s" for name, s in took.items())
    evidence(
        f"follow as a process, {'PostgreSQL' if site.database_url else 'SQLite'}",
        f"under load, healed and said so ({told}); an older log ({older} after {newer}) was taken "
        "for what it is; all projections are the fold",
    )
