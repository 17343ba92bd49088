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
    site.start()
    site.run("follow", name="follow")
    web = site.web()
    web.json("PATCH", "/v1/policy", POLICY)
    web.json("PUT", "/v1/contacts/bob", {"addresses": [hook.url("bob")]})
    site.agents = [site.agent(f"w{n}", "--rack", "r1") for n, _ in enumerate(USERS)]  # type: ignore[attr-defined]
    site.nodes_ready(len(USERS))
    for user in USERS:
        body = {"owner": user, "ttl_s": 3600}
        secret = web.json("POST", "/v1/tokens", body)["secret"]
        own = Web(site.url, secret)
        own.submit({"argv": ["/bin/sleep", "600"], "name": f"work of {user}"})
        own.close()
    until(lambda: _running(web) == len(USERS), 60, "all jobs run")
    return site


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
