"""`follow`'s own listener: how the service is, above all while the master is away."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ledger.api.board import BoardSettings, telling
from ledger.commands import Subject
from ledger.domain.errors import BadListener
from ledger.domain.permissions import may
from ledger.follow import Doing
from ledger.projection.discover import discover
from ledger.projection.follower import Follower
from ledger.projection.source import batch
from ledger.projection.store import Store
from ledger.settings import SOCKET, STATUS_SOCKET
from ledger.store import backup
from ledger.store.location import open_log
from live import Http, Live, live, until

ROUTES = {
    "/healthz": "service.see",
    "/readyz": "service.see",
    "/metrics": "service.metrics",
    "/v1/status": "service.see",
}
SUBJECTS = (
    Subject("alice", "user"),
    Subject("olga", "operator"),
    Subject("n1", "node"),
    Subject("n9", "join"),
)
DAY_S = 86_400


class Told:
    """A board beside a service, and ways to ask it."""

    def __init__(self, service: Live, doing: Doing, address: str) -> None:
        self.service, self.doing, self.address = service, doing, address
        transport = httpx2.HTTPTransport(uds=str(service.data / STATUS_SOCKET))
        client = httpx2.Client(transport=transport, base_url="http://board", timeout=20)
        self.operator = Http(client, "operator")

    def by(self, token: str = "") -> Http:
        """A client over TCP with this token, or none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return Http(httpx2.Client(base_url=self.address, headers=headers, timeout=20), "", token)

    def status(self) -> Any:
        """What it says."""
        return self.operator.ok("GET", "/v1/status")

    def metric(self, name: str) -> float:
        """The value of one of its metrics."""
        text = self.operator("GET", "/metrics").text
        (line,) = [x for x in text.splitlines() if x.startswith(f"jobledger_{name} ")]
        return float(line.rpartition(" ")[2])


@contextmanager
def board(service: Live, **more: Any) -> Iterator[Told]:
    """The board of a service, on its socket and on a free port."""
    settings = BoardSettings(
        data=service.data,
        database_url=service.url,
        master=f"unix:{service.data / SOCKET}",
        listen=("127.0.0.1:0",),
        operator_uids=frozenset({os.getuid()}),
        backups=service.data / "backups",
        look_every_s=0.02,
        **more,
    )
    doing = Doing()
    with telling(settings, doing) as where:
        made = Told(service, doing, where[1])
        yield made
        made.operator.client.close()


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """A board beside a service with a node and jobs."""
    with live() as service, board(service) as made:
        service.node("n1", pool="busy")
        service.node("n2", pool="still")
        service.operator.ok("POST", "/v1/nodes/n2/drain", {})
        for _ in range(3):
            service.user("alice").submit(pool="still")
        yield made


def test_each_role_may_what_the_permissions_say(told: Told) -> None:
    for subject in SUBJECTS:
        http = told.by(told.service.token(subject.name, subject.role))
        for path, action in ROUTES.items():
            answer = http("GET", path)
            expected = {200, 503 if path == "/readyz" else 200} if may(subject, action) else {403}
            assert answer.status_code in expected, (subject, path, answer.text)
        assert http.ok("GET", "/healthz")["for"] == subject.name


def test_nobody_gets_in(told: Told) -> None:
    service = told.service
    revoked, expired = service.token("alice"), service.token("alice", ttl_s=1)
    known = told.by(revoked)
    assert known("GET", "/v1/status").status_code == 200
    service.operator.ok("DELETE", f"/v1/tokens/{revoked.split('_')[1]}")
    until(lambda: told.by(expired)("GET", "/healthz").status_code == 401, "it expires")
    codes = {"": "unauthenticated", revoked: "unauthenticated", expired: "token_expired"}
    for token, code in {**codes, "jl_000000000000_" + "x" * 43: "unauthenticated"}.items():
        for path in (*ROUTES, "/v1/jobs", "/nothing"):
            answer = told.by(token)("GET", path)
            assert (answer.status_code, answer.json()["code"]) == (401, code)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_it_answers_nothing_else_and_as_the_master_does(told: Told) -> None:
    for path in ("/v1/jobs", "/v1/whoami", "/v1/openapi.json", "/docs"):
        assert told.operator("GET", path).status_code == 404
    refused = told.operator("POST", "/v1/status", {}, headers={"X-Request-Id": "r7"})
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.json()["request"] == refused.headers["x-request-id"] == "r7"
    assert refused.headers["content-type"] == "application/problem+json"
    answer = told.operator("GET", "/v1/status")
    assert int(answer.headers["ledger-position"]) == answer.json()["position"]
    assert answer.headers["cache-control"] == "no-store"


def test_while_the_master_answers_it_says_what_the_master_says(told: Told) -> None:
    seen = until(lambda: (s := told.status())["pending"] == 3 and s, "the master is heard")
    own = told.service.operator.ok("GET", "/v1/status")
    assert (seen["told_by"], own["told_by"]) == ("follow", "master")
    for name in ("accepting", "starting", "nodes", "in_service", "lost", "running", "epoch"):
        assert seen[name] == own[name], name
    assert (own["accepting"], own["starting"], own["in_service"]) == (True, True, 1)
    assert seen["master_silent_since"] is None
    assert told.metric("master_silent_seconds") == 0


