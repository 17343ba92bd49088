"""Every route, asked as everybody: the answers are those of the permissions table.

`ROUTES` says which action of `permissions.TABLE` each route is, and whose object is asked for. A
route that is not in it fails the test.
"""

import contextlib
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from ledger.api.app import create_app
from ledger.commands import SYSTEM, OpenOutage, Subject, Tell
from ledger.domain.permissions import may
from ledger.master.service import Service
from live import Http, Live, until


@dataclass(frozen=True)
class Asked:
    """What a route is: its action, whose object is asked for, how, and what is answered to those
    who may. `own`: everybody's object is his own."""

    action: str
    owner: str = ""
    body: Any = None
    query: str = ""
    answers: frozenset[int] = frozenset({200})
    own: bool = False


def note(action: str) -> Asked:
    return Asked(action, "alice", {"note": "so"})


def chore(*answers: int) -> Asked:
    return Asked("node.manage", "n3", {"reason": "so"}, answers=frozenset(answers or {200}))


QUIET = {"argv": ["/bin/true"], "pool": "quiet"}
SYNC = {"protocol": 1, "spool": "spool-n1", "boot_id": "boot-1", "build": "test", "facts": {}}
TRIED = frozenset({200, 404, 429})
ROUTES: dict[tuple[str, str], Asked] = {
    ("GET", "/healthz"): Asked("service.see"),
    ("GET", "/readyz"): Asked("service.see"),
    ("GET", "/metrics"): Asked("service.metrics"),
    ("GET", "/v1/whoami"): Asked("service.see"),
    ("GET", "/v1/openapi.json"): Asked("service.see"),
    ("GET", "/v1/status"): Asked("service.see"),
    ("GET", "/v1/inner/{part}"): Asked("inner.see"),
    ("GET", "/v1/projections"): Asked("projection.see"),
    ("GET", "/v1/projections/{projection}"): Asked("projection.see"),
    ("POST", "/v1/projections/{projection}/skip"): Asked(
        "projection.skip", body={"position": 1, "reason": "a test"}
    ),
    ("GET", "/v1/log/head"): Asked("log.head"),
    ("GET", "/v1/events"): Asked("log.read"),
    ("GET", "/v1/policy"): Asked("policy.see"),
    ("GET", "/v1/policy/history"): Asked("policy.see"),
    ("PATCH", "/v1/policy"): Asked("policy.set", body={"kill_grace_s": 11}),
    ("POST", "/v1/tokens"): Asked(
        "token.issue", "alice", {"owner": "alice", "ttl_s": 60}, answers=frozenset({201})
    ),
    ("GET", "/v1/tokens"): Asked("token.see", own=True),
    ("DELETE", "/v1/tokens/{token}"): Asked("token.revoke", "alice"),
    ("GET", "/v1/impact"): Asked("impact.see", own=True),
    ("GET", "/v1/usage"): Asked("usage.see"),
    ("GET", "/v1/abuse"): Asked("abuse.see", own=True),
    ("GET", "/v1/abuse/{finding}"): Asked("abuse.see", "alice"),
    ("POST", "/v1/abuse/{finding}/answer"): Asked("abuse.answer", "alice", {"note": "so"}),
    ("GET", "/v1/queue"): Asked("job.see"),
    ("GET", "/v1/demand"): Asked("demand.see"),
    ("GET", "/v1/ask"): Asked("projection.ask", own=True),
    ("GET", "/v1/ask/{projection}/{query}"): Asked("projection.ask", own=True),
    ("GET", "/v1/nodes/{node}/history"): Asked("node.see", "n3"),
    ("GET", "/v1/nodes/{node}/jobs"): Asked("node.see", "n3"),
    ("GET", "/v1/node-failures"): Asked("node.see"),
    ("GET", "/v1/outages"): Asked("outage.see"),
    ("GET", "/v1/outages/{outage}"): Asked("outage.see"),
    ("GET", "/v1/outages/{outage}/affected"): Asked("impact.see", own=True),
    ("POST", "/v1/outages"): Asked(
        "outage.manage",
        body={"since": "2023-01-01T00:00:00Z", "reason": "so"},
        answers=frozenset({201}),
    ),
    ("POST", "/v1/outages/{outage}/cause"): Asked("outage.manage", body={"cause": "so"}),
    ("POST", "/v1/outages/{outage}/close"): Asked("outage.manage", body={"reason": "so"}),
    ("GET", "/v1/contacts"): Asked("contact.see", own=True),
    ("GET", "/v1/contacts/{owner}"): Asked("contact.see", "alice"),
    ("PUT", "/v1/contacts/{owner}"): Asked(
        "contact.set", "alice", {"addresses": ["alice@example.org"]}
    ),
    ("POST", "/v1/contacts/{owner}/test"): Asked("contact.set", "alice", answers=TRIED),
    ("DELETE", "/v1/contacts/{owner}"): Asked("contact.set", "alice"),
    ("GET", "/v1/notices"): Asked("notice.see", own=True),
    ("GET", "/v1/notices/preview"): Asked(
        "notice.see", "alice", query="?outage=1&to=alice&why=announced"
    ),
    ("GET", "/v1/notices/{notice}"): Asked("notice.see", "alice"),
    ("POST", "/v1/jobs"): Asked("submit", body=QUIET, answers=frozenset({201})),
    ("GET", "/v1/jobs"): Asked("job.see"),
    ("GET", "/v1/jobs/{job}"): Asked("job.see", "alice"),
    ("GET", "/v1/jobs/{job}/why"): Asked("job.see", "alice"),
    ("GET", "/v1/jobs/{job}/wait"): Asked("job.see", "alice", query="?timeout_s=0"),
    ("GET", "/v1/jobs/{job}/events"): Asked("job.details", "alice"),
    ("GET", "/v1/jobs/{job}/output"): Asked("job.details", "alice"),
    ("POST", "/v1/jobs/{job}/cancel"): note("job.cancel"),
    ("POST", "/v1/jobs/{job}/hold"): note("job.hold"),
    ("POST", "/v1/jobs/{job}/release"): note("job.release"),
    ("POST", "/v1/jobs/{job}/requeue"): Asked(  # a pending job has nothing to be requeued
        "job.requeue", "alice", {}, answers=frozenset({409})
    ),
    ("PATCH", "/v1/jobs/{job}"): Asked("job.change", "alice", {"restartable": True}),
    ("GET", "/v1/nodes"): Asked("node.see"),
    ("GET", "/v1/nodes/{node}"): Asked("node.see", "n3"),
    ("PATCH", "/v1/nodes/{node}"): Asked("node.manage", "n3", {"rack": "r7"}),
    ("POST", "/v1/nodes/{node}/drain"): chore(),
    ("POST", "/v1/nodes/{node}/resume"): chore(),
    ("POST", "/v1/nodes/{node}/down"): chore(),
    ("POST", "/v1/nodes/{node}/retire"): chore(),
    ("POST", "/v1/agents/{node}/enrol"): Asked("node.enrol", "n9", {}, answers=frozenset({201})),
    ("POST", "/v1/agents/{node}/sync"): Asked("node.speak", "n1", SYNC),
    ("POST", "/v1/agents/{node}/output/{job}/{attempt}"): Asked("node.speak", "n1", "text"),
}
OPERATOR = Subject("olga", "operator")
SUBJECTS = {
    "owner": Subject("alice", "user"),
    "other user": Subject("bob", "user"),
    "operator": Subject("olga", "operator"),
    "the node": Subject("n1", "node"),
    "other node": Subject("n2", "node"),
    "its joiner": Subject("n9", "join"),
    "other joiner": Subject("n8", "join"),
}
NOBODIES = ("no credential", "expired", "revoked", "nonsense")


