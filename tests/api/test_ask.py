"""Any query of any projection, by one route: with its own parameters, to those whom it lets ask."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.projection import Projection
from live import Http, Live, until


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """Some jobs of alice's and bob's."""
    service.node("n1")
    service.operator.ok("POST", "/v1/nodes/n1/drain", {})
    for name in ("alice", "bob"):
        service.user(name).ok("POST", "/v1/jobs", [{"argv": ["x"], "name": f"of-{name}"}] * 3)
    until(lambda: service.operator("GET", "/v1/jobs?scope=all").is_success, "tables are made")
    return service


def rows(http: Http, path: str) -> Any:
    return http.ok("GET", f"/v1/ask/{path}")["answer"]


def test_what_can_be_asked_is_listed(world: Live) -> None:
    told = {p["projection"]: p for p in world.user("alice").ok("GET", "/v1/ask")["projections"]}
    assert {"jobs", "outage_impact", "usage"} <= set(told)
    assert [told[name]["asked_by"] for name in ("jobs", "usage")] == ["operators", "anyone"]
    query = next(q for q in told["jobs"]["queries"] if q["query"] == "list_jobs")
    assert query["text"].startswith("A page of jobs by id")
    states = next(p for p in query["parameters"] if p["name"] == "states")
    assert states == {
        "name": "states",
        "takes": "several, each text",
        "several": True,
        "required": False,
        "default": [],
    }


def test_a_query_is_asked_with_its_parameters(world: Live) -> None:
    operator = world.operator
    page, cursor = rows(operator, "jobs/list_jobs?user=bob&limit=2&states=running&states=pending")
    assert ([row["job"] for row in page], cursor) == ([6, 5], "5")
    assert page[0]["name"] == "of-bob"
    (row, attempts) = rows(operator, "jobs/show_job?job=1")
    assert (row["user"], attempts) == ("alice", [])
    assert rows(operator, "jobs/show_job?job=99") is None
    assert rows(operator, "jobs/last") == 6
    answer = operator("GET", "/v1/ask/jobs/last")
    assert answer.json()["position"] == int(answer.headers["ledger-position"]) == world.head


def test_also_as_of_then(world: Live) -> None:
    first = next(r for r in world.events() if getattr(r.event, "first_job", 0) == 1)
    told = world.operator.ok("GET", f"/v1/ask/jobs/last?at_position={first.position}")
    assert (told["answer"], told["position"]) == (3, first.position)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("jobs/list_jobs?limit=many", 422, "malformed"),
        ("jobs/list_jobs?nonsense=1", 422, "malformed"),
        ("jobs/list_jobs?limit=1&limit=2", 422, "malformed"),
        ("jobs/list_jobs?cursor=x", 422, "malformed"),
        ("jobs/list_jobs?data=x", 422, "malformed"),
        ("jobs/show_job", 422, "malformed"),
        ("jobs/show_job?job=99999999999999999999", 422, "malformed"),
        ("jobs/nonsense", 404, "unknown_question"),
        ("nonsense/list_jobs", 404, "unknown_question"),
        ("jobs/last?at_position=x", 422, "malformed"),
    ],
)
def test_what_can_not_be_asked_says_so(world: Live, path: str, status: int, code: str) -> None:
    answer = world.operator("GET", f"/v1/ask/{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_what_is_private_does_not_leak_by_it(world: Live) -> None:
    alice = world.user("alice")
    for query in ("jobs/list_jobs?user=alice", "jobs/show_job?job=1", "jobs/last", "jobs/task"):
        assert alice("GET", f"/v1/ask/{query}").status_code == 403
    for query in ("impact", "losses", "impact?user=alice"):
        assert alice("GET", f"/v1/ask/outage_impact/{query}").status_code == 403
    assert isinstance(rows(alice, "usage/usage?edges=0&edges=9000000000&by=user"), list)


def mine(connection: sa.Connection, *, user: str = "") -> list[str]:
    """Whose this is."""
    return [user or "everybody"]


def total(connection: sa.Connection) -> int:
    """Of everybody."""
    return 7


@pytest.fixture
def private(world: Live) -> Iterator[Live]:
    """A projection in the place of `usage` that tells users of themselves."""
    projections: Any = world.running.history.projections
    before = projections["usage"]
    projections["usage"] = Projection(
        "usage", version=1, tables=(), queries=(mine, total), asked_by="owners"
    )
    yield world
    projections["usage"] = before


def test_a_projection_may_tell_users_of_themselves(private: Live) -> None:
    alice, operator = private.user("alice"), private.operator
    assert rows(alice, "usage/mine?user=alice") == ["alice"]
    for query in ("mine", "mine?user=bob", "mine?user=alice&user=bob", "mine?user=", "total"):
        assert alice("GET", f"/v1/ask/usage/{query}").status_code == 403, query
    assert rows(operator, "usage/mine") == ["everybody"]
    assert rows(operator, "usage/total") == 7


def fails(connection: sa.Connection) -> None:
    """Somebody's mistake."""
    raise KeyError("a mistake")


def huge(connection: sa.Connection) -> str:
    """More than anybody should wait for."""
    return "x" * 9_000_000


def test_somebodys_mistake_is_told_as_one(world: Live) -> None:
    projections: Any = world.running.history.projections
    before = projections["usage"]
    projections["usage"] = Projection("usage", version=1, tables=(), queries=(fails, huge))
    try:
        failed = world.operator("GET", "/v1/ask/usage/fails")
        large = world.operator("GET", "/v1/ask/usage/huge")
    finally:
        projections["usage"] = before
    assert (failed.status_code, failed.json()["code"]) == (500, "internal")
    assert (large.status_code, "ask for less" in large.json()["detail"]) == (422, True)
    assert world.operator.ok("GET", "/v1/ask/usage/span")
