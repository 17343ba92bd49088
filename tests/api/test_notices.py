"""People are told: contacts, notices, and real mails and webhooks about outages."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from ledger.domain.notices import GIVEN_UP_US
from ledger.effects.sender import WORKERS
from ledger.master import outbox
from ledger.master.outbox import Post
from live import Http, Live, live, until
from sinks import Hooks, Mails, hooks, hung, mails

from .acting import placed

BODY = {"reason": "burnt"}


class Posted(NamedTuple):
    """A service, the mail server that its notices go out through, a web server."""

    s: Live
    mail: Mails
    hook: Hooks


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("telling", "outbox"):
        monkeypatch.setattr(f"ledger.master.{part}.LOOK_S", 0.05)


@pytest.fixture
def post() -> Iterator[Posted]:
    """A service that sends notices to servers of the test's own."""
    with mails() as mail, hooks() as hook:
        sent_by = Post(mail=mail.url, mail_domain="example.org", schemes=("mailto", "json"))
        with live(follow=True, post=sent_by) as made:
            until(lambda: made.operator("GET", "/v1/outages").status_code == 200, "the tables")
            yield Posted(made, mail, hook)


def hit(s: Live, node: str, user: str, **job: Any) -> int:
    """Lose a node on which a job of this user runs; the outage."""
    s.node(node, pool=node)
    placed(s, s.user(user).submit(pool=node, **job))
    return lost(s, node)


def lost(s: Live, node: str) -> int:
    """Declare a node dead; the outage."""
    s.operator.ok("POST", f"/v1/nodes/{node}/down", BODY)
    return s.state(lambda c: c.nodes[node].outage)