def routes() -> set[tuple[str, str]]:
    """Every method and path of the application."""
    app = create_app(Service(Path("/nowhere"), None, frozenset()))
    return set(_routes(app.routes))


def _routes(found: Any) -> Iterator[tuple[str, str]]:
    for route in found:
        if isinstance(route, Route) or hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods if method != "HEAD")
        else:
            yield from _routes(route.effective_candidates())


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """A quiet pool in which nothing ever starts, and a job of alice's that runs on n1."""
    service.node("n3", pool="chores")
    service.node("n4", pool="quiet")
    with service.one_client() as operator:
        operator.ok("POST", "/v1/nodes/n4/drain", {})
    agent = service.node("n1", pool="busy")
    service.node("n2", pool="busy2")
    running = service.user("alice").submit(pool="busy")
    until(lambda: service.state(lambda c: c.jobs[running].attempt), "the job is placed")
    assert agent.sync("n1").json()["orders"][0]["job"] == running
    outage = service.ask(OPERATOR, OpenOutage(since=service.clock.now() - 1, reason="one")).reply
    assert outage == 1
    with service.one_client() as operator:
        operator.ok("PUT", "/v1/contacts/alice", {"addresses": ["alice@example.org"]})
    head = service.head
    service.ask(SYSTEM, Tell(outage=1, why="hit", users=("alice",)))
    until(lambda: "NoticeFailed" in service.since(head), "it is seen that nothing of hers was hit")
    service.running_job = running  # type: ignore[attr-defined]
    service.finding = abused(service, "alice")  # type: ignore[attr-defined]
    return service


