"""The log loses its end, unbroken as a chain: the agents that were shown it stop the master."""

import contextlib
import shutil
import signal
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg
import pysqlite3  # type: ignore[import-untyped]
import pytest

from ledger.agent.spool import recall
from ledger.store.location import open_log
from ledger.testing.evidence import Evidence

from .harness import NO_ANSWER, Answer, Site
from .processes import Process, until

BROKEN = 65
FROM_END = "DELETE FROM stored_events WHERE {} > {}"


class Lost(NamedTuple):
    """A service whose master is dead, whose agent was shown `shown`; `kept`: the whole log, and an
    `older` copy that ends at `cut`."""

    site: Site
    agent: Process
    shown: int
    cut: int
    kept: Path
    older: Path


def copy(site: Site, name: str) -> Path:
    """A copy of the log's files, as they are; of a database's rows nothing is kept."""
    folder = site.folder / name
    folder.mkdir()
    for file in site.data.glob("log.db*"):
        shutil.copy(file, folder)
    return folder


def put(site: Site, folder: Path) -> None:
    """Another copy of the log's files takes the place of the present one."""
    for file in site.data.glob("log.db*"):
        file.unlink()
    for file in folder.glob("log.db*"):
        shutil.copy(file, site.data)


def head(site: Site) -> int:
    """Where the log ends, read from the database itself."""
    with closing(open_log(site.data, site.database_url, write=False)) as log:
        return log.head().position


def lost(site: Site) -> Lost:
    """A service with one agent; a job before the cut, two behind it; then the master dies."""
    site.start()
    agent, web = site.agent("w1"), site.web()
    site.nodes_ready(1)
    site.ended(web.submit(site.job()))
    until(lambda: web.json("GET", "/v1/nodes")["nodes"][0]["state"] == "idle", saying="rest")
    cut, older = head(site), copy(site, "older")
    for _ in range(2):
        site.ended(web.submit(site.job()))
    spool = site.data / "agents" / "w1" / "spool.ndjson"
    until(lambda: recall(spool).seen.position > cut + 8, saying="the agent's sight of it")
    assert site.master is not None
    site.master.end(signal.SIGKILL)
    return Lost(site, agent, recall(spool).seen.position, cut, copy(site, "kept"), older)


