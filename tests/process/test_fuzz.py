"""Whatever is sent to a real service, by anybody: it answers as described, and what it wrote down
then is as sound as ever.
"""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ledger.events import AttemptEnded
from ledger.testing.evidence import Evidence
from places import Place, fresh_database

from .afterwards import still_true
from .fuzzing import Aim, Found, fuzz
from .harness import Site
from .processes import Process, until

SUBJECTS = ("user", "node", "nobody", "forger", "operator")
"""The operator comes last: he turns the cluster upside down."""

WALKERS = {"sqlite": "user", "postgres": "operator"}
"""Who goes along the links in CI, where setting out takes seconds; in full, all do."""

FULL_REQUESTS = 10_000
EXAMPLES, EXAMPLES_FULL = 1, 12


class Target:
    """A service under fuzz: master, followers, simulated nodes whose jobs are over at once."""

    def __init__(self, site: Site) -> None:
        self.site, self.database = site, "postgres" if site.database_url else "sqlite"
        master = site.start("--listen", "127.0.0.1:0")
        self.follower = site.run("follow", name="follow")
        self.others: list[Process] = [site.simulated(2, "default")]
        site.nodes_ready(2)
        found = re.search(r"http://127\.0\.0\.1:\d+", master.words())
        assert found, master.words()
        self.address = found[0]
        self.document: dict[str, Any] = self.told("GET", "/v1/openapi.json")
        self.own = self.told("POST", "/v1/agents/n1/enrol", {})["token"]

    def told(self, method: str, path: str, body: Any = None) -> Any:
        """An answer, over a new connection: an old one may have been closed meanwhile."""
        return self.site.web().json(method, path, body)

    def token(self, subject: str) -> str:
        """What a subject shows."""
        if subject == "nobody":
            return ""
        if subject == "node":
            return str(self.own)
        owner = "olga" if subject == "operator" else "alice"
        role = "operator" if subject == "operator" else "user"
        body = {"owner": owner, "role": role, "ttl_s": 3600}
        token: str = self.told("POST", "/v1/tokens", body)["secret"]
        return token if subject != "forger" else token[:-6] + "AAAAAA"

    def fuzz(self, subject: str, paths: list[str] | None, examples: int) -> Found:
        """A subject's requests: everything about some paths, and walks along the links."""
        token = self.token(subject)
        jobs = [str(self.site.web().submit({"argv": ["true"], "held": h})) for h in (True, False)]
        nodes = ["n1"] if subject == "node" else ["default-1", "n1"]
        own = token.split("_")[1] if token else ""
        aim = Aim(nodes, jobs, own, random.Random(subject))  # noqa: S311 - it must repeat
        ways: dict[str, Any] = {"examples": examples}
        if paths is None:
            return fuzz(self.address, self.document, token, aim, **ways)
        some = ("examples", "coverage", "fuzzing")
        found = fuzz(self.address, self.document, token, aim, paths=paths, phases=some, **ways)
        if WALKERS[self.database] == subject:
            found.add(fuzz(self.address, self.document, token, aim, phases=("stateful",), **ways))
        return found


@contextmanager
def other_place(database: str, request: pytest.FixtureRequest, site: Site) -> Iterator[Place]:
    """An empty place on the other database, with its projections in a directory of their own."""
    data = site.folder / "copy"
    data.mkdir()
    if database == "postgres":
        yield Place(data, None)
        return
    with fresh_database(request.getfixturevalue("pg_server")) as url:
        yield Place(data, url)


def test_whatever_is_sent_the_answer_is_as_described_and_the_log_is_sound(
    any_site: Site, database: str, request: pytest.FixtureRequest, full: bool, evidence: Evidence
) -> None:
    target = Target(any_site)
    every, slices = sorted(target.document["paths"]), 2 * len(SUBJECTS)
    first = 0 if database == "sqlite" else len(SUBJECTS)
    total = Found()
    for number, subject in enumerate(SUBJECTS, first):
        some = None if full else every[number::slices]
        found = target.fuzz(subject, some, EXAMPLES_FULL if full else EXAMPLES)
        assert found.wrong == {}, subject
        assert max(found.statuses) < 500, found.statuses
        if subject in ("nobody", "forger"):
            assert set(found.statuses) == {401}
        total.add(found)
    assert total.requests > (FULL_REQUESTS if full else 500)
    assert "Traceback" not in any_site.master.words()  # type: ignore[union-attr]
    over = until(lambda: _over(any_site), 30, "jobs that ended")
    with other_place(database, request, any_site) as copy:
        events = still_true(any_site, target.others, target.follower, copy)
    shown = ", ".join(f"{n} x {status}" for status, n in sorted(total.statuses.items()))
    evidence(
        f"fuzzed API, {database}",
        f"{total.requests} requests of {len(SUBJECTS)} subjects: {shown}; 0 x 5xx, 0 undocumented; "
        f"{over} jobs ended meanwhile; {events} events decode, verify and fold to what master and "
        "projections hold, on both databases",
    )


def _over(site: Site) -> int:
    ended = {r.event.job for r in site.events() if isinstance(r.event, AttemptEnded)}
    return len(ended)