def abused(world: Live, user: str, pool: str = "quiet") -> int:
    """The number of a finding about a user, who has broken a rule that nobody breaks later."""
    with world.one_client() as operator:
        operator.ok("PATCH", "/v1/policy", {"abuse_submissions_per_min": 1})
        http = world.user(user)
        for _ in range(3):  # a minute may be over meanwhile
            http.submit(pool=pool)
        finding = until(lambda: world.state(lambda c: c.watch.findings), "it is noticed")
        operator.ok("PATCH", "/v1/policy", {"abuse_submissions_per_min": 0})
    return finding


def client_of(world: Live, subject: Subject) -> Http:
    """A client of this subject; join tokens are good once, so each gets a new one."""
    return world.user(subject.name, subject.role)


def object_of(world: Live, path: str) -> str:
    """The path with a fresh object in it."""
    if "{node}" in path:
        name = ROUTES[next(key for key in ROUTES if key[1] == path)].owner
        path = path.replace("{node}", name)
    path = path.replace("{finding}", str(world.finding))  # type: ignore[attr-defined]
    path = path.replace("{notice}", "1").replace("{owner}", "alice")
    path = path.replace("{part}", "queue").replace("{projection}/{query}", "usage/span")
    path = path.replace("{projection}", "jobs")
    if "{outage}" in path:
        command = OpenOutage(since=world.clock.now() - 1, reason=f"of {world.head}")
        path = path.replace("{outage}", str(world.ask(OPERATOR, command).reply))
    if "{token}" in path:
        token = world.token("alice")
        path = path.replace("{token}", token.split("_")[1])
    if "/output/{job}" in path:
        running = world.running_job  # type: ignore[attr-defined]
        path = path.replace("{job}/{attempt}", f"{running}/1")
    if "{job}" in path:
        path = path.replace("{job}", str(world.user("alice").submit(pool="quiet")))
    return path


def prepare(world: Live, path: str) -> None:
    """Bring nodes back into the shape in which the route has something to do."""
    with world.one_client() as operator:
        if path.endswith("/enrol") and "n9" in world.state(lambda c: set(c.nodes)):
            operator.ok("POST", "/v1/nodes/n9/retire", {})
        if "/nodes/{node}" in path and "n3" not in world.state(lambda c: set(c.nodes)):
            operator.ok("POST", "/v1/agents/n3/enrol", {"pool": "chores"})


def ask(http: Http, method: str, path: str, asked: Asked) -> Any:
    if asked.body == "text":
        return http(method, path, content=b"printed")
    body = asked.body
    if body is SYNC:
        return http.sync("n1", has=[])
    return http(method, path + asked.query, body)


def test_every_route_has_its_action() -> None:
    assert routes() == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), list(ROUTES), ids=lambda part: part)
def test_who_may(world: Live, method: str, path: str) -> None:
    asked = ROUTES[(method, path)]
    found: dict[str, Any] = {}
    for name, subject in SUBJECTS.items():
        prepare(world, path)
        http = client_of(world, subject)
        where = object_of(world, path)
        head = world.head
        answer = ask(http, method, where, asked)
        owner = subject.name if asked.own else asked.owner
        allowed = may(subject, asked.action, owner)
        expected = asked.answers if allowed else {403}
        found[name] = (answer.status_code, answer.status_code in expected or answer.text)
        if not answer.is_success:
            assert answer.headers["content-type"] == "application/problem+json"
            assert world.since(head) == [], name
    assert {name: verdict for name, (_, verdict) in found.items() if verdict is not True} == {}


@pytest.fixture(scope="module")
def nobodies(world: Live) -> dict[str, Http]:
    """Clients that are nobody, each in his own way."""
    expired, revoked = world.token("alice", ttl_s=1), world.token("alice")
    world.clock.advance(2)
    with world.one_client() as operator:
        operator.ok("DELETE", f"/v1/tokens/{revoked.split('_')[1]}")
    return {
        "no credential": world.client(),
        "expired": world.client(expired),
        "revoked": world.client(revoked),
        "nonsense": world.client("jl_000000000000_" + "x" * 43),
    }


