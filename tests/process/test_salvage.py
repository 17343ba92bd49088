"""A real service with real agents is killed, and most of it destroyed: whom does the list name?"""

import signal
from pathlib import Path
from typing import Any

from ledger.agent.spool import recall
from ledger.store.shelf import listed
from ledger.testing.evidence import Evidence

from .harness import Site
from .processes import until
from .test_restore import command, listing, starts
from .test_restore_users import Book


def salvaged(site: Site, *left: Path) -> dict[int, tuple[str, str, str]]:
    """What the command lists: user, what became of it and how it ended, by job."""
    told: Any = listing(site, "impact", "--salvage", *map(str, left))
    return {
        job["job"]: (user["user"], job["effect"], job["end"])
        for user in told["users"]
        for job in user["jobs"]
    }


def test_whoever_was_acknowledged_is_listed_and_nobody_else(
    sqlite_site: Site, evidence: Evidence
) -> None:
    site = sqlite_site
    site.start()
    agents = [site.agent(name) for name in ("w1", "w2")]
    spools = [site.data / "agents" / name / "spool.ndjson" for name in ("w1", "w2")]
    site.nodes_ready(2)
    book, runs = Book(site), "sleep 600"
    over = book.submit("carol")
    waits = book.submit("bob", held=True)
    ran = book.submit("alice", runs, ends=False)
    until(lambda: len(starts(site)) == 2, saying="alice's job")
    command(site, "backup", "create", name="backup")
    (made,) = listed(site.data / "backups")
    ended = book.submit("dora")
    begun = book.submit("erik", runs, ends=False)
    late = book.submit("frida", held=True)
    until(lambda: len(starts(site)) == 4, saying="erik's job")
    until(
        lambda: all(any((job, 1) in recall(s).begun for s in spools) for job in (ran, begun)),
        saying="the agents' records",
    )
    assert site.master is not None
    site.master.end(signal.SIGKILL)
    for agent in agents:
        agent.end(signal.SIGKILL)
    live = {
        waits: ("bob", "waiting", ""),
        ran: ("alice", "may_run", ""),
        begun: ("erik", "may_run", ""),
        late: ("frida", "waiting", ""),
    }
    log = site.data / "log.db"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) * 2 // 3])  # what was appended since then is in its WAL
    assert salvaged(site, site.data) == live
    for file in site.data.glob("log.db*"):
        file.unlink()
    behind = {job: live[job] for job in (waits, ran, begun)}
    behind[ended] = ("dora", "ended", "completed")
    assert salvaged(site, site.data) == behind  # frida waited, and no copy of the log has that
    assert salvaged(site, made.path) == {waits: live[waits], ran: ("alice", "unknown", "")}
    assert salvaged(site, *spools) == {ran: live[ran], begun: live[begun]}
    assert over not in behind
    evidence(
        "a real service destroyed, and salvaged",
        f"{len(live)} live jobs of {len(live)} users by a truncated log with its WAL; "
        f"{len(behind)} by a backup and the spools; 2 by the spools alone; nobody else",
    )
