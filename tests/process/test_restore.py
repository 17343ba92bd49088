"""The drill: a backup under load, the log lost, a restore below agents that know more."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger.agent.spool import recall
from ledger.events import JobHeld, LogRestored, MasterStarted, StaleReported
from ledger.store.shelf import Backup, listed
from ledger.testing.evidence import Evidence
from places import fresh_database

from .harness import NO_ANSWER, Site
from .processes import Process, until


def command(site: Site, *words: str, name: str, data: Path | None = None) -> Process:
    """A `jobledger` command that must end well."""
    process = site.run(*words, name=name, data=data)
    assert process.ends() == 0, process.words()
    return process


def listing(site: Site, *words: str) -> Any:
    """What a command prints as JSON."""
    said = subprocess.run(
        [sys.executable, "-m", "ledger", *words, "--data", str(site.data), "-o", "json"],
        capture_output=True,
        check=True,
        cwd="/",
        env=site_environment(site),
    )
    return json.loads(said.stdout)


def site_environment(site: Site) -> dict[str, str]:
    """What says which log is meant, and nothing else of ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}
    return kept | ({"JOBLEDGER_DATABASE_URL": site.database_url} if site.database_url else {})


class Load:
    """Somebody who goes on submitting held jobs, so that the log grows."""

    def __init__(self, site: Site) -> None:
        self._site, self._end = site, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        web = self._site.web()
        while not self._end.is_set():
            with contextlib.suppress(*NO_ANSWER):
                web.ask("POST", "/v1/jobs", [{"argv": ["true"], "held": True}])

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def spare(database: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """An empty database, where logs lie in databases."""
    if database == "sqlite":
        yield None
    else:
        with fresh_database(request.getfixturevalue("pg_server")) as url:
            yield url


def lose(site: Site, spare: str | None) -> None:
    """The log is gone for good; what agents keep is not."""
    site.database_url = spare
    for file in site.data.glob("log.db*"):
        file.unlink()


def starts(site: Site) -> list[tuple[str, str]]:
    """Which attempts have run, once for each time."""
    return [(job, attempt) for job, attempt, *_ in site.witnessed()]


class Behind(NamedTuple):
    """Jobs that the agents know of, and the backup does not, or not as they went on."""

    waiting: int
    forgotten: int
    unheard: int
    running: int


def behind(site: Site, waiting: int, spools: list[Path]) -> Behind:
    """Go on behind the backup, to the death of the master and an end that it never hears of."""
    web, late = site.web(), site.folder / "late"
    web.json("POST", f"/v1/jobs/{waiting}/release", {})
    site.ended(waiting)
    forgotten = web.submit(site.job())
    site.ended(forgotten)
    unheard = web.submit(site.job(f"while [ ! -e {late} ]; do sleep 0.05; done"))
    running = web.submit(site.job("sleep 600"))
    until(lambda: len(starts(site)) == 5, saying="the job that is lost while it runs")
    assert site.master is not None
    site.master.end(signal.SIGKILL)
    late.touch()
    until(lambda: any((unheard, 1) in recall(spool).ended for spool in spools), saying="its end")
    return Behind(waiting, forgotten, unheard, running)


def new_copy(site: Site, made: Backup, live: set[int]) -> LogRestored:
    """How the copy begins: it says what it is, and holds what may have run."""
    copy = [r for r in site.events() if r.position > made.head.position]
    restored = copy[0].event
    started = next(r.event for r in copy if isinstance(r.event, MasterStarted))
    assert isinstance(restored, LogRestored)
    assert (restored.after, restored.origin_incarnation) == (made.head.position, made.incarnation)
    assert started.incarnation == restored.incarnation != made.incarnation
    assert live <= {r.event.job for r in copy if isinstance(r.event, JobHeld)}
    return restored


@pytest.mark.fault("J1", "J3")
def test_an_old_backup_is_restored_under_agents_that_know_more(
    any_site: Site, spare: str | None, database: str, evidence: Evidence
) -> None:
    site, web = any_site, any_site.web()
    site.start()
    agents = [site.agent(name) for name in ("w1", "w2", "w3")]
    spools = [site.data / "agents" / name / "spool.ndjson" for name in ("w1", "w2", "w3")]
    site.nodes_ready(3)
    stop = site.folder / "stop"
    through = web.submit(site.job(f"while [ ! -e {stop} ]; do sleep 0.05; done"))
    until(lambda: len(starts(site)) == 1, saying="the job that runs through")
    waiting = web.submit(site.job(held=True))
    with Load(site):
        command(site, "backup", "create", name="backup")
    (made,) = listed(site.data / "backups")
    assert made.verified is not None
    gone = behind(site, waiting, spools)
    end = site.events()[-1].position
    lose(site, spare)
    began = time.monotonic()
    command(site, "backup", "restore", str(made.path), "--data", str(site.data), name="restore")
    site.start()
    took = time.monotonic() - began
    site.nodes_ready(2)
    restored = new_copy(site, made, {through, waiting})
    fresh = site.web().submit(site.job())
    assert fresh == restored.first_job > gone.running
    site.ended(fresh)
    stop.touch()
    assert site.ended(through).outcome == "completed"
    assert [agent.status for agent in agents] == [None] * 3
    assert sorted(starts(site)) == sorted((str(job), "1") for job in (through, *gone, fresh))
    rows = listing(site, "backup", "lost", *map(str, spools))
    assert [row["job"] for row in rows] == list(gone)
    stale = {r.event.job for r in site.events() if isinstance(r.event, StaleReported)}
    assert gone.unheard in stale
    site.verified()
    evidence(
        f"restore drill, real processes, {database}",
        f"backup under load at {made.head.position}, lost at {end}; restored and ready in "
        f"{took:.2f} s; no job ran twice; stale reports recorded of {len(stale)} jobs; the 4 lost "
        "ones listed from spools",
    )