@pytest.mark.parametrize(("method", "path"), list(ROUTES), ids=lambda part: part)
def test_nobody_gets_in(world: Live, nobodies: dict[str, Http], method: str, path: str) -> None:
    where = object_of(world, path)
    head = world.head
    for name in NOBODIES:
        answer = ask(nobodies[name], method, where, ROUTES[(method, path)])
        assert answer.status_code == 401, name
        assert answer.json()["code"] == (
            "token_expired" if name == "expired" else "unauthenticated"
        )
        assert answer.headers["www-authenticate"] == "Bearer"
    assert world.since(head) == []


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic YTpi", "bearer jl_x", "Bearer \xff", "Bearer a b"]
)
def test_a_strange_credential_is_none(world: Live, header: str) -> None:
    answer = world.client()("GET", "/v1/jobs", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_a_token_is_known_to_its_holder_alone(world: Live) -> None:
    """What is stored of it is its digest: whoever reads the disk can't speak for anybody."""
    secret = world.token("alice").encode()
    files = [path for path in world.data.rglob("*") if path.is_file()]
    assert any(path.name == "log.db" for path in files)
    assert [path for path in files if secret in path.read_bytes()] == []


def test_nobody_is_told_which_paths_there_are(world: Live) -> None:
    anonymous = world.client()
    for path in ("/", "/docs", "/openapi.json", "/v1/nothing", "/v1/jobs/1/nothing"):
        assert anonymous("GET", path).status_code == 401
        assert world.operator("GET", path).status_code == 404


def test_nothing_of_a_body_is_kept_before_the_credential(world: Live) -> None:
    """A quarter of a gigabyte from nobody, and this process has not grown by a tenth of it."""

    def endless() -> Iterator[bytes]:
        piece = b"x" * 65_536
        for _ in range(4096):
            yield piece

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in ("/v1/jobs", "/v1/tokens", "/v1/agents/n1/sync"):
        with contextlib.suppress(OSError, httpx2.TransportError):  # refused and closed meanwhile
            assert world.client()("POST", path, content=endless()).status_code == 401
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 25_000


def test_the_socket_knows_who_is_there(world: Live) -> None:
    told = world.operator.ok("GET", "/v1/whoami")
    assert (told["role"], told["how"]) == ("operator", "Unix socket")
    alice = world.user("alice")
    assert alice.ok("GET", "/v1/whoami") == {"name": "alice", "role": "user", "how": "token"}
    over_socket = world.operator(
        "GET", "/v1/whoami", headers={"Authorization": f"Bearer {alice.token}"}
    )
    assert over_socket.json()["name"] == "alice"


def test_others_details_are_hidden(world: Live) -> None:
    alice, bob, operator = world.user("alice"), world.user("bob"), world.operator
    job = alice.submit(
        pool="quiet",
        name="secret-name",
        argv=["/bin/echo", "secret-arg"],
        comment="secret-note",
        script="#!/bin/sh\necho secret-script\n",
        workdir="/secret-dir",
        output_path="/secret-out",
    )
    for http, sees in ((alice, True), (operator, True), (bob, False)):
        texts = [
            http("GET", f"/v1/jobs/{job}").text,
            http("GET", "/v1/jobs").text,
            http("GET", f"/v1/jobs/{job}/wait?timeout_s=0").text,
            http("GET", f"/v1/jobs/{job}/why").text,
        ]
        assert ("secret" in "".join(texts)) is sees
    assert bob.ok("GET", f"/v1/jobs/{job}")["user"] == "alice"
    named = [http.ok("GET", "/v1/jobs?name=secret-name")["jobs"] for http in (alice, operator, bob)]
    assert [len(jobs) for jobs in named] == [1, 1, 0]


def test_a_user_issues_tokens_for_himself_alone_and_with_no_more_than_he_has(world: Live) -> None:
    alice = world.user("alice")
    for body in (
        {"owner": "bob"},
        {"owner": "alice", "role": "operator"},
        {"owner": "alice", "role": "node"},
        {"owner": "alice", "role": "join"},
    ):
        assert alice("POST", "/v1/tokens", body).status_code == 403
    assert alice("POST", "/v1/tokens", {"owner": "alice", "ttl_s": 0}).status_code == 422
    longer = alice("POST", "/v1/tokens", {"owner": "alice", "ttl_s": 10 * 366 * 86_400})
    assert (longer.status_code, longer.json()["code"]) == (403, "forbidden")
    assert alice("POST", "/v1/tokens", {"owner": "alice", "ttl_s": 1}).status_code == 201
    assert world.operator("POST", "/v1/tokens", {"owner": "system"}).status_code == 422
    listed = alice.ok("GET", "/v1/tokens")["tokens"]
    assert {token["owner"] for token in listed} == {"alice"}
    assert "sha256" not in listed[0]
    assert "secret" not in listed[0]


def test_a_users_name_that_is_a_nodes_gives_no_hold_on_the_node(world: Live) -> None:
    """Accounts and nodes have their names from different places; a token knows its role."""
    namesake = world.user("n1")
    node_tokens = [
        t["token"]
        for t in world.operator.ok("GET", "/v1/tokens")["tokens"]
        if (t["owner"], t["role"]) == ("n1", "node")
    ]
    assert node_tokens
    assert namesake.sync("n1").status_code == 403
    assert namesake("DELETE", f"/v1/tokens/{node_tokens[0]}").status_code == 403
    assert [t["role"] for t in namesake.ok("GET", "/v1/tokens")["tokens"]] == ["user"]