def rows_gone(gone: Lost) -> None:
    """Somebody deletes the newest rows, past the triggers."""
    if gone.site.database_url:
        with psycopg.connect(gone.site.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT * FROM stored_events")
            connection.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
            connection.execute(FROM_END.format("notification_id", gone.cut).encode())
            connection.execute("ALTER TABLE stored_events ENABLE TRIGGER USER")
        return
    with closing(pysqlite3.connect(gone.site.data / "log.db", isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER stored_events_no_delete")
        connection.execute(FROM_END.format("rowid", gone.cut))
        connection.execute("UPDATE sqlite_sequence SET seq = ?", (gone.cut,))


def frames_gone(gone: Lost) -> None:
    """The last frames of the WAL never reached the disk: its end is cut behind an older commit."""
    wal = gone.site.data / "log.db-wal"
    data = wal.read_bytes()
    page = struct.unpack(">I", data[8:12])[0]
    ends = [
        end
        for start in range(32, len(data) - page - 23, page + 24)
        if struct.unpack(">I", data[start + 4 : start + 8])[0] and (end := start + page + 24)
    ]
    while head(gone.site) >= gone.shown - 2:
        ends.pop()
        (gone.site.data / "log.db-shm").unlink(missing_ok=True)
        wal.write_bytes(data[: ends[-1]])


def older_copy(gone: Lost) -> None:
    """Somebody puts an older copy of the file in its place."""
    put(gone.site, gone.older)


def whole_again(gone: Lost) -> None:
    """The whole log is put back."""
    if not gone.site.database_url:
        put(gone.site, gone.kept)
        return
    with psycopg.connect(gone.site.database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
        connection.execute("DELETE FROM stored_events")
        connection.execute("INSERT INTO stored_events SELECT * FROM kept")
        connection.execute("ALTER TABLE stored_events ENABLE TRIGGER USER")


def asked(site: Site, method: str, path: str, body: object = None) -> Answer:
    """An answer of a master that may be about to listen."""
    web = site.web(timeout_s=5)

    def look() -> Answer | None:
        with contextlib.suppress(*NO_ANSWER):
            return web.ask(method, path, body)
        return None

    found = until(look, saying="an answer")
    assert found is not None
    return found


def halted(gone: Lost) -> str:
    """Wait until the master decides nothing more; why. It appends nothing and obeys nobody."""
    site = gone.site

    def why() -> str:
        ready = asked(site, "GET", "/readyz").json()
        return "" if ready["ready"] or not ready["epoch"] else str(ready["sentence"])

    sentence = until(why, saying="the master's halt")
    end = head(site)
    refused = asked(site, "POST", "/v1/jobs", [site.job()])
    assert (refused.status, refused.json()["code"]) == (409, "log_behind")
    calls = gone.agent.words().count("log_behind")
    until(
        lambda: gone.agent.words().count("log_behind") > calls, saying="another call of the agent"
    )
    assert head(site) == end, "the halted master has appended something"
    assert site.master is not None
    assert "docs/runbooks/log-behind.md" in site.master.words()
    return sentence


def starts(site: Site) -> list[str]:
    """The jobs that have run, once for each time."""
    return [job for job, *_ in site.witnessed()]


WAYS: dict[str, tuple[str, Callable[[Lost], None]]] = {
    "rows deleted": ("sqlite", rows_gone),
    "rows deleted (PostgreSQL)": ("postgres", rows_gone),
    "WAL frames lost": ("sqlite", frames_gone),
    "older copy of the file": ("sqlite", older_copy),
}


@pytest.mark.fault("B7", "D3")
@pytest.mark.parametrize("way", WAYS)
def test_a_truncated_log_is_found_as_soon_as_an_agent_calls(
    way: str, request: pytest.FixtureRequest, evidence: Evidence
) -> None:
    database, damage = WAYS[way]
    site: Site = request.getfixturevalue(f"{database}_site")
    gone = lost(site)
    damage(gone)
    assert head(site) < gone.shown
    site.verified()  # the chain is whole as far as it goes: it can't tell
    site.age_leadership()
    site.master = site.run("master", name="second")
    sentence = halted(gone)
    assert f"The agent of w1 was shown position {gone.shown}," in sentence
    assert site.master.end() == 0
    whole_again(gone)
    site.age_leadership()
    site.start()
    site.nodes_ready(1)
    site.ended(site.web().submit(site.job()))
    assert starts(site) == ["1", "2", "3", "4"]
    site.verified()
    evidence(f"truncation: {way}", "found at the agent's first call; halted, then healed whole")


@pytest.mark.fault("D3")
def test_a_log_that_has_grown_past_the_witness_anew_is_found_by_the_hash(
    sqlite_site: Site, evidence: Evidence
) -> None:
    site, gone = sqlite_site, lost(sqlite_site)
    gone.agent.freeze()
    older_copy(gone)
    site.start()
    while head(site) <= gone.shown + 10:
        site.web().submit({"argv": ["true"], "held": True})
    gone.agent.tell(signal.SIGCONT)
    assert "another commit is there" in halted(gone)
    assert starts(site) == ["1", "2", "3"]
    evidence("truncation, then longer than before", "found by the witness's hash")


@pytest.mark.fault("B6")
def test_a_master_does_not_start_on_a_changed_row_and_names_it(any_site: Site) -> None:
    site = any_site
    site.start()
    first = site.web().submit({"argv": ["true"], "held": True}) if add_node(site) else 0
    assert site.master is not None
    site.master.end(signal.SIGKILL)
    position = next(r.position for r in site.events() if getattr(r.event, "first_job", 0) == first)
    if site.database_url:
        with psycopg.connect(site.database_url, autocommit=True) as connection:
            connection.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
            change = "UPDATE stored_events SET state = '{}' WHERE notification_id = %s"
            connection.execute(change, (position,))
    else:
        with closing(pysqlite3.connect(site.data / "log.db", isolation_level=None)) as connection:
            connection.execute("DROP TRIGGER stored_events_no_update")
            change = "UPDATE stored_events SET state = CAST('{}' AS BLOB) WHERE rowid = ?"
            connection.execute(change, (position,))
    site.age_leadership()
    for words in (("master",), ("log", "verify")):
        process = site.run(*words, name=words[-1] + "-broken")
        assert process.ends() == BROKEN
        assert f"(position {position - 1} on) is not as it was written" in process.words()
        assert "docs/runbooks/log-broken.md" in process.words()


def add_node(site: Site) -> bool:
    """A node that nobody runs, so that jobs are possible."""
    return bool(site.web().json("POST", "/v1/agents/n1/enrol", {"facts": {"cpus": 1}}))
