"""The routes about projections: how far they are, and what they are told to leave out."""

from contextlib import closing

from ledger.events import ProjectionSkipped
from ledger.projection.discover import discover
from ledger.projection.store import Store
from live import Live
from projection.keeping import names


def test_all_are_listed_with_their_question_and_size(service: Live) -> None:
    service.node("n1")
    service.user("alice").submit()
    found = service.user("alice").ok("GET", "/v1/projections")
    assert [one["projection"] for one in found["projections"]] == sorted(discover().projections)
    assert all(one["question"].endswith("?") for one in found["projections"])
    assert (found["position"] > 0, found["unused"]) == (True, [])
    with closing(Store(names(version=3), service.data, service.url)) as store:
        store.open()
    (left,) = service.user("alice").ok("GET", "/v1/projections")["unused"]
    assert (left["projection"], left["version"], left["bytes"] > 0) == ("names", 3, True)
    one = service.operator.ok("GET", "/v1/projections/jobs")
    assert {table["table"] for table in one["tables"]} == {"jobs", "attempts", "nodes", "blocks"}
    assert "list_jobs" in one["queries"]
    missing = service.operator("GET", "/v1/projections/nonsense").json()
    assert missing["code"] == "unknown_projection"


def test_a_skip_is_recorded_as_asked(service: Live) -> None:
    head = service.head
    body = {"position": 1, "reason": "an example"}
    service.operator.ok("POST", "/v1/projections/usage/skip", body)
    assert service.since(head) == [ProjectionSkipped.__name__]
    ahead = {"position": 10**9, "reason": "an example"}
    refused = service.operator("POST", "/v1/projections/usage/skip", ahead)
    assert refused.json()["code"] == "malformed"
    nobody = service.operator("POST", "/v1/projections/nonsense/skip", body)
    assert nobody.json()["code"] == "unknown_projection"
    assert service.operator("POST", "/v1/projections/usage/skip", {"position": 1}).is_error
