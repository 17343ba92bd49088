"""The queue as it is, and demand over time: what is told of what was done."""

from functools import partial
from typing import Any

import pytest

from live import Live, until

from .acting import cluster, placed

HOUR_S = 3600


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """Two jobs of ann's wait in `still`, one of them held, one of bob's runs in `busy`; of ann's
    others one was withdrawn and one refused."""
    cluster(service)
    ann, bob = service.user("ann"), service.user("bob")
    ann.submit(pool="still", account="physics", time_limit_s=HOUR_S)
    ann.submit(pool="still", account="physics", time_limit_s=HOUR_S, held=True)
    gone = ann.submit(pool="still", time_limit_s=2 * HOUR_S)
    ann.ok("POST", f"/v1/jobs/{gone}/cancel", {})
    running = bob.submit(pool="busy", time_limit_s=HOUR_S)
    placed(service, running)
    body = {"argv": ["x"], "pool": "busy", "nodes": 5, "time_limit_s": HOUR_S}
    assert ann("POST", "/v1/jobs", body).status_code == 422
    return service


def told(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_the_queue_as_it_is(world: Live) -> None:
    answer = world.user("cleo").ok("GET", "/v1/queue")
    assert told(answer["rows"], "pool", "user", "account", "queued_jobs", "queued_nodes") == [
        ("still", "ann", "physics", 2, 2),
        ("busy", "bob", "", 0, 0),
    ]
    assert told(answer["rows"], "held_jobs", "running_jobs", "nodes_in_use") == [
        (1, 0, 0),
        (0, 1, 1),
    ]
    assert {row["nodes_in_service"] for row in answer["rows"]} == {None}
    whole = answer["whole"]
    assert (whole["queued_jobs"], whole["nodes_in_use"], whole["nodes_in_service"]) == (2, 1, 1)
    assert answer["position"] <= world.head


def test_the_queue_by_pool_and_of_some(world: Live) -> None:
    ann = world.user("ann")
    pools = ann.ok("GET", "/v1/queue?by=pool")["rows"]
    assert told(pools, "pool", "queued_jobs", "nodes_in_service") == [
        ("still", 2, 0),
        ("busy", 0, 1),
    ]
    mine = ann.ok("GET", "/v1/queue?by=&user=bob")
    assert told(mine["rows"], "user", "running_jobs") == [("", 1)]
    assert mine["whole"]["nodes_in_service"] is None
    assert ann.ok("GET", "/v1/queue?by=user&pool=nowhere")["rows"] == []
    assert ann.ok("GET", "/v1/queue?by=user&account=physics")["whole"]["queued_jobs"] == 2
    assert ann("GET", "/v1/queue?by=day").status_code == 422


def test_demand_over_time(world: Live) -> None:
    world.clock.advance(HOUR_S)
    silent = partial(world.state, lambda c: all(n.health == "down" for n in c.nodes.values()))
    until(silent, "the node, of which nothing is heard for an hour, is lost")
    (whole,) = world.user("cleo").ok("GET", "/v1/demand")["rows"]
    assert (whole["asked_jobs"], whole["asked_node_seconds"]) == (4, 5 * HOUR_S)
    assert (whole["withdrawn_jobs"], whole["withdrawn_node_seconds"]) == (1, 2 * HOUR_S)
    assert (whole["started_jobs"], whole["started_node_seconds"]) == (1, HOUR_S)
    assert whole["queued_job_seconds"] > 2 * HOUR_S
    assert HOUR_S < whole["held_node_seconds"] < whole["queued_node_seconds"]
    assert whole["unmet_node_seconds"] > HOUR_S  # the pool `still` has no node in service
    assert (whole["queued_jobs"], whole["held_jobs"], whole["nodes_in_use"]) == (2, 1, 1)
    assert whole["nodes_in_service"] == 0


def test_demand_by_hour_and_whose(world: Live) -> None:
    world.clock.advance(3 * HOUR_S)
    until(lambda: world.refused(0), "the minute of the refused one is over")
    operator = world.operator
    hours = operator.ok("GET", "/v1/demand?by=hour,pool")["rows"]
    still = [row for row in hours if row["pool"] == "still"]
    assert len({row["since"] for row in still}) >= 4
    assert all(row["since"].endswith(":00:00Z") for row in still[1:])
    assert {row["queued_job_seconds"] for row in still[1:-1]} == {2 * HOUR_S}
    assert {row["unmet_node_seconds"] for row in still[1:-1]} == {HOUR_S}
    by_user = operator.ok("GET", "/v1/demand?by=user")["rows"]
    assert told(by_user, "user", "asked_jobs", "unmet_node_seconds") == [
        ("ann", 3, None),
        ("bob", 1, None),
    ]
    (ann,) = operator.ok("GET", "/v1/demand?user=ann")["rows"]
    assert ann | {"user": ""} == by_user[0] | {"user": ""} | _queues(ann)


def _queues(row: dict[str, Any]) -> dict[str, Any]:
    """What has grown a little since."""
    return {name: row[name] for name in row if name.endswith("_seconds") or name == "until"}


def test_a_window_is_whole_quarters(world: Live) -> None:
    ask = world.operator.ok
    since = ask("GET", "/v1/demand")["since"]
    assert since[14:19] in {"00:00", "15:00", "30:00", "45:00"}
    day = since[:10]
    answer = ask("GET", f"/v1/demand?since={day}T00:07:00Z&until={day}T00:08:00Z")
    assert (answer["since"], answer["until"]) == (f"{day}T00:00:00Z", f"{day}T00:15:00Z")
    assert ask("GET", "/v1/demand?until=1990-01-01T00:00:00Z")["rows"] == []
    assert world.operator("GET", "/v1/demand?by=hour&since=1971-01-01T00:00:00Z").status_code == 422


def test_refused_demand_is_demand(fresh: Live) -> None:
    fresh.follow()
    fresh.node("n1", pool="main")
    ann, head = fresh.user("ann"), fresh.head
    until(lambda: fresh.running.refused.due(fresh.clock.now()) == [], "a minute has begun")
    body = {"argv": ["x"], "pool": "main", "nodes": 5, "time_limit_s": HOUR_S}
    assert ann("POST", "/v1/jobs", body).status_code == 422
    fresh.clock.advance(60)
    until(lambda: fresh.refused(head), "the minute's refused demand is recorded")
    (row,) = ann.ok("GET", "/v1/demand?user=ann")["rows"]
    assert (row["refused_jobs"], row["refused_node_seconds"]) == (1, 5 * HOUR_S)