def test_it_says_since_when_the_master_is_silent_and_knows_who_asks(
    database: str, request: Any
) -> None:
    either: Live = request.getfixturevalue("either")
    alice = either.token("alice")
    either.node("n1")
    with board(either) as told:
        until(lambda: told.status()["nodes"] == 1, "the master is heard")
        either.unfollow()
        before = told.status()["counted_at"]
        assert before is not None
        either.end()
        seen = until(lambda: (s := told.status())["master_silent_since"] and s, "it is missed")
        assert (seen["told_by"], seen["well"], seen["accepting"], seen["starting"]) == (
            *("follow", False, False),
            False,
        )
        assert seen["sentence"].startswith("The master does not answer")
        assert before <= seen["counted_at"] <= seen["master_silent_since"]
        assert (seen["nodes"], seen["lost"], seen["pending"]) == (1, 0, 0)
        assert told.by(alice)("GET", "/v1/status").status_code == 200
        assert told.by()("GET", "/v1/status").status_code == 401
        until(lambda: told.metric("master_silent_seconds") > 0, "the silence grows")
        either.start()
        until(lambda: told.status()["master_silent_since"] is None, "it is heard again")
        told.operator.ok("GET", "/healthz")


def test_a_board_that_never_heard_the_master_says_so(fresh: Live) -> None:
    fresh.end()
    with board(fresh) as told:
        seen = told.status()
        assert "since `follow` began" in seen["sentence"]
        assert seen["master_silent_since"] == seen["written_at"]
        assert (seen["nodes"], seen["pending"], seen["epoch"]) == (None, None, 1)


def test_a_log_that_can_not_be_read_is_told_and_no_token_believed(tmp_path: Path) -> None:
    nowhere = Live(tmp_path / "d")
    nowhere.data.mkdir()
    with board(nowhere) as told:
        assert "there is no log" in " ".join(told.status()["warnings"])
        answer = told.by("jl_000000000000_" + "x" * 43)("GET", "/v1/status")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        told.doing.restarts, told.doing.trouble = 3, "no log"
        assert told.metric("follow_restarts_total") == 3


def test_the_lag_of_a_rebuild_is_shown_until_it_is_made_up(fresh: Live) -> None:
    fresh.node("n1")
    alice = fresh.user("alice")
    for _ in range(5):
        alice.submit(held=True)
    projection = discover().projections["jobs"]
    with ExitStack() as stack:
        told = stack.enter_context(board(fresh))
        log = stack.enter_context(closing(open_log(fresh.data, fresh.url, write=False)))
        store = stack.enter_context(closing(Store(projection, fresh.data, fresh.url)))

        def lag() -> tuple[str, int]:
            (one,) = [p for p in told.status()["projections"] if p["projection"] == "jobs"]
            assert told.metric('projection_lag_events{projection="jobs"}') == one["lag_events"]
            return one["state"], one["lag_events"]

        def wrong() -> list[str]:
            """What keeps it from being ready, as far as it is about jobs."""
            answer = told.operator("GET", "/readyz")
            found = answer.json()
            assert answer.status_code == (200 if found["ready"] else 503)
            assert found["ready"] is not bool(found["warnings"])
            return [one for one in found["warnings"] if "projection jobs" in one]

        follower = Follower(projection, store, log)
        assert follower.catch_up().position == log.head().position
        assert lag() == ("up to date", 0)
        assert wrong() == []
        follower.rebuild()
        assert lag() == ("behind", log.head().position)
        assert wrong() == [f"the projection jobs is {log.head().position} events behind"]
        master = fresh.operator.ok("GET", "/readyz")["projections"]
        assert [p["lag_events"] for p in master if p["projection"] == "jobs"] == [lag()[1]]
        follower.step(lambda after: batch(log, after, 2))
        assert 0 < lag()[1] < log.head().position
        shown = fresh.operator.ok("GET", "/v1/inner/projections")["rows"]
        assert [(r["state"], r["lag_events"]) for r in shown if r["projection"] == "jobs"] == [
            lag()
        ]
        follower.catch_up()
        assert lag() == ("up to date", 0)
        assert wrong() == []
        store.stop(follower.checkpoint, 1, "hard to digest")
        assert wrong() == ["the projection jobs does not follow: hard to digest"]
        for one in discover().projections.values():
            each = stack.enter_context(closing(Store(one, fresh.data, fresh.url)))
            Follower(one, each, log).catch_up()
        assert told.operator.ok("GET", "/readyz")["ready"] is True


def test_a_backup_that_is_too_old_is_an_alarm_everywhere(fresh: Live) -> None:
    folder = fresh.data / "backups"
    fresh.service.backups, fresh.service.backup_every_s = folder, DAY_S
    with board(fresh, backup_every_s=DAY_S) as told, fresh.one_client() as operator:
        for status in (told.status(), operator.ok("GET", "/v1/status")):
            assert "no verified backup" in " ".join(status["warnings"])
            assert status["well"] is False
        assert told.metric("backup_late") == 1
        with closing(open_log(fresh.data, fresh.url, write=False)) as log:
            backup.verify(backup.create(log, folder))
        until(lambda: told.status()["backups"]["age_s"] is not None, "it counts")
        assert "backup" not in " ".join(told.status()["warnings"])
        assert (told.metric("backup_late"), told.metric("backup_age_seconds") < 60) == (0, True)


def test_it_listens_beyond_this_machine_only_when_told_to(fresh: Live) -> None:
    for address, says in (("0.0.0.0:0", "clear text"), ("nonsense", "not an address")):
        settings = BoardSettings(fresh.data, None, "unix:/nowhere", listen=(address,))
        with pytest.raises(BadListener, match=says), telling(settings, Doing()):
            pytest.fail("it listens")
