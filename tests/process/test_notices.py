"""People are told of a real outage: agents are killed, the master is killed, mails come."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ledger.events import NoticeDue, NoticeSent
from ledger.testing.evidence import Evidence
from sinks import Hooks, Mails, hooks, mails

from .harness import Site, Web
from .processes import until

POLICY = {"job_lease_s": 2, "lease_margin_s": 1, "notice_delay_s": 1}
USERS = ("ann", "bob", "carl")
MANY = 1_000


@pytest.fixture
def mail() -> Iterator[Mails]:
    """A mail server."""
    with mails() as made:
        yield made


@pytest.fixture
def hook() -> Iterator[Hooks]:
    """A web server."""
    with hooks() as made:
        yield made


@pytest.fixture
def begun(any_site: Site, mail: Mails, hook: Hooks) -> Site:
    """A service with a node for each user's job; bob is told by a webhook, the others by mail."""
    site = any_site
    site.settings = {
        "JOBLEDGER_MAIL": mail.url,
        "JOBLEDGER_MAIL_DOMAIN": "example.org",
        "JOBLEDGER_CHANNELS": "json",
    }
    web = served(site)
    web.json("PATCH", "/v1/policy", POLICY)
    web.json("PUT", "/v1/contacts/bob", {"addresses": [hook.url("bob")]})
    site.agents = [site.agent(f"w{n}", "--rack", "r1") for n, _ in enumerate(USERS)]  # type: ignore[attr-defined]
    site.nodes_ready(len(USERS))
    for user in USERS:
        submitted(site, web, user, argv=["/bin/sleep", "600"])
    until(lambda: _running(web) == len(USERS), 60, "all jobs run")
    return site


def served(site: Site) -> Web:
    """Start master and projections."""
    site.start()
    site.run("follow", name="follow")
    return site.web()


def submitted(site: Site, web: Web, user: str, **job: Any) -> None:
    """A job of a user's own."""
    secret = web.json("POST", "/v1/tokens", {"owner": user, "ttl_s": 3600})["secret"]
    own = Web(site.url, secret)
    own.submit({"name": f"work of {user}", **job})
    own.close()


def _running(web: Web) -> int:
    return sum(job["state"] == "running" for job in web.json("GET", "/v1/jobs")["jobs"])


def lose(site: Site) -> None:
    """Kill all agents: what runs there dies with them."""
    for agent in site.agents:  # type: ignore[attr-defined]
        agent.end(signal.SIGKILL)


def notices(site: Site, kind: type[Any]) -> list[Any]:
    return [r.event for r in site.events() if isinstance(r.event, kind)]


def test_whoever_was_hit_by_a_real_outage_gets_one_digest(
    begun: Site, database: str, mail: Mails, hook: Hooks, evidence: Evidence
) -> None:
    began = time.monotonic()
    lose(begun)
    until(lambda: len(mail.came) >= 2 and hook.came, 60, "mails and a webhook")
    took = time.monotonic() - began
    until(lambda: len(notices(begun, NoticeSent)) == len(USERS), 60, "all are sent")
    for user in ("ann", "carl"):
        (got,) = mail.to(f"{user}@example.org")
        assert "hit 1 of your jobs" in got["Subject"]
        text = str(got.get_content())  # type: ignore[attr-defined]
        assert f'"work of {user}"' in text
        assert not any(f"work of {other}" in text for other in USERS if other != user)
    (hooked,) = hook.to("bob")
    assert '"work of bob"' in hooked["message"]
    told = begun.web().json("GET", "/v1/outages/1/affected")["users"]
    assert {u["user"]: bool(u["told"][0]["sent_at"]) for u in told} == dict.fromkeys(USERS, True)
    evidence(
        f"a real outage told, lease 2 s, delay 1 s, {database}",
        f"{took:.1f} s from the agents' death to the last of 2 mails and 1 webhook, one a user",
    )


@pytest.mark.fault("I8")
def test_a_master_killed_between_due_and_sent_leaves_it_to_the_next(
    begun: Site, database: str, mail: Mails, hook: Hooks, evidence: Evidence
) -> None:
    mail.held = True
    lose(begun)
    until(lambda: mail.waiting >= 2 and hook.came, 60, "mails are under way")
    until(lambda: notices(begun, NoticeSent), 60, "what is not held is sent")
    web = begun.web()
    began = time.monotonic()
    for _ in range(20):
        web.submit({"argv": ["/bin/true"], "held": True})
    took = time.monotonic() - began
    assert took < 10  # nobody waits for a mail server
    evidence(
        f"a mail server that hangs, {database}",
        f"{took / 20 * 1000:.0f} ms a submission meanwhile, one after the other; a webhook's "
        "digest goes out",
    )
    assert begun.master is not None
    begun.master.end(signal.SIGKILL)
    assert [e.to for e in notices(begun, NoticeSent)] == ["bob"]
    mail.held = False
    begun.start("--wait")  # on PostgreSQL the dead one keeps its lease for a while
    until(lambda: len(notices(begun, NoticeSent)) == len(USERS), 60, "all are sent")
    due = {e.to: e.notice for e in notices(begun, NoticeDue) if e.why == "hit"}
    for user in ("ann", "carl"):
        got = mail.to(f"{user}@example.org")
        marks = {m["X-Jobledger-Notice"].rpartition("-")[2] for m in got}
        assert marks == {str(due[user])}  # at least once, and always as the same one
    assert len(hook.to("bob")) == 1


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_thousand_users_are_told_while_the_master_answers_others(
    any_site: Site, database: str, mail: Mails, evidence: Evidence
) -> None:
    site, users = any_site, [f"u{n}" for n in range(MANY)]
    site.settings = {"JOBLEDGER_MAIL": mail.url, "JOBLEDGER_MAIL_DOMAIN": "example.org"}
    web = served(site)
    web.json("PATCH", "/v1/policy", {"job_lease_s": 60, "notice_delay_s": 1})
    site.simulated(MANY, "sim")
    site.nodes_ready(MANY)
    for user in users:
        submitted(site, web, user, argv=["sleep", "3600"], pool="sim")
    until(lambda: len(running(site)) == MANY, 120, "all jobs run")
    began, asked = time.monotonic(), list[float]()
    for node in running(site):
        web.json("POST", f"/v1/nodes/{node}/down", {"reason": "a fire"})
    lost = time.monotonic() - began

    def all_told() -> bool:
        before = time.monotonic()
        web.submit({"argv": ["true"], "held": True, "pool": "sim"})
        asked.append(time.monotonic() - before)
        return len(mail.came) >= MANY

    until(all_told, 600, "everybody has a mail")
    took = time.monotonic() - began
    assert sorted(whom for whom, _ in mail.came) == sorted([f"{u}@example.org"] for u in users)
    asked.sort()
    evidence(
        f"{MANY:,} users told of one outage, {database}",
        f"{MANY:,} nodes lost within {lost:.1f} s; {took:.1f} s from the first loss to the last "
        f"mail, one a user; {len(asked):,} submissions meanwhile, one after the other: "
        f"{asked[len(asked) // 2] * 1e3:.0f} ms (median), "
        f"{asked[-1 - len(asked) // 100] * 1e3:.0f} ms (p99)",
    )


def running(site: Site) -> list[str]:
    """The nodes on which jobs run."""
    nodes = site.web().json("GET", "/v1/nodes")["nodes"]
    return [node["node"] for node in nodes if node["jobs"]]
