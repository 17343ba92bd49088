"""Outages over HTTP: what the service opens by itself, whom it hit, what operators say."""

from datetime import UTC, datetime

from live import Live, until

from .acting import placed


def followed(s: Live) -> None:
    """Keep the tables, and wait until there are any."""
    s.follow()
    until(lambda: s.operator("GET", "/v1/outages").status_code == 200, "the tables are made")


def test_a_node_that_is_lost_is_an_outage_that_hit_its_user_and_nobody_else(fresh: Live) -> None:
    followed(fresh)
    fresh.node("n1", rack="r1")
    alice, bob, operator = fresh.user("alice"), fresh.user("bob"), fresh.operator
    job = alice.submit()
    placed(fresh, job)
    operator.ok("POST", "/v1/nodes/n1/down", {"reason": "burnt"})
    (outage,) = bob.ok("GET", "/v1/outages?open=true")["outages"]
    assert (outage["kind"], outage["rack"], outage["cause"]) == ("nodes", "r1", "declared_dead")
    where = f"/v1/outages/{outage['outage']}"
    assert [m["node"] for m in bob.ok("GET", where)["members"]] == ["n1"]
    for http in (alice, operator):
        (user,) = http.ok("GET", f"{where}/affected")["users"]
        assert (user["user"], user["hit"], user["needs_owner"]) == ("alice", 1, 1)
        assert [(j["job"], j["effect"], j["last"]) for j in user["jobs"]] == [
            (job, "out_of_contact", 1)
        ]
    assert bob.ok("GET", f"{where}/affected")["users"] == []


def test_operators_open_explain_and_close_one(fresh: Live) -> None:
    followed(fresh)
    fresh.node("n1")
    operator = fresh.operator
    now = datetime.fromtimestamp(fresh.clock.now() / 1e6, UTC).isoformat()
    body = {"nodes": ["n1"], "since": now, "reason": "cooling"}
    made = operator("POST", "/v1/outages", body)
    assert made.status_code == 201
    number = made.json()["outage"]
    assert operator("POST", "/v1/outages", body).json() | {"position": 0} == {
        "outage": number,
        "changed": False,
        "position": 0,
    }
    operator.ok("POST", f"/v1/outages/{number}/cause", {"cause": "a pump"})
    operator.ok("POST", f"/v1/outages/{number}/close", {"reason": "it pumps"})
    again = operator("POST", f"/v1/outages/{number}/close", {"reason": "it pumps"})
    assert (again.status_code, again.json()["code"]) == (409, "outage_closed")
    told = operator.ok("GET", f"/v1/outages/{number}")
    assert (told["words"], told["result"], told["open"]) == ("a pump", "it pumps", False)
    assert operator.ok("GET", "/v1/outages?open=true")["outages"] == []
    missing = operator("GET", "/v1/outages/99")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_outage")
    for bad in (
        {"since": "2090-01-01T00:00:00Z"},
        {"nodes": ["n9"]},
        {"since": "2023-01-01T00:00"},
    ):
        assert operator("POST", "/v1/outages", body | bad).status_code in (404, 422)