def notices(s: Live, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = s.operator.ok("GET", "/v1/notices", params=asked)["notices"]
    return found


def sent(s: Live, outage: int, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many notices of an outage were sent; these, the latest first."""

    def look() -> list[dict[str, Any]]:
        found = notices(s, outage=outage, state="sent")
        return found if len(found) >= count else []

    return until(look, f"{count} notices of outage {outage} are sent", 60)


def tried(s: Live, outage: int, tries: int) -> dict[str, Any]:
    """Wait until the only notice of an outage was tried so often; it."""

    def look() -> dict[str, Any]:
        (found,) = notices(s, outage=outage) or [{"tries": -1}]
        return found if found["tries"] >= tries else {}

    return until(look, f"a notice of outage {outage} is tried {tries} times", 60)


def under_way(s: Live) -> int:
    """How many notices are being sent."""
    return int(s.operator.ok("GET", "/v1/inner/notices")["facts"]["under_way"])


def told(s: Live, http: Http, *addresses: str, **more: Any) -> None:
    """Say how one is told."""
    http.ok("PUT", f"/v1/contacts/{http.name}", {"addresses": addresses, **more})


def text(mail: Any) -> str:
    """What a mail says."""
    return str(mail.get_content()).replace("\r\n", "\n")


@pytest.mark.fault("H11")
def test_whoever_is_hit_gets_one_mail_and_one_more_when_the_cause_is_known(post: Posted) -> None:
    s, mail, _ = post
    outage = hit(s, "n1", "ann", name="ann's work")
    assert not mail.came
    s.clock.advance(61)
    (notice,) = sent(s, outage)
    assert (notice["to"], notice["why"], notice["channels"]) == ("ann", "hit", ["mailto"])
    (first,) = mail.to("ann@example.org")
    assert first["Subject"] == f"Outage {outage} hit 1 of your jobs (notice {notice['notice']})"
    assert first["X-Jobledger-Notice"].endswith(f"-{notice['notice']}")
    assert first.get_content_type() == "text/plain"
    assert "Node n1 was lost." in text(first)
    assert "Cause:  not known yet; you are told when it is" in text(first)
    s.operator.ok("POST", f"/v1/outages/{outage}/cause", {"cause": "a fuse blew"})
    s.clock.advance(61)
    sent(s, outage, 2)
    first, second = mail.to("ann@example.org")
    assert "Cause:  a fuse blew" in text(second)
    (user,) = s.operator.ok("GET", f"/v1/outages/{outage}/affected")["users"]
    assert [(n["why"], bool(n["sent_at"])) for n in user["told"]] == [
        ("hit", True),
        ("cause", True),
    ]
    s.clock.advance(7200)
    s.restart()
    s.follow()
    until(lambda: s.operator("GET", "/v1/outages").status_code == 200, "the tables")
    another = hit(s, "n2", "bob")
    s.clock.advance(61)
    sent(s, another)
    assert len(mail.to("ann@example.org")) == 2  # a replay sends nothing


def test_the_next_is_sent_when_one_is_on_record(
    post: Posted, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, mail, _ = post
    users = [f"u{n}" for n in range(outbox.UNDER_WAY + 4)]
    for user in users:
        s.node(user, pool="many")
        placed(s, s.user(user).submit(pool="many"))
    (outage,) = {lost(s, user) for user in users}
    mail.held = True
    s.clock.advance(61)
    until(lambda: mail.waiting == WORKERS, "all processes send")
    monkeypatch.setattr(outbox, "LOOK_S", 3600)
    until(lambda: under_way(s) == outbox.UNDER_WAY, "as many as may be are under way")
    mail.held = False
    assert {notice["to"] for notice in sent(s, outage, len(users))} == set(users)
    assert sorted(whom for whom, _ in mail.came) == sorted([f"{u}@example.org"] for u in users)


def test_what_users_write_cannot_leave_its_line(post: Posted) -> None:
    s, mail, _ = post
    outage = hit(s, "n1", "ann", name="x\u200b\u2060\ufeffy")
    s.clock.advance(61)
    sent(s, outage)
    (got,) = mail.to("ann@example.org")
    assert '"x\\u200b\\u2060\\ufeffy"' in text(got)


def test_a_webhook_gets_what_the_preview_shows(post: Posted) -> None:
    s, mail, hook = post
    ann = s.user("ann")
    told(s, ann, hook.url("ann"), "ann.private@example.org")
    outage = hit(s, "n1", "ann", restartable=True)
    shown = ann.ok("GET", "/v1/notices/preview", params={"outage": outage, "to": "ann"})
    assert not hook.came
    s.clock.advance(61)
    (notice,) = sent(s, outage)
    assert notice["channels"] == ["json", "mailto"]
    (got,) = hook.to("ann")
    number = notice["notice"]
    assert got["title"].replace(f"notice {number}", "a preview") == shown["title"]
    assert got["message"].startswith(shown["body"].rstrip("\n"))
    assert len(mail.to("ann.private@example.org")) == 1
    assert not mail.to("ann@example.org")


@pytest.mark.fault("I8")
def test_a_channel_that_is_down_for_an_hour_gets_it_once_and_nobody_waits(post: Posted) -> None:
    s, mail, hook = post
    told(s, s.user("bob"), hook.url("bob"))
    hook.status = 503
    down = hit(s, "n1", "bob")
    s.clock.advance(61)
    notice = tried(s, down, 1)
    assert (notice["error"], notice["sent_at"]) == ("json: it answered 503", None)
    up = hit(s, "n2", "ann")
    s.clock.advance(61)
    sent(s, up)  # another's goes out meanwhile
    assert len(mail.to("ann@example.org")) == 1
    for _ in range(12):
        s.clock.advance(300)
        began = time.monotonic()
        s.operator.submit(held=True, pool="n1")
        assert time.monotonic() - began < 5
        until(lambda: _nothing_due(s), "what was due is tried", 60)
    hook.status = 200
    s.clock.advance(1800)
    sent(s, down)
    assert len(hook.to("bob")) == 1
    assert hook.refused >= 6


def test_what_cannot_be_sent_for_days_is_given_up_and_said_so(post: Posted) -> None:
    s, _, hook = post
    told(s, s.user("bob"), hook.url("bob"))
    hook.status = 302  # to another place, which is not followed
    outage = hit(s, "n1", "bob")
    s.clock.advance(61)
    tried(s, outage, 1)
    s.clock.advance(GIVEN_UP_US / 1e6)
    until(lambda: notices(s, outage=outage, state="failed"), "it is given up")
    (notice,) = notices(s, outage=outage, state="failed")
    assert (notice["sent_at"], notice["next_at"], notice["tries"]) == (None, None, 2)
    assert notice["error"] == "json: it answered 302"


@pytest.mark.fault("I8")
def test_a_channel_that_hangs_blocks_nobody(post: Posted) -> None:
    s, mail, _ = post
    with hung() as port:
        for i in range(6):
            told(s, s.user(f"u{i}"), f"json://127.0.0.1:{port}/u{i}")
            hit(s, f"n{i}", f"u{i}")
        ann = s.user("ann")
        outage = hit(s, "m1", "ann")
        s.clock.advance(61)
        until(lambda: s.running.outbox.under_way >= 4, "some hang", 60)
        began = time.monotonic()
        for _ in range(10):
            ann.submit(held=True, pool="n1")
        took = (time.monotonic() - began) / 10
        assert took < 1, f"{took:.3f} s a submission"
        sent(s, outage)
        assert len(mail.to("ann@example.org")) == 1
        until(lambda: len(notices(s, state="waiting")) == 6, "the others wait")


def test_desks_are_told_once_that_a_pool_fails_and_of_downtime(post: Posted) -> None:
    s, _, hook = post
    desk = {"addresses": [hook.url("desk")], "desk": True}
    s.operator.ok("PUT", "/v1/contacts/helpdesk", desk)
    s.node("other1", pool="other")
    s.node("other2", pool="other")
    outage = hit(s, "n1", "ann")
    s.clock.advance(61)
    sent(s, outage, 2)
    (got,) = hook.to("desk")
    assert got["title"].startswith(f"Pool n1 fails: outage {outage}")
    now = s.clock.now()
    plan = {
        "since": _time(now + 3600 * 10**6),
        "until": _time(now + 7200 * 10**6),
        "reason": "new switch",
        "planned": True,
        "nodes": ["other1"],
    }
    s.user("carl").submit(pool="other", held=True)
    planned = s.operator.ok("POST", "/v1/outages", plan)["outage"]
    s.clock.advance(61)
    sent(s, planned, 2)
    s.clock.advance(3600)
    until(lambda: s.state(lambda c: c.at) > now, "time passes")
    s.operator.ok("POST", f"/v1/outages/{planned}/close", {"reason": "it is twice as fast"})
    s.clock.advance(61)
    sent(s, planned, 4)
    about = [m for m in hook.to("desk") if "downtime" in m["title"]]
    assert ["is over" in m["title"] for m in about] == [False, True]
    assert "Result: it is twice as fast" in about[1]["message"]


def _nothing_due(s: Live) -> bool:
    return s.state(lambda c: all(n.next_at > s.clock.now() for n in c.notices.values()))


def _time(micros: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(micros // 10**6))


def test_without_a_contact_it_waits_for_one() -> None:
    with hooks() as hook, live(follow=True, post=Post(schemes=("json",))) as s:
        until(lambda: s.operator("GET", "/v1/outages").status_code == 200, "the tables")
        outage = hit(s, "n1", "ann")
        s.clock.advance(61)
        until(lambda: notices(s, outage=outage), "it is due")
        seen = s.operator.ok("GET", "/v1/inner/notices")["facts"]
        assert (seen["waiting"], seen["unreachable"], seen["sent"]) == (1, 1, 0)
        told(s, s.user("ann"), hook.url("ann"))
        sent(s, outage)
        assert len(hook.to("ann")) == 1


def test_a_master_that_may_no_longer_speak_for_the_log_sends_nothing(
    post: Posted, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, mail, _ = post
    monkeypatch.setattr(s.running.outbox, "_fresh", lambda: False)
    outage = hit(s, "n1", "ann")
    s.clock.advance(61)
    until(lambda: notices(s, outage=outage), "it is due")
    for _ in range(3):
        s.call(s.running.outbox.look())
    assert (s.running.outbox.under_way, mail.came) == (0, [])
    monkeypatch.undo()
    sent(s, outage)
    assert len(mail.came) == 1


def test_nobody_is_told_while_the_policy_says_so(post: Posted) -> None:
    s, mail, _ = post
    s.operator.ok("PATCH", "/v1/policy", {"notify": 0})
    quiet = hit(s, "n1", "ann")
    s.clock.advance(3600)
    until(lambda: not s.state(lambda c: c.jobs), "the job is given up")
    s.operator.ok("PATCH", "/v1/policy", {"notify": 1})
    loud = hit(s, "n2", "ann")
    s.clock.advance(61)
    sent(s, loud)
    assert not notices(s, outage=quiet)
    assert len(mail.came) == 1


# ── contacts ─────────────────────────────────────────────────────────────────────────────────────


def test_addresses_are_shown_by_scheme_and_host_only_to_owners_and_operators(post: Posted) -> None:
    s, _, hook = post
    ann, bob, operator = s.user("ann"), s.user("bob"), s.operator
    secret = f"json://ann:Swordfish@127.0.0.1:{hook.port}/Trout?+X-Key=Herring"
    told(s, ann, secret)
    for http in (ann, operator):
        shown = http.ok("GET", "/v1/contacts/ann")
        assert shown["channels"] == [{"scheme": "json", "host": "127.0.0.1", "problem": ""}]
    assert bob("GET", "/v1/contacts/ann").status_code == 403
    assert bob("PUT", "/v1/contacts/ann", {"addresses": ["x@y.org"]}).status_code == 403
    assert bob("DELETE", "/v1/contacts/ann").status_code == 403
    desk = {"addresses": ["x@y.org"], "desk": True}
    assert bob("PUT", "/v1/contacts/bob", desk).status_code == 403
    assert [c["owner"] for c in operator.ok("GET", "/v1/contacts")["contacts"]] == ["ann"]
    events = operator("GET", "/v1/events").text + s.operator("GET", "/v1/inner/notices").text
    for word in ("Swordfish", "Trout", "Herring"):
        assert word not in events
    assert ann.ok("POST", "/v1/contacts/ann/test")["channels"][0]["problem"] == ""
    assert ann("POST", "/v1/contacts/ann/test").status_code == 429
    assert hook.to("Trout")[0]["title"].startswith("A test message")
    assert ann.ok("DELETE", "/v1/contacts/ann")["changed"] is True
    assert ann.ok("GET", "/v1/contacts/ann")["by_default"] is True


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("syslog://", "own machine"),
        ("dbus://x", "own machine"),
        ("file:///etc/passwd", "own machine"),
        ("slack://TokenA/TokenB/TokenC", "users may not use slack"),
        ("jsons://example.org/x", "users may not use jsons"),
        ("json://example.org/x?template=/etc/passwd", "read files"),
        ("mailto://example.org?to=a@b.org&pgpkey=x", "users may not use pgpkey="),
        ("json://example.org/x?redirect=yes", "users may not use redirect="),
        ("json://example.org/x?method=DELETE", "another method"),
        ("json:///x", "no host"),
        ("nonsense", "a mail address, or a URL"),
        ("ann@example.org\u00a0", "a mail address, or a URL"),
        ("json://exa mple.org/", "no spaces"),
    ],
)
def test_what_may_be_no_contact(service: Live, address: str, says: str) -> None:
    service.running.outbox.post = Post(schemes=("mailto", "json"))
    ann = service.user("ann")
    answer = ann("PUT", "/v1/contacts/ann", {"addresses": [address]})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed")
    assert says in answer.json()["detail"]
    assert "passwd" not in answer.text


def test_operators_may_use_other_schemes_but_those_of_the_machine(service: Live) -> None:
    operator = service.operator
    body = {"addresses": ["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"], "desk": True}
    shown = operator.ok("PUT", "/v1/contacts/chat", body)
    assert shown["channels"] == [{"scheme": "slack", "host": "", "problem": ""}]
    for bad in ("syslog://", "slack://T/A/x?template=/etc/passwd", "nosuch://x"):
        body = {"addresses": [bad], "desk": True}
        assert operator("PUT", "/v1/contacts/chat", body).status_code == 422
